"""What a worker sends instead of a bare batch: the batch, and where its time went."""

import time
from typing import Any

from torch.utils.data._utils.pin_memory import pin_memory

from lightning_fastdata.trace.work import ChunkTimes


class _PackedMoment:
    """Becomes the moment at which it was pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (time.perf_counter_ns(),)


class Envelope:
    """A batch on its way from where it is made to the loop.

    Args:
        batch: The batch, as the user's ``collate_fn`` gave it.
        times: Where the time of it went; ``None`` where measuring failed.
        problem: Why measuring failed.
        pin_device: The loader's ``pin_memory_device``, if any.
    """

    __slots__ = (
        "batch",
        "number",
        "packed_ns",
        "pin_device",
        "pinned_ns",
        "pinning_ns",
        "problem",
        "times",
    )

    def __init__(
        self, batch: Any, times: ChunkTimes | None, problem: str | None, pin_device: str | None
    ) -> None:
        self.batch, self.times = batch, times
        self.problem, self.pin_device = problem, pin_device
        self.packed_ns: int | None = None
        """When it had been serialised by its worker; ``None`` without one."""
        self.pinning_ns: int | None = None
        """When pinning began; ``None`` where nothing is pinned."""
        self.pinned_ns: int | None = None
        self.number: int | None = None
        """Of its task, in the order in which batches were asked for."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle is written in order, so the moment comes after the batch's own bytes. A queue
        # pickles in a thread of its own: the worker is at its next batch by then. The times go as
        # a bare tuple, since the reader has to look up each class by its name.
        times = None if self.times is None else tuple(self.times)
        return _opened, (self.batch, times, self.problem, self.pin_device, _PackedMoment())

    def pin_memory(self) -> "Envelope":
        """Pin the batch as torch does it; torch calls this in its pin thread."""
        self.pinning_ns = time.perf_counter_ns()
        self.batch = pin_memory(self.batch, self.pin_device)  # type: ignore[no-untyped-call]
        self.pinned_ns = time.perf_counter_ns()
        return self

    @property
    def arrived_ns(self) -> int | None:
        """When the loop could have it.

        Without a pin thread nobody reads a batch before the loop waits for one, however long it has
        been lying there. So this is when it lay there; reading it is a part of taking it.
        """
        if self.pinned_ns is not None:
            return self.pinned_ns
        if self.packed_ns is not None:
            return self.packed_ns
        return None if self.times is None else self.times.ended_ns


def _opened(
    batch: Any,
    times: tuple[Any, ...] | None,
    problem: str | None,
    pin_device: str | None,
    packed_ns: int,
) -> Envelope:
    envelope = Envelope(batch, None if times is None else ChunkTimes(*times), problem, pin_device)
    envelope.packed_ns = packed_ns
    return envelope
