"""Calls that were measured: what each took, and what of it belongs to which sample."""

import statistics
from collections.abc import Iterable
from typing import NamedTuple


class Noted(NamedTuple):
    """What was seen inside of the making of a batch."""

    sample_ns: tuple[int, ...] = ()
    """Each sample's time; empty where they are made at one go."""
    read_bytes: int | None = None
    """From storage; ``None`` is not known."""
    core_wait_ns: int = 0
    """Ready to run, without a free core."""


class Call(NamedTuple):
    """What so many samples at one go cost."""

    rows: int
    """That were wanted, all of which the costs stand for."""
    indices: tuple[int, ...]
    """That were made; the others cannot be."""
    wall_ns: float
    cpu_ns: float
    size_bytes: float
    noted: Noted


def each_sample(cost: Call) -> list[tuple[int, float]]:
    """Index and time of each sample of a call, as far as they are known."""
    if cost.rows == 1 and not cost.noted.sample_ns:
        return [(cost.indices[0], cost.wall_ns)]
    if len(cost.noted.sample_ns) != len(cost.indices):
        return []
    return [
        (index, float(ns)) for index, ns in zip(cost.indices, cost.noted.sample_ns, strict=True)
    ]


def over_ns(cost: Call) -> float:
    """What a call took beyond its samples; of a call with samples that are known one by one."""
    alone_ns = sum(ns for _, ns in each_sample(cost)) * cost.rows / len(cost.indices)
    return max(0.0, cost.wall_ns - alone_ns)


def without_wait(sample_ns: Iterable[int], core_wait_ns: int) -> tuple[int, ...]:
    """Take what samples waited for a core out of their times.

    Which of them waited is not known: the slowest ones, down to the usual time, until all of the
    wait is found.

    Args:
        sample_ns: The time of each sample.
        core_wait_ns: Of all of them together.
    """
    times_ns = list(sample_ns)
    if not times_ns or core_wait_ns <= 0:
        return tuple(times_ns)
    usual_ns = 0 if len(times_ns) == 1 else round(statistics.median(times_ns))
    for place in sorted(range(len(times_ns)), key=lambda each: -times_ns[each]):
        waited_ns = min(core_wait_ns, max(0, times_ns[place] - usual_ns))
        times_ns[place] -= waited_ns
        core_wait_ns -= waited_ns
    return tuple(times_ns)
