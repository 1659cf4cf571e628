"""What training would wait for with another number of workers: replay, with the cores shared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

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

RING_IN_FLIGHT = 16  # batches; bench_feed, bench_tuner: up to 4 workers do better with 4 each
IN_HAND = 2  # batches in the loop's hands while others are in flight
CLOSE_ENOUGH = 0.02  # of a step: what more workers gain below it is not worth them (guess)
THROUGHPUT_LOST = 0.05  # of the most batches a second, for fewer workers (guess)
FULL_TABLE = 16  # numbers of workers that are all looked at; with more of them, some are (guess)
MOST_PIECES = 6_000  # chunks that are replayed, where as few settle: about 15 ms
LEAST_BATCHES = 48  # that are replayed in any case (guess)
ROUNDS = 3  # through all batches in flight, until queues that filled at the start are drained


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
    handover_cpu_ns: int = 0
    """On a core, of the training process and the nursery, for one batch that workers made."""


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
    pieces = _pieces(supply, engine, num_workers)
    costs = _enough(supply.costs, pieces, in_flight)
    work_ns = sum(cost.time_ns for cost in costs) / len(costs) + pieces * supply.handing_ns
    stretch = service_factor(
        num_workers=num_workers,
        cpu_fraction=supply.cpu_fraction,
        cores=cores,
        busy_elsewhere=_busy_elsewhere(supply, demand, work_ns, num_workers, cores),
        needed=work_ns / max(1.0, _step_ns(demand)),
    )
    if stretch > 1.0:
        costs = [scaled(cost, stretch) for cost in costs]
        supply = replace(supply, handing_ns=round(supply.handing_ns * stretch))
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

    Where none does, the fewest that come close to the best that can be had. Of many numbers only
    some are looked at, as if the stall fell with every worker up to some number, and rose from
    there on.

    Args:
        stall_of: Gives the share of a step (0 to 1) that training waits with so many workers.
        most: The largest number to look at.
        max_stall_fraction: The limit, 0 to 1.
        least: The smallest number to look at.
    """
    known: dict[int, float] = {}

    def stall(num_workers: int) -> float:
        if num_workers not in known:
            known[num_workers] = stall_of(num_workers)
        return known[num_workers]

    if most - least <= FULL_TABLE:
        best = min(range(least, most + 1), key=stall)
        limit = _limit(stall(best), max_stall_fraction)
        return next(number for number in range(least, best + 1) if stall(number) <= limit)
    best = _best(stall, least, most, max_stall_fraction)
    limit = _limit(stall(best), max_stall_fraction)
    too_few = least - 1
    while best - too_few > 1:
        middle = (best + too_few) // 2
        if stall(middle) <= limit:
            best = middle
        else:
            too_few = middle
    return best


def _limit(best: float, max_stall_fraction: float) -> float:
    """What is close enough to the best: no jump where the best comes to the limit."""
    above = max(0.0, best - max_stall_fraction)
    close = min(CLOSE_ENOUGH, THROUGHPUT_LOST * (1.0 - best), above)
    return max(max_stall_fraction, best + close)


def _best(stall: Callable[[int], float], least: int, most: int, enough: float) -> int:
    """A number that is enough, with few above it looked at; else the one with the least stall."""
    tried, stride = [least], 1
    while stall(tried[-1]) > enough and tried[-1] < most:
        tried.append(min(most, tried[-1] + stride))
        stride *= 2
    if stall(tried[-1]) <= enough:
        return tried[-1]
    place = min(range(len(tried)), key=lambda each: (stall(tried[each]), each))
    low, high = tried[max(0, place - 1)], tried[min(len(tried) - 1, place + 1)]
    while high - low > 2:
        left, right = low + (high - low) // 3, high - (high - low) // 3
        if stall(left) <= stall(right):
            high = right
        else:
            low = left
    return min(range(low, high + 1), key=stall)


def _busy_elsewhere(
    supply: Supply, demand: Demand, work_ns: float, num_workers: int, cores: float
) -> float:
    """Cores' worth that is no worker's: the training process, and handing batches over."""
    if not num_workers:
        return demand.host_cores
    at_once = min(float(num_workers), cores / max(supply.cpu_fraction, 1e-9))
    batch_ns = max(_step_ns(demand), work_ns / at_once, float(supply.handover_cpu_ns), 1.0)
    return demand.host_cores + supply.handover_cpu_ns / batch_ns


def _step_ns(demand: Demand) -> float:
    steps = demand.steps
    step_ns = sum(steps.host_ns) / len(steps.host_ns)
    if steps.device_ns is not None:
        step_ns = max(step_ns, sum(steps.device_ns) / len(steps.device_ns))
    return step_ns


def _pieces(supply: Supply, engine: EngineName, num_workers: int) -> int:
    """Into how many chunks a batch is cut; small batches into fewer than that."""
    rows = supply.costs[0].rows if supply.is_cut and engine == "ring" else 1
    return max(1, min(rows, num_workers)) if num_workers else 0


def _enough(costs: Sequence[BatchCost], pieces: int, in_flight: int) -> Sequence[BatchCost]:
    """So many batches that the steady state shows, and not many more than that takes.

    Where a worker makes whole batches, none is there for a batch's time and then one a worker, so
    that many workers take many batches to settle.
    """
    if not pieces:
        return costs
    settles = -(-ROUNDS * in_flight // pieces)
    if settles > len(costs):
        return list(islice(cycle(costs), settles))
    return costs[: max(LEAST_BATCHES, settles, MOST_PIECES // pieces)]


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
