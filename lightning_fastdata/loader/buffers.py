"""Host memory for batches, used again once nobody reads it.

Fresh memory costs a page fault every 4 KiB, which makes a large gather slower than torch's
stacking; ``tests/benchmarks/bench_tensors.py`` has the figures.
"""

import math
import warnings
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_SIZES = 32  # guess: tensors of a batch, for a full batch and for an epoch's last one
_LEAST_BYTES = 64 * 1024  # less comes from malloc's heap, which has its pages already
_FREE_BUFFERS = 4  # kept of each size: batch under way, batch in use, and two for a reader who lags


class _Lease:
    """Owns one buffer for as long as any tensor, view or array on it lives."""

    def __init__(self, buffer: npt.NDArray[np.uint8], free: deque[npt.NDArray[np.uint8]]) -> None:
        self.__array_interface__ = buffer.__array_interface__
        self._buffer, self._free = buffer, free

    def __del__(self) -> None:
        # May run in any thread and at any point: appending to a deque takes no lock of ours.
        self._free.append(self._buffer)


class BufferPool:
    """Hands out batch memory and takes it back by itself.

    A tensor from here, its views and its arrays stay valid and unchanged for as long as one of them
    is alive, however long that is. A reader who keeps batches gets new memory for the next ones.
    """

    def __init__(self) -> None:
        self._free: dict[int, deque[npt.NDArray[np.uint8]]] = {}

    def allocate(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Give uninitialised host memory.

        Returns:
            A contiguous CPU tensor; the caller owns it, and its memory returns here when it dies.
        """
        size_bytes = math.prod(shape) * dtype.itemsize
        if size_bytes < _LEAST_BYTES:
            return torch.empty(tuple(shape), dtype=dtype)
        free = self._free.get(size_bytes)
        if free is None:
            if len(self._free) >= _SIZES:  # batches of ever new sizes must not keep them all
                self._free.clear()
            free = self._free[size_bytes] = deque(maxlen=_FREE_BUFFERS)
        try:
            buffer = free.popleft()
        except IndexError:
            buffer = np.empty(size_bytes, np.uint8)
        owned: Any = np.asarray(_Lease(buffer, free))
        return torch.from_numpy(owned).view(dtype).view(tuple(shape))


def can_pin(asked: bool) -> bool:
    """Whether batches that were asked to be page-locked can be; warns where they cannot."""
    if asked and not torch.cuda.is_available():
        warnings.warn(
            "pin_memory=True, but there is no CUDA device to copy to: batches are not pinned. "
            "Leave pin_memory out where there is none.",
            stacklevel=3,
        )
        return False
    return asked


def allocate_pinned(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Give page-locked memory out of torch's own pool, which waits for copies by itself."""
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
