"""Finding what in a dataset cannot be sent to a fresh interpreter."""

import contextlib
import dis
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from types import CodeType, FunctionType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]  # it ships no types
import numpy as np
import torch

from lightning_fastdata.loader.hazards.lazily import OPEN_LATE
from lightning_fastdata.loader.hazards.parts import (
    HEAD,
    Part,
    is_a,
    items_of,
    nearest_first,
    parts_of,
)

_PICKLED_BY_ITEMS = (list, tuple, dict, set, frozenset)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpicklable:
    """The smallest part of a value that cannot be pickled."""

    path: str
    """How to reach it, such as ``dataset.transform.steps[2]._lock``."""
    kind: str
    """Its class, such as ``_thread.lock``."""
    error: str
    """What pickling it says."""


def find_unpicklable(value: Any, name: str) -> Unpicklable | None:
    """Find the part of a value that cloudpickle cannot pickle.

    It follows what pickle itself would take, object by object: what ``__getstate__`` or
    ``__reduce__`` leaves out is no culprit. Data is not written anywhere, however much there is.

    Args:
        value: A dataset, a ``collate_fn``, a ``batch_transform`` or a ``worker_init_fn``.
        name: What to call it.

    Returns:
        The nearest one. ``None`` if none was found among the first 20,000 objects, with some items
        standing for all of each long list.
    """
    path, current = name, value
    try:
        for path, current in nearest_first(value, name, _pickled_parts):  # noqa: B007  # read below
            pass
    except Exception as error:
        kind = f"{type(current).__module__}.{type(current).__qualname__}"
        return Unpicklable(
            path=path,
            kind=kind.removeprefix("builtins."),
            error=f"{type(error).__name__}: {error}",
        )
    return None


def explain_unpicklable(found: Unpicklable) -> str:
    """Say what cannot be pickled, and what to do."""
    return (
        f"{found.path} (of class {found.kind}) cannot be sent to new processes ({found.error}), "
        "wanted parts that cloudpickle can pickle. Leave it out in __getstate__, or make it in the "
        f"workers. {OPEN_LATE}\n"
    )


class _EnoughError(Exception):
    """So many parts that the rest is taken to be like them."""


class _Sink:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)


class _OneLevel(cloudpickle.Pickler):  # type: ignore[misc]  # untyped, as said above
    """Pickles one object alone, and notes what it would pickle next."""

    def __init__(self, value: Any) -> None:
        super().__init__(_Sink())
        self.next_ones: list[Any] = []
        self._value = value

    def persistent_id(self, part: Any) -> str | None:
        """Have every part but the object itself written as a mere name."""
        if part is self._value:
            return None
        if len(self.next_ones) >= 10 * HEAD:
            raise _EnoughError
        self.next_ones.append(part)
        return "part"


def _pickled_parts(value: Any) -> list[Part]:
    """What pickle takes of a value; raises what pickle raises about the value itself."""
    if type(value) in _PICKLED_BY_ITEMS:
        return list(items_of(value))
    if _is_data(value):
        return []
    pickler = _OneLevel(value)
    with contextlib.suppress(_EnoughError):
        pickler.dump(value)
    taken = pickler.next_ones
    if all(type(part) is str for part in taken):
        return []  # by its module and name
    if type(value) is FunctionType:
        return [*parts_of(value), *_globals_of(value)]
    return list(_labelled(taken, {id(part): label for label, part in parts_of(value)}))


def _is_data(value: Any) -> bool:
    """Whether it is known to be picklable, and may be large."""
    kind: Any = type(value)
    if is_a(value, np.ndarray):
        reduces: Any = np.ndarray.__reduce__
        return kind.__reduce__ is reduces and not value.dtype.hasobject
    if is_a(value, torch.Tensor):
        reduces = torch.Tensor.__reduce_ex__
        return kind.__reduce_ex__ is reduces
    if kind is TextIOWrapper:  # cloudpickle reads all of it
        return not value.closed and not value.isatty() and value.readable()
    return kind in (torch.UntypedStorage, torch.TypedStorage)


def _labelled(taken: Iterable[Any], labels: dict[int, str]) -> Iterator[Part]:
    """Name what was taken as the value names it; a state or a tuple of arguments is opened up."""
    for part in taken:
        if id(part) in labels:
            yield labels[id(part)], part
        elif type(part) is dict:
            for name, item in islice(part.items(), 10 * HEAD):
                yield f".{name}", item
        elif type(part) is tuple:
            yield from _labelled(part[:HEAD], labels)
        elif is_a(part, type):
            yield f".<class {part.__name__}>", part
        else:
            yield ".<part of its pickle>", part


def _globals_of(function: FunctionType) -> Iterator[Part]:
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield f".<global {name!r}>", function.__globals__[name]


def _global_names(code: CodeType) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname.endswith("_GLOBAL"):
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)
