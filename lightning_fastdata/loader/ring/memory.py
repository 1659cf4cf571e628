"""The memory of one slot, as one process sees it: an anonymous file, mapped.

The file has no name, so nothing is left of it when its last process is gone, however that ended.
"""

import fcntl
import mmap
import os
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 64  # bytes: a cache line, and more than any dtype asks for


_open: weakref.WeakSet["SlotFile"] = weakref.WeakSet()


class Mapping:
    """A stretch of a slot's file in this process's memory, until its last user drops it.

    Args:
        descriptor: Of the file; it may be closed afterwards.
        size: Bytes, 1 or more and not beyond the file's end.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._unpin: Callable[[int], None] | None = None
        # Not by mmap.mmap, which keeps a descriptor of its own open for each mapping.
        self._memory = torch.UntypedStorage.from_file(f"/proc/self/fd/{descriptor}", True, size)
        self.size = size
        self.address: int = self._memory.data_ptr()

    @property
    def is_pinned(self) -> bool:
        """Whether it is page-locked for CUDA."""
        return self._unpin is not None

    def pinned(self, unpin: Callable[[int], None]) -> None:
        """Note that it is page-locked now; ``unpin`` is called with its address before its end."""
        self._unpin = unpin

    def __del__(self) -> None:
        if self._unpin is not None:
            self._unpin(self.address)

    @cached_property
    def bytes(self) -> Tensor:
        """All of it, ``(size,)`` uint8; keeps the memory mapped."""
        memory: Any = self._memory
        return torch.empty(0, dtype=torch.uint8).set_(memory)

    def tensor(self, offset: int, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
        """A contiguous tensor at ``offset`` bytes; keeps the memory mapped."""
        size = size_of(dtype, shape)
        return self.bytes[offset : offset + size].view(dtype).view(tuple(shape))


class SlotFile:
    """A slot's file, which grows and never shrinks.

    Args:
        descriptor: Of the file, owned from now on.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._mapping: Mapping | None = None
        _open.add(self)

    def mapped(self, size: int) -> Mapping:
        """Map at least ``size`` bytes, growing the file to that where it is smaller."""
        if self._mapping is None or self._mapping.size < size:
            size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
            try:
                os.ftruncate(self.descriptor, size)
            except PermissionError:  # another process has made it larger: it is sealed
                size = os.fstat(self.descriptor).st_size
            self._mapping = Mapping(self.descriptor, size)
        return self._mapping

    def close(self) -> None:
        """Let go of the file; what is mapped stays until its users drop it. Works twice."""
        self._mapping = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def new_file() -> int:
    """Make an empty file that several processes may grow at the same time, and none can shrink.

    Raises:
        OSError: If the system has none to give.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    descriptor = os.memfd_create("lightning_fastdata", flags)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return descriptor


def size_of(dtype: torch.dtype, shape: Sequence[int]) -> int:
    """Bytes of a contiguous tensor."""
    size = dtype.itemsize
    for length in shape:
        size *= length
    return size


def aligned(offset: int) -> int:
    """The first aligned offset from this one on."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _close_inherited() -> None:
    for file in list(_open):  # what a child needs of them it is sent
        file.close()


os.register_at_fork(after_in_child=_close_inherited)
