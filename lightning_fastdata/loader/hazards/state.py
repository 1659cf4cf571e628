"""Seeing that a user changed a dataset, without comparing all of it."""

import datetime
import decimal
import pathlib
import uuid
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any, TypeAlias

import torch

from lightning_fastdata.loader.hazards.parts import HEAD, PLAIN, is_a, length_of, parts_of

_VALUES = PLAIN | {
    *(range, slice, decimal.Decimal, uuid.UUID, torch.device),
    *(pathlib.PosixPath, pathlib.PurePosixPath),
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta),
}
_LONG = 1024  # characters; longer text is not kept, only its ends
_ENDS = 64
_FEWER = 10
MOST_MARKS = 2000  # guess: one takes 2 to 3 microseconds, and a dataset has about two hundred
DEEPEST = 12
# The loader announces epochs to workers itself.
_ANNOUNCED = frozenset({".epoch", "._epoch"})

Mark: TypeAlias = Any
"""What stands for a value: itself if small, its size, or a weak reference."""


@dataclass(frozen=True, slots=True, eq=False)
class StateGlance:
    """How the parts of a loader looked at one moment; equal to a later one if nothing changed.

    Seen are attributes that were set to something else, at any reasonable depth, containers that
    grew or shrank or whose items were replaced, and tensors that were written to. Not seen are
    writes into NumPy arrays, into what has no Python attributes, and into most items of containers
    with more than 100.
    Attributes named ``epoch`` or ``_epoch`` are left out.

    It keeps nothing large alive: objects and tensors are referred to weakly.
    """

    marks: dict[str, Mark]
    """By path, such as ``dataset.transform.size``."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StateGlance) and self.first_change(other) is None

    __hash__ = None  # type: ignore[assignment]  # nobody needs it as a key

    def first_change(self, later: "StateGlance") -> str | None:
        """Name a part that is not what it was, such as ``dataset.size``; ``None`` if all are."""
        for path, mark in later.marks.items():
            if path not in self.marks or not _is_same(self.marks[path], mark):
                return path
        return next((path for path in self.marks if path not in later.marks), None)


def glance_at(parts: Mapping[str, Any]) -> StateGlance:
    """Look at the state of parts of a loader, running no code of theirs.

    Args:
        parts: By name, such as ``{"dataset": dataset, "collate_fn": collate_fn}``.
    """
    marks: dict[str, Mark] = {}
    met: set[int] = set()
    queue = deque((name, part, 0) for name, part in parts.items())
    while queue and len(marks) < MOST_MARKS:
        path, value, depth = queue.popleft()
        try:
            marks[path] = _mark(value)
            is_done = type(value) in _VALUES or id(value) in met or depth == DEEPEST
            if is_done or len(marks) + len(queue) >= MOST_MARKS:
                continue
            met.add(id(value))
            found = list(parts_of(value))
        except Exception:  # another thread is changing it; the next glance sees the rest
            continue
        below = depth + 1
        if (length_of(value) or 0) > HEAD:  # perhaps a million records: a few, from outside
            found, below = found[::_FEWER], DEEPEST
        queue.extend(
            (path + label, part, below) for label, part in found if label not in _ANNOUNCED
        )
    return StateGlance(marks)


def _mark(value: Any) -> Mark:
    kind = type(value)
    if kind in (str, bytes) and len(value) > _LONG:
        return kind.__name__, len(value), id(value), value[:_ENDS], value[-_ENDS:]
    if kind in _VALUES:
        return value
    if kind is MethodType:  # made anew by each look at it
        return _reference(value.__func__)
    if is_a(value, torch.Tensor):
        return _reference(value), _tensor_mark(value)
    length = length_of(value)
    if length is None:
        return _reference(value)
    # An equal container in its place is no change, unless some of the items go unseen. There are no
    # weak references to these.
    return kind.__name__, length, id(value) if length > HEAD else None


def _tensor_mark(tensor: Any) -> Mark:
    try:
        with torch._C.DisableTorchFunctionSubclass():
            # What is shared reaches workers without a new start, and may be a clock for them.
            version = None if tensor.is_shared() else tensor._version
            return tuple(tensor.shape), tensor.data_ptr(), version
    except Exception:  # made in inference mode, or without memory: it is told by itself alone
        return None


def _reference(value: Any) -> Mark:
    try:
        return weakref.ref(value)  # the same reference each time, while the object lives
    except TypeError:
        return type(value).__name__, id(value)


def _is_same(before: Mark, after: Mark) -> bool:
    if before is after:
        return True
    if type(before) is not type(after) or type(before) is weakref.ref:
        return False  # two living references would ask the user's `__eq__`
    if type(before) is tuple:
        return len(before) == len(after) and all(map(_is_same, before, after))
    return bool(before == after)
