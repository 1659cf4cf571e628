"""Page-locking of slots, so that CUDA copies them at full speed and without waiting."""

import os
from collections import deque
from functools import partial
from typing import Any

import torch

from lightning_fastdata.loader.ring.memory import Mapping

_spare_events: deque[Any] = deque(maxlen=64)  # making one takes 11 microseconds on an H100


def pin(mapping: Mapping) -> str | None:
    """Page-lock a mapping whose pages are there already; CUDA has to be in use.

    Returns:
        ``None``, or why the driver refused.
    """
    error = _runtime().cudaHostRegister(mapping.address, mapping.size, 0)
    if int(error) != 0:
        return f"cudaHostRegister of {mapping.size / 1e6:.3g} MB gave {error}"
    mapping.pinned(partial(_unpin, os.getpid()))
    return None


def _unpin(process: int, address: int) -> None:
    # A forked child has the mapping too, but only its parent has a CUDA context to unpin it in.
    if os.getpid() == process:
        _runtime().cudaHostUnregister(address)


def _runtime() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]  # torch left it untyped


def take_event() -> Any:
    """A CUDA event without timing, used before where there is one."""
    try:
        return _spare_events.popleft()
    except IndexError:
        return torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch left it untyped


def put_event(event: Any) -> None:
    """Keep an event that nobody waits for any more."""
    _spare_events.append(event)
