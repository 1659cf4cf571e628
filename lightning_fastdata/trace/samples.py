"""How many samples a batch holds, where that can be told from outside."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


class SampleCounter:
    """Counts the samples of batches; says ``None`` rather than guess.

    Args:
        batch_size: What the loader was asked for; ``None`` where it does not say.
    """

    def __init__(self, batch_size: int | None) -> None:
        self._batch_size = batch_size
        self._has_seen_full_batch = batch_size is None

    def count(self, batch: Any) -> int | None:
        """Return the first dimension that all tensors of ``batch`` share; ``None`` if in doubt."""
        sizes = {tensor.size(0) for tensor in _tensors(batch)}
        if len(sizes) != 1:
            return None
        (size,) = sizes
        # A list of images, (C, H, W) each, also shares its first dimension: believe a small batch
        # only after a full one.
        self._has_seen_full_batch |= size == self._batch_size
        return size if self._has_seen_full_batch else None


def size_bytes_of(batch: Any) -> int | None:
    """Bytes of the tensors and arrays in a batch; ``None`` where there are none to be seen."""
    try:
        return _bytes_in(batch) or None
    except Exception:  # a user's class may refuse anything; then it is not counted
        return None


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


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        if batch.dim():
            yield batch
    elif isinstance(batch, (tuple, list)):
        for value in batch:
            yield from _tensors(value)
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
