"""What a worker sends instead of a bare batch: the batch, and where its time went."""

import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor
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
        "opened_ns",
        "packed_ns",
        "pin_device",
        "pinned_ns",
        "pinning_ns",
        "problem",
        "reader_free_ns",
        "times",
    )

    def __init__(
        self, batch: Any, times: ChunkTimes | None, problem: str | None, pin_device: str | None
    ) -> None:
        self.batch, self.times = batch, times
        self.problem, self.pin_device = problem, pin_device
        self.packed_ns: int | None = None
        """When it had been serialised by its worker; ``None`` without one."""
        self.opened_ns: int | None = None
        """When the training process had unpickled it."""
        self.pinning_ns: int | None = None
        """When pinning began; ``None`` where nothing is pinned."""
        self.pinned_ns: int | None = None
        self.number: int | None = None
        """Of its task, in the order in which batches were asked for."""
        self.reader_free_ns = 0
        """Since when whoever reads it in the training process had nothing else to do."""

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
        been lying there. So this is when it lay there, plus the time that reading it took.
        """
        if self.pinned_ns is not None:
            return self.pinned_ns
        if self.packed_ns is not None and self.opened_ns is not None:
            reading_since_ns = max(self.packed_ns, self.reader_free_ns)
            return self.packed_ns + max(0, self.opened_ns - reading_since_ns)
        return None if self.times is None else self.times.ended_ns


def _opened(
    batch: Any,
    times: tuple[Any, ...] | None,
    problem: str | None,
    pin_device: str | None,
    packed_ns: int,
) -> Envelope:
    envelope = Envelope(batch, None if times is None else ChunkTimes(*times), problem, pin_device)
    envelope.packed_ns, envelope.opened_ns = packed_ns, time.perf_counter_ns()
    return envelope


def size_bytes_of(batch: Any) -> int | None:
    """Bytes of the tensors and arrays in a batch; ``None`` where there are none to be seen."""
    size = _bytes_in(batch)
    return size or None


def _bytes_in(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_bytes_in(part) for part in value.values())
    if isinstance(value, (tuple, list)):
        return sum(_bytes_in(part) for part in value)
    size = getattr(value, "nbytes", 0)  # NumPy's arrays and what looks like them
    return size if isinstance(size, int) else 0
