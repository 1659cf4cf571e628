"""Any batch at all, laid into a slot: tensors and arrays as memory, the rest as a pickle.

For batches that are not rows of equal samples: ragged ones, and those of the user's own functions.
A tensor that lies in the slot already stays where it is; others are copied there once.
"""

import io
import pickle
import types
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_fastdata.loader.ring.layout import class_at
from lightning_fastdata.loader.ring.memory import Mapping, aligned, size_of
from lightning_fastdata.loader.ring.rows import MapSize

_SMALL_ARRAY_BYTES = 1024  # guess: less is pickled sooner than it is placed


class Leaf(NamedTuple):
    """One tensor or array of a batch: where it lies in its slot."""

    offset: int
    """Bytes from the slot's beginning."""
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None
    """In elements, where dense memory is not in the order of the dimensions; else ``None``."""
    is_array: bool
    """Whether it is a NumPy array rather than a tensor."""

    @property
    def size(self) -> int:
        """Bytes."""
        return size_of(self.dtype, self.shape)


class PackedTree(NamedTuple):
    """A batch without its tensors, and where those are."""

    pickled: bytes
    leaves: tuple[Leaf, ...]
    size: int
    """Bytes of the slot in use."""


def pack(tree: Any, map_size: MapSize, within: Sequence[Mapping], used: int) -> PackedTree:
    """Lay a batch into a slot.

    Args:
        tree: What was collated.
        map_size: Gives the slot's memory.
        within: Mappings of the slot in which some of the batch may lie already.
        used: Bytes at its beginning that are taken.

    Raises:
        Exception: What pickle raises of a part that can be sent nowhere.
    """
    found: list[Any] = []
    pickled = _dumps(tree, found)
    leaves, moves = [], []
    for value in found:
        leaf = _leaf_within(value, within)
        if leaf is None:
            used = aligned(used)
            leaf = _leaf_at(value, used)
            used += leaf.size
            moves.append((value, leaf))
        leaves.append(leaf)
    mapping = map_size(used)
    for value, leaf in moves:
        place = shaped(
            mapping.tensor(leaf.offset, leaf.dtype, (leaf.size // leaf.dtype.itemsize,)), leaf
        )
        if leaf.is_array:
            np.copyto(place.numpy(), value)
        else:
            place.copy_(value)
    return PackedTree(pickled=pickled, leaves=tuple(leaves), size=used)


def unpack(pickled: bytes, leaves: list[Any]) -> Any:
    """Put a batch together again.

    Args:
        pickled: From ``pack``.
        leaves: A tensor or an array for each leaf, in order.
    """
    return _Unpickler(pickled, leaves).load()


def dumps(value: Any) -> bytes:
    """Pickle something that has no tensors of worth, the main module's classes by their name."""
    return _dumps(value, None)


def loads(pickled: bytes) -> Any:
    """Undo ``dumps``."""
    return unpack(pickled, [])


def shaped(flat: Tensor, leaf: Leaf) -> Tensor:
    """See dense memory as a leaf's shape."""
    if leaf.stride is not None:
        return flat.as_strided(leaf.shape, leaf.stride)
    return flat.view(leaf.shape)


def _dumps(value: Any, found: list[Any] | None) -> bytes:
    file = io.BytesIO()
    _Pickler(file, found).dump(value)
    return file.getvalue()


class _Pickler(pickle.Pickler):
    """Leaves tensors and arrays out, and counts them."""

    def __init__(self, file: io.BytesIO, found: list[Any] | None) -> None:
        super().__init__(file, protocol=5)
        self._found = found
        self._numbers: dict[int, int] = {}

    def persistent_id(self, value: Any) -> Any:
        kind = type(value)
        if kind is Tensor or kind is np.ndarray:
            if self._found is None or not (
                _is_plain(value) if kind is Tensor else _is_large(value)
            ):
                return None
            number = self._numbers.get(id(value))
            if number is None:
                number = self._numbers[id(value)] = len(self._found)
                self._found.append(value)
            return number
        if isinstance(value, (type, types.FunctionType)) and _is_in_main(value):
            # This process may have another main module, but the loop's has the class for sure.
            return ("__main__", value.__qualname__)
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, pickled: bytes, leaves: list[Any]) -> None:
        super().__init__(io.BytesIO(pickled))
        self._leaves = leaves

    def persistent_load(self, key: Any) -> Any:
        return self._leaves[key] if isinstance(key, int) else class_at(*key)


def _is_in_main(value: Any) -> bool:
    return value.__module__ == "__main__" and "<locals>" not in value.__qualname__


def _is_plain(tensor: Tensor) -> bool:
    return (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.requires_grad
        and not tensor.is_quantized
        and not tensor.is_nested
        and not tensor.is_conj()
        and not tensor.is_neg()
    )


def _is_large(array: Any) -> bool:
    return bool(
        array.nbytes >= _SMALL_ARRAY_BYTES
        and array.dtype.kind in "biufc"
        and array.dtype.isnative
        and array.dtype.itemsize <= 16
        and array.flags.c_contiguous
        and array.dtype.str not in _NOT_TORCH
    )


_NOT_TORCH = {np.dtype(np.longdouble).str, np.dtype(np.clongdouble).str}


def _leaf_at(value: Any, offset: int) -> Leaf:
    if isinstance(value, Tensor):
        stride = None if value.is_contiguous() else _dense_stride(value)
        return Leaf(
            offset=offset,
            dtype=value.dtype,
            shape=tuple(value.shape),
            stride=stride,
            is_array=False,
        )
    dtype = torch.from_numpy(np.empty(0, value.dtype)).dtype
    return Leaf(offset=offset, dtype=dtype, shape=value.shape, stride=None, is_array=True)


def _leaf_within(value: Any, within: Sequence[Mapping]) -> Leaf | None:
    """The leaf of a dense tensor that lies in the slot already; ``None`` of any other."""
    if not isinstance(value, Tensor) or not value.numel():
        return None
    for mapping in within:
        offset = value.data_ptr() - mapping.address
        leaf = _leaf_at(value, offset)
        dense = leaf.stride is not None or value.is_contiguous()
        if dense and 0 <= offset <= mapping.size - leaf.size:
            return leaf
    return None


def _dense_stride(tensor: Tensor) -> tuple[int, ...] | None:
    """The strides, if the elements fill their memory without gaps or overlaps."""
    expected = 1
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length != 1 and stride != expected:
            return None
        expected *= length
    return tensor.stride()
