"""How many workers: each number is replayed with what was measured, and the fewest that do win."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from lightning_fastdata.machine import most_workers_on
from lightning_fastdata.plan import Candidate, EngineName
from lightning_fastdata.tuning.forecast import (
    THROUGHPUT_LOST,
    Demand,
    Forecast,
    Supply,
    fewest_that_do,
    forecast,
)
from lightning_fastdata.tuning.replay import Steps

MOST_WORKERS = 512  # guess: by then starting them takes seconds, and storage has long been busy
MOST_SHOWN = 16  # candidates, up to which all are shown
NO_STEP_NS = 1  # for a loop that does nothing but take batches


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighed:
    """What came of it."""

    num_workers: int
    finding: str
    """What the number rests on, as half a sentence."""
    candidates: tuple[Candidate, ...]


def most_workers(cores: float, cpu_fraction: float) -> int:
    """The largest number of workers that may help.

    Args:
        cores: That workers and training share.
        cpu_fraction: Share of a worker's time (0 to 1) that computes. Workers that only compute
            gain nothing beyond one a core; those that wait leave their core to others.
    """
    enough = cores / cpu_fraction if cpu_fraction > 0.0 else math.inf
    return max(1, min(MOST_WORKERS, most_workers_on(cores), _up(enough)))


def weigh(
    supply: Supply,
    *,
    engine: EngineName,
    cores: float,
    most: int,
    step_ns: int | None,
    host_cores: float = 0.0,
    max_stall_fraction: float,
) -> Weighed:
    """Find the fewest workers that do, none among them.

    Args:
        supply: What batches cost.
        engine: Of the workers.
        cores: That workers and training share.
        most: The largest number of workers to weigh, 1 or more.
        step_ns: A training step without waiting; ``None``: not known. Then the fewest workers that
            come close to the most batches a second, with a core left to training: once it is seen
            how long steps take, more can be taken.
        host_cores: Cores' worth that the training process computes.
        max_stall_fraction: Share of a step that may be spent waiting, 0 to 1.
    """
    steps = Steps(host_ns=[NO_STEP_NS if step_ns is None else max(NO_STEP_NS, step_ns)])
    demand = Demand(steps=steps, host_cores=host_cores)

    @cache
    def cast(num_workers: int) -> Forecast:
        return forecast(supply, demand, engine=engine, num_workers=num_workers, cores=cores)

    if step_ns is None:
        number, finding = _for_any_step(cast, min(most, max(1, math.floor(cores) - 1)))
    else:
        number, finding = _for_step(cast, most, max_stall_fraction)
    shown = sorted({*_readable(most), max(0, number - 1), number, min(most, number + 1)})
    candidates = tuple(
        _candidate(cast(each), engine, knows_step=step_ns is not None) for each in shown
    )
    return Weighed(num_workers=number, finding=finding, candidates=candidates)


def _for_step(
    cast: Callable[[int], Forecast], most: int, max_stall_fraction: float
) -> tuple[int, str]:
    number = fewest_that_do(lambda each: cast(each).stall_fraction, most, max_stall_fraction)
    stall = cast(number).stall_fraction
    predicted = f"(predicted stall {stall:.1%})"
    if stall <= max_stall_fraction:
        return number, f"{_with(number)} the loader keeps up {predicted}"
    return (
        number,
        f"{_with(number)} it is about as good as with any number up to {most} {predicted}",
    )


def _for_any_step(cast: Callable[[int], Forecast], most: int) -> tuple[int, str]:
    def per_s(num_workers: int) -> float:
        return cast(num_workers).batches_per_s or 0.0

    top_per_s = max(per_s(each) for each in (*_readable(most), most))
    # One at least: a worker makes batches while training computes, however long that takes.
    number = fewest_that_do(
        lambda each: max(0.0, 1.0 - per_s(each) / top_per_s), most, THROUGHPUT_LOST, least=1
    )
    return number, (
        f"{_with(number)} {per_s(number):.3g} batches/s are made, and with up to {most} at most "
        f"{top_per_s:.3g}. "
        "The step's time is not known yet; training shows whether it needs another number"
    )


def _with(num_workers: int) -> str:
    if not num_workers:
        return "without workers"
    return f"with {num_workers} worker{'' if num_workers == 1 else 's'}"


def _readable(most: int) -> list[int]:
    """0 to ``most``, or, where these are many, ever wider apart."""
    if most <= MOST_SHOWN:
        return list(range(most + 1))
    shown = [0, 1, 2, 3, 4]
    while shown[-1] * 1.5 < most:
        shown.append(2 * shown[-2])
    return [*shown, most]


def _candidate(cast: Forecast, engine: EngineName, *, knows_step: bool) -> Candidate:
    return Candidate(
        engine=engine if cast.num_workers else "inline",
        num_workers=cast.num_workers,
        prefetch_batches=cast.prefetch_batches,
        predicted_stall_fraction=cast.stall_fraction if knows_step else None,
        predicted_batches_per_s=cast.batches_per_s,
        memory_bytes=cast.memory_bytes,
    )


def _up(value: float) -> int:
    return MOST_WORKERS if value >= MOST_WORKERS else math.ceil(value)
