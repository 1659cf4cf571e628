"""Who reads a slot: each tensor of a batch holds a lease, and the last one gives the slot back.

Nothing here takes a lock, because leases die wherever the garbage collector happens to run.
"""

import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_fastdata.loader.ring.memory import Mapping, size_of
from lightning_fastdata.loader.ring.pinned import Events, is_capturing, record_events

_NUMPY_TYPES = {
    torch.from_numpy(np.empty(0, name)).dtype: np.dtype(name).str
    for name in ("u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16", "?")
}
"""How NumPy writes the dtypes that it has; others are seen as bytes first."""


class Returned(NamedTuple):
    """A slot whose last reader on the host is gone."""

    slot: Any
    events: Events
    """They stand after its readers on the device."""
    is_ordered: bool
    """Whether the events cover all readers; else one more is needed, recorded by the loop."""


class Loan:
    """One batch's use of its slot, from its delivery to the death of its last tensor.

    Args:
        slot: Given back at the end.
        mapping: The slot's memory.
        returned: Where it is given back; appending is all that is done to it.
        reader: The thread that takes batches: CUDA work that reads them is on its current stream.
    """

    def __init__(self, slot: Any, mapping: Mapping, returned: deque[Returned], reader: int) -> None:
        self._slot, self._mapping, self._returned = slot, mapping, returned
        self._reader, self._process = reader, os.getpid()
        self._events: Events = {}
        self._is_ordered = True

    def tensor(self, offset: int, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
        """A contiguous tensor at ``offset`` bytes of the slot, with storage of its own.

        The memory stays unchanged for as long as the tensor, a view or an array of it is alive.
        """
        size = size_of(dtype, shape)
        if not size:
            return torch.empty(tuple(shape), dtype=dtype)
        address = self._mapping.address + offset
        numpy_type = _NUMPY_TYPES.get(dtype)
        if numpy_type is not None:
            lease: Any = _Lease(self, address, tuple(shape), numpy_type)
            return torch.from_numpy(np.asarray(lease))
        lease = _Lease(self, address, (size,), "|u1")
        return torch.from_numpy(np.asarray(lease)).view(dtype).view(tuple(shape))

    def order_after_readers(self) -> None:
        """Note the CUDA work that may still read a tensor that has just died."""
        if not self._mapping.is_pinned or os.getpid() != self._process:
            return  # a copy out of ordinary memory has read all of it before it returns
        if threading.get_ident() != self._reader or is_capturing():
            self._is_ordered = False
            return
        record_events(self._events)

    def __del__(self) -> None:
        self._returned.append(Returned(self._slot, self._events, self._is_ordered))


class _Lease:
    """Owns a part of a slot for one tensor; NumPy and torch see it as an array."""

    def __init__(self, loan: Loan, address: int, shape: tuple[int, ...], numpy_type: str) -> None:
        self._loan = loan
        self.__array_interface__ = {
            "version": 3,
            "data": (address, False),
            "shape": shape,
            "typestr": numpy_type,
        }

    def __del__(self) -> None:
        self._loan.order_after_readers()
