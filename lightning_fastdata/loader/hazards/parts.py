"""What a value is made of, seen without running any code of its class."""

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import (
    CellType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, TypeAlias

Part: TypeAlias = tuple[str, Any]
"""What to write after a value's name to name its part, and the part."""

PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, type(...)})
"""Classes whose instances have no parts."""
HEAD = 100  # guess: items looked at of each container; a million paths are all alike
MOST_OBJECTS = 20_000  # guess; ordinary datasets have a few hundred
# Their insides change by themselves (a logger's cache), or are the library's own business.
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
OPAQUE_MODULES = frozenset({"h5py", "lmdb", "logging", "numpy", "pandas", "PIL", "pathlib"})

_classes_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_body_of: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__
_name_of: Callable[[type], str] = type.__dict__["__name__"].__get__
_module_of: Callable[[type], str] = type.__dict__["__module__"].__get__


def classes_of(value: Any) -> tuple[type, ...]:
    """A value's class and all that it is derived from."""
    return _classes_of(type(value))


def is_a(value: Any, kind: type) -> bool:
    """Do what ``isinstance`` does, but believe no ``__class__`` that a class makes up."""
    return kind in _classes_of(type(value))


def full_name(kind: type) -> tuple[str, str]:
    """A class's topmost module, such as ``"torch"``, and its name."""
    return str(_module_of(kind)).split(".")[0], _name_of(kind)


def attributes_of(value: Any) -> dict[str, Any]:
    """What is stored in a value under names: its ``__dict__`` and its ``__slots__``."""
    anatomy = _anatomy(value)
    found: dict[str, Any] = {}
    if anatomy.dict_of is not None:
        stored = anatomy.dict_of(value)
        found.update(stored if is_a(stored, dict) else {})
    for name, slot_of in anatomy.slots:
        with contextlib.suppress(AttributeError):  # declared, and never set
            found[name] = slot_of(value)
    return found


def length_of(value: Any) -> int | None:
    """The number of a container's items; ``None`` of anything else."""
    container = _anatomy(value).container
    return None if container is None else container.__len__(value)


def items_of(value: Any) -> Iterator[Part]:
    """Some items of a container; none of anything else."""
    container = _anatomy(value).container
    if container is dict:
        for key, item in islice(dict.items(value), HEAD):
            yield (f"[{key!r}]" if type(key) in PLAIN else f"[<{type(key).__name__}>]"), item
    elif container is list or container is tuple:
        length = container.__len__(value)
        for place in range(0, length, max(1, -(-length // HEAD))):
            yield f"[{place}]", container.__getitem__(value, place)
    elif container is not None:
        for place, item in enumerate(islice(container.__iter__(value), HEAD)):
            yield (f"[{place}]" if container is deque else f".<item {place}>"), item


def parts_of(value: Any) -> Iterator[Part]:
    """The direct parts of a value: attributes, items, and what a function has bound.

    Args:
        value: Anything. Of long containers, some items stand for all.
    """
    kind = type(value)
    if kind in PLAIN or _anatomy(value).is_opaque:
        return
    if kind is MethodType:
        yield ".__self__", value.__self__
    elif kind is FunctionType:
        yield from _bound_by(value)
    elif is_a(value, functools.partial):
        for name in ("func", "args", "keywords"):
            yield f".{name}", getattr(functools.partial, name).__get__(value)
    for name, part in attributes_of(value).items():
        yield f".{name}", part
    yield from items_of(value)


def parts_at_rest(value: Any) -> list[Part]:
    """The direct parts of a value; none of one that another thread is changing."""
    try:
        return list(parts_of(value))
    except Exception:  # a changed container raises whatever its class likes
        return []


@dataclass(frozen=True, kw_only=True, slots=True)
class _Anatomy:
    """Where the instances of a class keep what they hold."""

    is_opaque: bool
    container: Any
    """The builtin container that it is or is derived from."""
    dict_of: Callable[[Any], Any] | None
    slots: tuple[tuple[str, Callable[[Any], Any]], ...]


def _anatomy(value: Any) -> _Anatomy:
    kind: Any = type(value)  # mypy takes no class for hashable
    return _anatomy_of(kind)


@functools.lru_cache(maxsize=1024)  # of classes, so that no dataset is kept
def _anatomy_of(kind: Any) -> _Anatomy:
    bases = _classes_of(kind)
    dict_of: Callable[[Any], Any] | None = None
    slots: list[tuple[str, Callable[[Any], Any]]] = []
    for base in bases:
        body = _body_of(base)
        own = body.get("__dict__")
        if type(own) is GetSetDescriptorType:
            dict_of = own.__get__
        if "__slots__" in body:
            members = [item for item in body.items() if type(item[1]) is MemberDescriptorType]
            slots += [(name, member.__get__) for name, member in members]
    return _Anatomy(
        is_opaque=type in bases
        or ModuleType in bases
        or any(full_name(base)[0] in OPAQUE_MODULES for base in bases),
        container=next((base for base in bases if base in _CONTAINERS), None),
        dict_of=dict_of,
        slots=tuple(slots),
    )


def _bound_by(function: FunctionType) -> Iterator[Part]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield from _inside(cell, f".<closure {name!r}>")
    for place, default in enumerate(function.__defaults__ or ()):
        yield f".<default {place}>", default
    for name, default in (function.__kwdefaults__ or {}).items():
        yield f".<default {name!r}>", default


def _inside(cell: CellType, label: str) -> Iterator[Part]:
    try:
        yield label, cell.cell_contents
    except ValueError:  # bound to a name that has no value yet
        return


def nearest_first(
    value: Any, name: str, parts: Callable[[Any], Iterable[Part]]
) -> Iterator[tuple[str, Any]]:
    """Go through a value, its parts, their parts and so on, each object once.

    Args:
        value: Where to begin.
        name: What to call it.
        parts: Gives the parts of one of them; what it raises ends the walk.

    Yields:
        The path to an object, and the object. Only after that its parts are asked for.
    """
    met: dict[int, Any] = {id(value): value}
    queue = deque([(name, value)])
    while queue:
        path, current = queue.popleft()
        yield path, current
        if len(met) >= MOST_OBJECTS:
            continue
        for label, part in parts(current):
            if type(part) not in PLAIN and id(part) not in met:
                met[id(part)] = part  # kept, so that no other object gets its id
                queue.append((path + label, part))
