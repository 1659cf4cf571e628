"""Finding what a dataset holds open that forked workers would share."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_fastdata.errors import HazardWarning
from lightning_fastdata.loader.hazards.kinds import kind_of, known_kind_of
from lightning_fastdata.loader.hazards.lazily import OPEN_LATE, OPEN_REMEDY
from lightning_fastdata.loader.hazards.parts import Part, nearest_first, parts_at_rest

_NAMED = 4  # handles in a warning: those beyond are mostly the same thing again


@dataclass(frozen=True, kw_only=True, slots=True)
class Handle:
    """One thing that belongs to the process that opened it."""

    path: str
    """How to reach it, such as ``dataset.files[0]``."""
    kind: str
    hazard: str
    """What forked workers do to it."""
    remedy: str


def find_handles(value: Any, name: str) -> tuple[Handle, ...]:
    """Find open files and connections, held locks, running threads and CUDA tensors in a value.

    Runs no code of the value's classes and never raises. Of a long list some items stand for all.

    Args:
        value: A dataset, a ``collate_fn`` or another part of a loader.
        name: What to call it.

    Returns:
        The nearest first. An unpicklable one is of no harm to workers of a fresh interpreter, as it
        never gets there.
    """
    found: list[Handle] = []
    for path, current in nearest_first(value, name, _parts_but_for_insides):
        kind = kind_of(current)
        if kind is not None:
            found.append(Handle(path=path, kind=kind.name, hazard=kind.hazard, remedy=kind.remedy))
    return tuple(found)


def find_all_handles(parts: Mapping[str, Any]) -> tuple[Handle, ...]:
    """Find the handles of several parts of a loader, by their names."""
    return tuple(handle for name, part in parts.items() for handle in find_handles(part, name))


def describe_handles(handles: Sequence[Handle]) -> str:
    """Say what was found, why it is a hazard, and what to do."""
    lines = [f"  {each.path} ({each.kind}): {each.hazard}" for each in handles[:_NAMED]]
    if len(handles) > _NAMED:
        lines.append(f"  and {len(handles) - _NAMED} more")
    remedies = dict.fromkeys(each.remedy for each in handles)  # each once, as found
    for remedy in remedies:
        lines.append(OPEN_LATE if remedy == OPEN_REMEDY else f"{remedy}.")
    return (
        "forked workers would share what only one process may use, wanted parts that each worker "
        "has for itself:\n" + "\n".join(lines)
    )


def warn_of_handles(handles: Sequence[Handle], *, stacklevel: int = 2) -> None:
    """Warn once of all that was found; of nothing, stay silent."""
    if handles:
        warnings.warn(describe_handles(handles), HazardWarning, stacklevel=stacklevel + 1)


def _parts_but_for_insides(value: Any) -> list[Part]:
    """The parts of what is not known; what an open file is made of is its library's business."""
    return [] if known_kind_of(value) is not None else parts_at_rest(value)
