"""What was found out about a dataset's batches, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

STAYS_IN_MEMORY = 0.5  # of what is free, for files that were read; the rest is other people's
COLD_FROM_STORAGE, COLD = 1.25, 2.0  # times the second reading; the first where bytes were seen


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeFacts:
    """What was measured on a few samples in the training process."""

    samples: int
    """How many samples were read; few on slow storage."""
    batch_wall_ns: int
    """Time one process needs for a batch. High: workers pay off."""
    batch_cpu_ns: int
    """CPU time in it. Far below the wall time: the samples wait for storage, not for a core."""
    batch_bytes: int
    """Memory of the tensors and arrays of one batch. High: handing it between processes costs."""
    sample_ns: tuple[int, ...] = ()
    """Time of each sample that was measured by itself; empty where only whole batches tell."""
    whole_ns: int = 0
    """Of a batch's time, what belongs to no sample: putting them together, mostly."""
    read_bytes: int | None = None
    """What a batch read from storage, not from memory; ``None`` is not known."""
    warm_batch_wall_ns: int | None = None
    """A batch's time when its files were read a moment ago; ``None``: not measured."""
    is_cut: bool = True
    """Whether several workers may write one batch; ``False``: a ``collate_fn`` of its own."""
    length: int | None = None
    """Samples in the dataset; ``None`` is not known."""

    @property
    def blocked_fraction(self) -> float:
        """Share of the time (0 to 1) without computing. High: more readers at a time help."""
        return 1.0 - min(1.0, self.batch_cpu_ns / max(1, self.batch_wall_ns))

    @property
    def is_cold(self) -> bool:
        """Whether what was read first came from storage, and would come faster from memory."""
        if self.warm_batch_wall_ns is None:
            return False
        times = COLD_FROM_STORAGE if self.read_bytes else COLD
        return self.batch_wall_ns > times * self.warm_batch_wall_ns

    def stays_in(self, free_bytes: int | None, batch_size: int) -> bool | None:
        """Say whether all of the dataset's files may stay in memory once they were read.

        Args:
            free_bytes: Memory that is free; ``None`` is not known.
            batch_size: Samples of the batch that these facts are of.

        Returns:
            ``None`` where nothing came from storage, or it is not known.
        """
        if not self.read_bytes or self.length is None or free_bytes is None:
            return None
        return self.read_bytes / batch_size * self.length <= STAYS_IN_MEMORY * free_bytes

    def scaled(self, factor: float) -> "ProbeFacts":
        """Give the facts of a batch that has so many times the samples."""
        read, warm = self.read_bytes, self.warm_batch_wall_ns
        return replace(
            self,
            batch_wall_ns=round(self.batch_wall_ns * factor),
            batch_cpu_ns=round(self.batch_cpu_ns * factor),
            batch_bytes=round(self.batch_bytes * factor),
            whole_ns=round(self.whole_ns * factor),
            read_bytes=None if read is None else round(read * factor),
            warm_batch_wall_ns=None if warm is None else round(warm * factor),
        )


def count_bytes(batch: Any) -> int:
    """Bytes of all tensors, arrays and texts in a nested batch."""
    if isinstance(batch, Tensor):
        return batch.numel() * batch.element_size()
    if isinstance(batch, np.ndarray):
        return int(batch.nbytes)
    if isinstance(batch, (str, bytes)):
        return len(batch)
    if isinstance(batch, Mapping):
        return sum(count_bytes(value) for value in batch.values())
    if isinstance(batch, (list, tuple)):
        return sum(count_bytes(value) for value in batch)
    if is_dataclass(batch):
        return sum(count_bytes(getattr(batch, field.name)) for field in fields(batch))
    return 0
