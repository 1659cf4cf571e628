"""Marks on the device's own clock: made without waiting, read when the device has passed them."""

from typing import Any, Protocol

import torch


class Events(Protocol):
    """Where marks on the device's own clock come from.

    An event is opaque to its holder, hence ``Any``.
    """

    def record(self) -> Any | None:
        """Mark the point the device has been told to reach; ``None`` where that is not possible."""

    def has_passed(self, event: Any) -> bool:
        """Whether the device has reached ``event``; never waits."""

    def wait_for(self, event: Any) -> None:
        """Wait until the device has reached ``event``."""

    def between_ns(self, first: Any, second: Any) -> int:
        """The device's own time from ``first`` to ``second``, both passed."""

    def release(self, event: Any) -> None:
        """Take back ``event``, which nobody will read again."""


class CudaEvents:
    """Timing events on the current stream of one CUDA device, used again and again.

    A new event costs four times as much to record as a used one, hence the pool.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._free: list[torch.cuda.Event] = []

    def record(self) -> torch.cuda.Event | None:
        """Mark the current stream; ``None`` during graph capture: it would join the graph."""
        if torch.cuda.is_current_stream_capturing():
            return None
        event = self._free.pop() if self._free else _new_event()
        event.record(torch.cuda.current_stream(self._device))
        return event

    def has_passed(self, event: torch.cuda.Event) -> bool:
        """Whether the device has reached ``event``; never waits."""
        return bool(event.query())  # type: ignore[no-untyped-call]  # torch

    def wait_for(self, event: torch.cuda.Event) -> None:
        """Wait until the device has reached ``event``."""
        event.synchronize()

    def between_ns(self, first: torch.cuda.Event, second: torch.cuda.Event) -> int:
        """The device's own time between two passed events, to about half a microsecond."""
        return round(float(first.elapsed_time(second)) * 1e6)

    def release(self, event: torch.cuda.Event) -> None:
        """Take back ``event`` for a later mark."""
        self._free.append(event)


def _new_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch
