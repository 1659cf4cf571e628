"""Leaving out what libraries say in every run and nobody who watches the demo can act on."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_CHATTY = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
_EXPECTED = (
    ".*does not have many workers.*",  # which is what the demo is to show
    r"`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # Lightning 2.6 on torch >= 2.13
    "GPU available but not used.*",  # --accelerator cpu
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide Lightning's tips and the warnings that belong to the demo; all others are shown."""
    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    with warnings.catch_warnings():
        for message in _EXPECTED:
            warnings.filterwarnings("ignore", message)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
