"""What training would wait for with another number of workers: replay, with the cores shared."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lightning_fastdata.plan import EngineName
from lightning_fastdata.tuning.replay import (
    BatchCost,
    Dispatch,
    InlineDispatch,
    RingDispatch,
    Steps,
    TorchDispatch,
    replay,
    scaled,
    service_factor,
)

RING_IN_FLIGHT = 8  # batches; bench_feed: for 2 workers 1.06 times as fast as 4
IN_HAND = 2  # batches in the loop's hands while others are in flight
CLOSE_ENOUGH = 0.02  # of a step: what more workers gain below it is not worth them (guess)


@dataclass(frozen=True, kw_only=True, slots=True)
class Supply:
    """What batches cost to make, by a worker that always has a core."""

    costs: tuple[BatchCost, ...]
    """In the order of an epoch, as many as are known or drawn; one or more."""
    cpu_fraction: float
    """Share of that time (0 to 1) that computes; the rest waits, for storage mostly."""
    is_cut: bool = True
    """Whether several workers may write one batch; ``False``: a ``collate_fn`` of its own."""
    handing_ns: int = 100_000
    """Of a worker's time, to get a chunk and to answer it (package README, 19)."""
    next_ns: int = 0
    """Of the training process's time, to take one batch in."""
    transit_ns: int = 0
    """From a batch's end in a worker to where it can be taken."""
    batch_bytes: int | None = None
    """Of one batch; ``None`` is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What training asks for."""

    steps: Steps
    host_cores: float = 0.0
    """Cores' worth that the training process computes while it does not wait. Near 0 with a GPU
    that does the work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What one number of workers comes to."""

    num_workers: int
    prefetch_batches: int
    stall_fraction: float
    """Share (0 to 1) of the steady state in which training waits."""
    batches_per_s: float | None
    """Batches that training gets; ``None``: too few costs to say."""
    memory_bytes: int | None
    """What batches in flight and in hand take; ``None`` is not known."""


def usual_prefetch(engine: EngineName, num_workers: int) -> int:
    """Batches in flight a worker; few workers get more, so that none waits for the loop to ask."""
    if engine != "ring" or not num_workers:
        return 2
    return max(2, min(4, RING_IN_FLIGHT // num_workers))


def forecast(
    supply: Supply,
    demand: Demand,
    *,
    engine: EngineName,
    num_workers: int,
    cores: float,
    prefetch_batches: int | None = None,
) -> Forecast:
    """Replay training with so many workers.

    Args:
        supply: What batches cost.
        demand: What training does with them.
        engine: Whose dispatch is replayed; with 0 workers it is always the training process.
        num_workers: 0 or more.
        cores: That workers and training process share.
        prefetch_batches: In flight at most; ``None`` is what a plan would have.
    """
    in_flight = num_workers * usual_prefetch(engine, num_workers)
    in_flight = in_flight if prefetch_batches is None else prefetch_batches
    stretch = service_factor(
        num_workers=num_workers,
        cpu_fraction=supply.cpu_fraction,
        cores=cores,
        busy_elsewhere=demand.host_cores,
        needed=_needed(supply, demand),
    )
    costs = [scaled(cost, stretch) for cost in supply.costs] if stretch > 1.0 else supply.costs
    dispatch = _dispatch(supply, engine, num_workers, in_flight)
    played = replay(costs, demand.steps, dispatch, transit_ns=supply.transit_ns)
    settled = min(in_flight, len(costs) // 2)
    return Forecast(
        num_workers=num_workers,
        prefetch_batches=in_flight,
        stall_fraction=played.stall_fraction_after(settled),
        batches_per_s=played.batches_per_s,
        memory_bytes=_memory_bytes(supply, num_workers, in_flight),
    )


def fewest_that_do(
    stall_of: Callable[[int], float], most: int, max_stall_fraction: float, *, least: int = 0
) -> int:
    """Find the fewest workers that keep the stall at or under a limit.

    Where none does, the fewest that come close to the best that can be had.

    Args:
        stall_of: Gives the share of a step (0 to 1) that training waits with so many workers.
        most: The largest number to look at.
        max_stall_fraction: The limit, 0 to 1.
        least: The smallest number to look at.
    """
    stalls = {num_workers: stall_of(num_workers) for num_workers in range(least, most + 1)}
    limit = max(max_stall_fraction, min(stalls.values()) + CLOSE_ENOUGH)
    if min(stalls.values()) <= max_stall_fraction:
        limit = max_stall_fraction
    return next(num_workers for num_workers, stall in stalls.items() if stall <= limit)


def stalls_by_workers(
    supply: Supply, demand: Demand, engine: EngineName, cores: float
) -> Callable[[int], float]:
    """Give the predicted stall for a number of workers, as ``fewest_that_do`` asks for it."""
    forecast_for = partial(forecast, supply, demand, engine=engine, cores=cores)
    return lambda num_workers: forecast_for(num_workers=num_workers).stall_fraction


def _needed(supply: Supply, demand: Demand) -> float:
    """Workers' worth of work that training asks for."""
    work_ns = sum(cost.time_ns for cost in supply.costs) / len(supply.costs)
    steps = demand.steps
    step_ns = sum(steps.host_ns) / len(steps.host_ns)
    if steps.device_ns is not None:
        step_ns = max(step_ns, sum(steps.device_ns) / len(steps.device_ns))
    return work_ns / max(1.0, step_ns)


def _dispatch(supply: Supply, engine: EngineName, num_workers: int, in_flight: int) -> Dispatch:
    if num_workers == 0 or engine == "inline":
        return InlineDispatch()
    if engine == "torch":
        return TorchDispatch(
            num_workers=num_workers,
            prefetch_factor=max(1, in_flight // num_workers),
            next_ns=supply.next_ns,
        )
    return RingDispatch(
        num_workers=num_workers,
        depth=in_flight,
        is_cut=supply.is_cut,
        handing_ns=supply.handing_ns,
        next_ns=supply.next_ns,
    )


def _memory_bytes(supply: Supply, num_workers: int, in_flight: int) -> int | None:
    if supply.batch_bytes is None:
        return None
    return supply.batch_bytes * ((in_flight if num_workers else 0) + IN_HAND)
