"""How much of a wait for a batch training felt: all of it on the host, less on a device.

A host that runs ahead of its device may wait for a batch while the device still has work. Nothing
here waits for the device: what it says is read when it has passed.
"""

from collections import deque
from typing import Any, Protocol

import torch

from lightning_fastdata.trace.events import CudaEvents, Events

SHORT_NS = 200_000  # a shorter wait is not asked about: marking it costs some microseconds
_MOST_OPEN = 1024  # waits that the device has not come to; a host runs ahead by a few


class Exposure(Protocol):
    """Tells stalls from waits."""

    def begin(self) -> None:
        """Note that a batch is about to be waited for."""

    def end(self, wait_ns: int) -> int:
        """Note how long that took; give the stall, in nanoseconds, that is known now.

        It may be that of earlier waits.
        """


class HostExposure:
    """Training stands still for as long as the host waits."""

    def begin(self) -> None:
        """Nothing is to be done."""

    def end(self, wait_ns: int) -> int:
        """Give the wait itself."""
        return wait_ns


class DeviceExposure:
    """Marks on the device's own clock around each wait say how long it had nothing to do.

    Args:
        events: Where the marks come from.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._before: Any | None = None
        self._open: deque[tuple[Any, Any, int]] = deque(maxlen=_MOST_OPEN)

    def begin(self) -> None:
        """Mark where the device is when the wait begins."""
        if self._before is None:  # else the last wait was too short to be asked about
            self._before = self._events.record()
        else:
            self._events.release(self._before)
            self._before = self._events.record()

    def end(self, wait_ns: int) -> int:
        """Mark where it ends, if it was long; give what has become known of earlier ones."""
        before, self._before = self._before, None
        if before is not None and wait_ns < SHORT_NS:
            self._events.release(before)
        elif before is not None:
            after = self._events.record()
            if after is not None:
                self._open.append((before, after, wait_ns))
        return self._known_ns()

    def _known_ns(self) -> int:
        stall_ns = 0
        while self._open and self._events.has_passed(self._open[0][1]):
            before, after, wait_ns = self._open.popleft()
            stall_ns += min(wait_ns, max(0, self._events.between_ns(before, after)))
            self._events.release(before)
            self._events.release(after)
        return stall_ns


def exposure_of(device: torch.device | None) -> Exposure:
    """The one for batches that go to ``device``; ``None`` keeps them on the host."""
    if device is None or device.type != "cuda" or not _has_cuda():
        return HostExposure()
    return DeviceExposure(CudaEvents(device))


def device_of(deliver: Any, *, pin_memory: bool) -> torch.device | None:
    """Where a loader's batches go, as far as that is known; ``None`` is the host.

    Args:
        deliver: The loader's, which may bring them to a device itself.
        pin_memory: Whether they are page-locked, which is done for CUDA only.
    """
    device: torch.device | None = getattr(deliver, "device", None)
    if device is None and pin_memory and _has_cuda():
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _has_cuda() -> bool:
    """Whether CUDA is in use; never brings it up."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # torch left it untyped
