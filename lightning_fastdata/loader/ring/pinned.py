"""Page-locking of slots, so that CUDA copies them at full speed and without waiting."""

import contextlib
import os
from collections import defaultdict, deque
from functools import partial
from typing import Any

import torch

from lightning_fastdata.loader.ring.memory import Mapping

# By device, because an event stays with the first that it was recorded on. They are kept because
# making one takes 11 microseconds on an H100.
_spare_events: defaultdict[int, deque[Any]] = defaultdict(lambda: deque(maxlen=64))


Events = dict[tuple[int, int], Any]
"""CUDA events without timing, by device and stream."""


def pin(mapping: Mapping) -> str | None:
    """Page-lock a mapping whose pages are there already; CUDA has to be in use.

    Returns:
        ``None``, or why the driver refused.
    """
    error = _runtime().cudaHostRegister(mapping.address, mapping.size, 0)
    if int(error) != 0:
        with contextlib.suppress(RuntimeError):  # the next kernel would raise it, so let it be ours
            torch.zeros(1, device="cuda")
        return f"cudaHostRegister of {mapping.size / 1e6:.3g} MB gave {error}"
    mapping.pinned(partial(_unpin, os.getpid()))
    return None


def _unpin(process: int, address: int) -> None:
    # A forked child has the mapping too, but only its parent has a CUDA context to unpin it in.
    if os.getpid() != process:
        return
    for device in devices_in_use():  # copies that are still queued read this memory
        torch.cuda.synchronize(device)
    _runtime().cudaHostUnregister(address)


def devices_in_use() -> list[int]:
    """The CUDA devices that this process has a context on; asking makes none."""
    has_context = torch._C._cuda_hasPrimaryContext  # type: ignore[attr-defined]  # not in its stub
    return [device for device in range(torch.cuda.device_count()) if has_context(device)]


def record_events(events: Events) -> None:
    """Let an event stand after all that is queued now, on the current stream of each device.

    A copy to a device runs on that device's current stream, whichever device is the current one.
    """
    for device in devices_in_use():
        stream = torch.cuda.current_stream(device)
        event = events.get((device, stream.cuda_stream))
        if event is None:
            event = events[device, stream.cuda_stream] = _take_event(device)
        event.record(stream)


def have_passed(events: Events) -> bool:
    """Whether all work before these events is done; asking is not allowed during a capture."""
    if not events:
        return True
    return not is_capturing() and all(event.query() for event in events.values())


def is_capturing() -> bool:
    """Whether the current stream records a CUDA graph, where events cannot be used."""
    return bool(torch.cuda.is_current_stream_capturing())


def _take_event(device: int) -> Any:
    try:
        return _spare_events[device].popleft()
    except IndexError:
        return torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch left it untyped


def put_events(events: Events) -> None:
    """Keep events that nobody waits for any more."""
    for (device, _), event in events.items():
        _spare_events[device].append(event)


def _runtime() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]  # torch left it untyped
