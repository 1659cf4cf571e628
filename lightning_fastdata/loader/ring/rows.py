"""Writing samples into the rows of a slot, in a worker: what default collation does, in place."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from lightning_fastdata.loader.ring.layout import Node, class_at, layout_of
from lightning_fastdata.loader.ring.memory import Mapping

FLUSH_BYTES = 2 * 2**20  # rows are written together: a call for each takes a third longer
FLUSH_ROWS = 64
_KEYS = (str, int, bool, bytes, type(None))  # those whose text says all of them
_STOCK_COLLATION = default_collate.__module__
_DEEPEST = 32  # levels of nesting: Python reads back a text of at most 200 parentheses
_NUMBERS = (int, float, bool)

MapSize = Callable[[int], Mapping]
"""Gives the slot's memory of at least so many bytes; may refuse."""


class NotRowsError(Exception):
    """These samples need real collation, of the whole batch in one process."""


class WrittenRows(NamedTuple):
    """What was written: the tensors are in the slot, the texts are here."""

    layout: str
    texts: list[list[Any]]
    """One list for each column of texts, in order."""


def write_rows(
    samples: Iterable[Any], map_size: MapSize, first_row: int, batch_size: int
) -> WrittenRows:
    """Write samples into consecutive rows of a batch.

    Args:
        samples: One or more; each is written soon after it was made.
        map_size: Gives the slot's memory.
        first_row: The row of the first sample, from 0 on.
        batch_size: Rows of the whole batch, which decides where each column lies.

    Raises:
        NotRowsError: If a sample is not of a plain type, or is unlike the first.
    """
    coming = iter(samples)
    first = next(coming, _END)
    if first is _END:
        raise NotRowsError
    text, kinds = describe(first)
    layout = layout_of(text)
    place = layout.place(batch_size)
    mapping = map_size(place.size)
    columns = [
        _Rows(mapping.tensor(offset, column.dtype, (batch_size, *column.shape)), kind)
        if column.kind == "rows"
        else _Texts()
        for column, offset, kind in zip(layout.columns, place.offsets, kinds, strict=True)
    ]
    put = _putter(first, columns)
    every = max(1, min(FLUSH_ROWS, FLUSH_BYTES * batch_size // max(1, place.size)))
    row, waiting = first_row, 0
    sample = first
    while True:
        put(sample)
        waiting += 1
        sample = next(coming, _END)
        if waiting == every or sample is _END:
            for column in columns:
                column.write(row, row + waiting)
            row, waiting = row + waiting, 0
            if sample is _END:
                break
    texts = [column.texts for column in columns if isinstance(column, _Texts)]
    return WrittenRows(layout=text, texts=texts)


_END: Any = object()


def describe(sample: Any) -> tuple[str, list[Any]]:
    """Describe the batch that samples like this one make, and the type of each leaf.

    Raises:
        NotRowsError: If default collation does more with such samples than lay rows side by side.
    """
    if any(collate.__module__ != _STOCK_COLLATION for collate in default_collate_fn_map.values()):
        raise NotRowsError  # the user has extended it
    kinds: list[Any] = []
    return repr(_node(sample, kinds, _DEEPEST, in_sequence=False)), kinds


def _node(value: Any, kinds: list[Any], deepest: int, *, in_sequence: bool) -> Node:
    kind = type(value)
    if not deepest:
        raise NotRowsError
    if isinstance(value, Tensor):
        return _tensor_node(value, kinds)
    if isinstance(value, (np.ndarray, np.generic)):
        return _array_node(value, kinds)
    if kind in _NUMBERS:
        kinds.append(kind)
        dtype = {int: "int64", float: "float64", bool: "bool"}[kind]
        return ("rows", dtype, (), kind.__name__)
    if kind in (str, bytes):
        kinds.append(kind)
        return ("texts", in_sequence)  # torch collects those of a sequence into a tuple
    if kind in (dict, OrderedDict):
        if not all(type(key) in _KEYS for key in value):
            raise NotRowsError
        items = (
            (key, _node(part, kinds, deepest - 1, in_sequence=False)) for key, part in value.items()
        )
        return (kind.__name__, tuple(items))
    if kind in (list, tuple):
        parts = tuple(_node(part, kinds, deepest - 1, in_sequence=True) for part in value)
        return (kind.__name__, parts)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        _refuse_unfindable(kind)
        parts = tuple(_node(part, kinds, deepest - 1, in_sequence=True) for part in value)
        return ("named", kind.__module__, kind.__qualname__, parts)
    raise NotRowsError


def _tensor_node(value: Tensor, kinds: list[Any]) -> Node:
    plain = (
        value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.requires_grad
        and not value.is_quantized
        and not value.is_nested
    )
    # A subclass may become a plain tensor when it is stacked, as torchvision's pictures do.
    if not plain or (type(value) is not Tensor and type(torch.stack([value])) is not Tensor):
        raise NotRowsError
    return _rows_node(value, value.dtype, kinds)


def _array_node(value: Any, kinds: list[Any]) -> Node:
    if value.dtype.kind not in "biufc" or not value.dtype.isnative:
        raise NotRowsError
    alike = [value] if isinstance(value, np.generic) else np.empty(0, value.dtype)
    try:
        dtype = torch.as_tensor(alike).dtype
    except TypeError as error:  # a dtype that torch does not have
        raise NotRowsError from error
    return _rows_node(value, dtype, kinds)


def _rows_node(value: Any, dtype: torch.dtype, kinds: list[Any]) -> Node:
    kind = type(value)
    kinds.append(kind)
    named = f"{kind.__module__}.{kind.__qualname__}"
    return ("rows", str(dtype).removeprefix("torch."), tuple(value.shape), named)


def _refuse_unfindable(kind: type) -> None:
    if "<locals>" in kind.__qualname__:
        raise NotRowsError
    if kind.__module__ == "__main__":  # the loop's process has it, though this one may not
        return
    try:
        found = class_at(kind.__module__, kind.__qualname__)
    except (KeyError, AttributeError) as error:
        raise NotRowsError from error
    if found is not kind:
        raise NotRowsError


class _Rows:
    """A column of tensors, arrays or numbers: collects some, then writes them at one go."""

    def __init__(self, rows: Tensor, kind: Any) -> None:
        self._rows, self._kind, self._waiting = rows, kind, list[Any]()
        self.put = self._waiting.append
        self._is_tensor = issubclass(kind, Tensor)
        self._is_array = issubclass(kind, np.ndarray)
        self._shape = rows.shape[1:]
        self._dtype = rows.dtype
        self._numpy: Any = rows.numpy() if self._is_array else None

    def write(self, start: int, stop: int) -> None:
        waiting, kind = self._waiting, self._kind
        for value in waiting:
            if type(value) is not kind:
                raise NotRowsError
        if self._is_tensor:
            self._write_tensors(start, stop)
        elif self._is_array:
            self._write_arrays(start)
        else:
            self._write_numbers(start, stop)
        waiting.clear()

    def _write_tensors(self, start: int, stop: int) -> None:
        waiting, dtype = self._waiting, self._dtype
        for value in waiting:
            if value.dtype is not dtype:
                raise NotRowsError
        if waiting[0].shape != self._shape:
            raise NotRowsError
        if self._kind is not Tensor:
            waiting = [value.as_subclass(Tensor) for value in waiting]
        try:
            torch.stack(waiting, out=self._rows[start:stop])
        except RuntimeError as error:  # unlike the first in shape, device or layout
            raise NotRowsError from error

    def _write_arrays(self, start: int) -> None:
        rows, shape = self._numpy, tuple(self._shape)
        for row, value in enumerate(self._waiting, start):
            if value.shape != shape or value.dtype != rows.dtype:
                raise NotRowsError
            if min(value.strides, default=0) < 0:  # torch has no such tensors, and says so
                raise NotRowsError
            rows[row] = value

    def _write_numbers(self, start: int, stop: int) -> None:
        numbers: Any = self._waiting
        try:
            made = torch.as_tensor(numbers, dtype=torch.float64 if self._kind is float else None)
        except (RuntimeError, TypeError, OverflowError, ValueError) as error:
            raise NotRowsError from error
        if made.dtype is not self._dtype:
            raise NotRowsError
        self._rows[start:stop] = made


class _Texts:
    """A column of strings or bytes, which go with the message."""

    def __init__(self) -> None:
        self.texts: list[Any] = []
        self.put = self.texts.append

    def write(self, start: int, stop: int) -> None:
        for text in self.texts[start - stop :]:
            if type(text) not in (str, bytes):
                raise NotRowsError


def _putter(first: Any, columns: list[Any]) -> Callable[[Any], None]:
    """A function that hands the leaves of a sample like ``first`` to their columns."""
    coming = iter(columns)

    def putter(value: Any) -> Callable[[Any], None]:
        if isinstance(value, dict):
            return _dict_putter(value, [(key, putter(part)) for key, part in value.items()])
        if isinstance(value, (list, tuple)):
            return _sequence_putter(value, [putter(part) for part in value])
        put: Callable[[Any], None] = next(coming).put
        return put

    return putter(first)


def _dict_putter(
    first: dict[Any, Any], parts: list[tuple[Any, Callable[[Any], None]]]
) -> Callable[[Any], None]:
    kind, keys = type(first), list(first)

    def put(value: Any) -> None:
        if type(value) is not kind or list(value) != keys:
            raise NotRowsError
        for key, part in parts:
            part(value[key])

    return put


def _sequence_putter(first: Any, parts: list[Callable[[Any], None]]) -> Callable[[Any], None]:
    kind, length = type(first), len(parts)

    def put(value: Any) -> None:
        if type(value) is not kind or len(value) != length:
            raise NotRowsError
        for part, item in zip(parts, value):  # noqa: B905  # of equal length, on the hot path
            part(item)

    return put
