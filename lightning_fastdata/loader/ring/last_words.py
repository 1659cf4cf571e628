"""Where a worker is stuck: its Python stacks, written by the worker itself as it dies.

Python's own fault handler does that in a signal handler of C, so it works while the worker sleeps,
waits for a lock or loops inside a C library; and what it wrote is whole, because the same signal
ends the worker afterwards.
"""

import faulthandler
import os
import signal
from pathlib import Path
from typing import BinaryIO

_SIGNAL = signal.SIGRTMAX - 3  # real-time signals mean nothing by themselves
_OWN_CODE = f'"{Path(__file__).parents[2]}'  # the package's folder, as a stack names its files
_MOST_BYTES = 16 * 1024  # of a report; deep stacks are cut


class LastWords:
    """A file without a name that one worker writes its stacks to; made before the fork."""

    def __init__(self) -> None:
        self._file: BinaryIO = open(os.memfd_create("lightning_fastdata_stacks"), "w+b")  # noqa: SIM115  # closed by close()

    def listen(self) -> None:
        """In the worker: write all stacks and end, when asked; and when it crashes by itself."""
        signal.signal(_SIGNAL, signal.SIG_DFL)
        faulthandler.disable()  # a library may have taken its signals: only then it takes them back
        faulthandler.register(_SIGNAL, file=self._file, all_threads=True, chain=True)
        faulthandler.enable(file=self._file, all_threads=True)

    def ask(self, pid: int) -> None:
        """In the nursery: ask a worker for its stacks, which ends it, stopped or not."""
        os.kill(pid, _SIGNAL)
        os.kill(pid, signal.SIGCONT)

    def read(self) -> str:
        """In the nursery: what the worker wrote; empty where it could not, or was not asked."""
        written = os.pread(self._file.fileno(), _MOST_BYTES, 0).decode(errors="replace")
        return "\n".join(_of_the_user(block) for block in written.strip().split("\n\n"))

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        self._file.close()


def _of_the_user(block: str) -> str:
    """One thread's stack without the frames below the dataset's own."""
    lines = [line for line in block.splitlines() if not line.startswith("Extension modules")]
    ours = next((k for k, line in enumerate(lines) if _OWN_CODE in line), len(lines))
    called = next((k for k, line in enumerate(lines) if line.startswith("  File")), ours)
    return "\n".join(lines[:ours] if called < ours else lines)
