"""``python -m lightning_fastdata.cli``, where the console script is not on the path."""

import sys

from lightning_fastdata.cli import main

if __name__ == "__main__":  # workers that are spawned import this file again
    sys.exit(main())
