"""What other numbers of workers are predicted to come to, fast enough for the training thread."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from lightning_fastdata.tuning.control.limits import ControlLimits
from lightning_fastdata.tuning.control.undisturbed import (
    BATCHES,
    Facts,
    demand_of,
    supply_of,
)
from lightning_fastdata.tuning.forecast import forecast
from lightning_fastdata.tuning.replay import BatchCost, Span, scaled, service_factor
from lightning_fastdata.tuning.replay.cost import chunk_times_ns

SOME, MANY = 8, 32  # workers from which on a replay of all chunks takes too long (by hand)
COARSE_ROWS = 8  # then of a batch, which changes little (guess)
DEPTH_OF_MANY = 48  # batches: enough chunks for many workers, in a replay of 128 (guess)
NO_LOSS = 0.002  # of the batches a second: so little is none (guess)

StallOf = Callable[[int], float]


def outlook(
    costs: Sequence[BatchCost], facts: Facts, limits: ControlLimits, *, slower: float = 1.0
) -> StallOf:
    """Give the predicted stall for a number of workers; each is replayed once.

    Args:
        costs: One or more, of workers that always have a core.
        facts: What else the window showed.
        limits: The machine and the engine.
        slower: What all costs are multiplied by.
    """
    if slower != 1.0:
        costs = [scaled(cost, slower) for cost in costs]
    fine, demand = supply_of(costs, facts, limits), demand_of(facts)
    if limits.is_cut:
        coarse = replace(fine, costs=tuple(_coarser(cost) for cost in fine.costs))
    else:
        # Whole batches are replayed quickly, and each worker needs some.
        coarse = replace(fine, costs=fine.costs * -(-4 * limits.most_workers // BATCHES))

    @cache
    def stall_of(num_workers: int) -> float:
        prefetch_batches = None
        if num_workers > MANY and limits.is_cut and limits.engine == "ring":
            prefetch_batches = max(DEPTH_OF_MANY, num_workers // 2)
        return forecast(
            coarse if num_workers > SOME else fine,
            demand,
            engine=limits.engine,
            num_workers=num_workers,
            cores=facts.cores,
            prefetch_batches=prefetch_batches,
        ).stall_fraction

    return stall_of


def upwards(stall_of: StallOf, limit: float, *, start: int, most: int) -> dict[int, float]:
    """Look at ever larger numbers of workers until one keeps the limit, or there are no more.

    Not at ``most`` first: a replay is short beside the queues of very many workers.

    Returns:
        The number and its stall, of all that were looked at.
    """
    looked_at = {start: stall_of(start)}
    number, stride = start, 1
    while looked_at[number] > limit and number < most:
        number, stride = min(most, number + stride), 2 * stride
        looked_at[number] = stall_of(number)
    return looked_at


def fewest_with(stall_of: StallOf, limit: float, *, least: int, most: int, start: int) -> int:
    """Find a number of workers that keeps a limit while one fewer does not.

    Args:
        stall_of: As ``outlook`` gives it.
        limit: The stall, 0 to 1, that ``most`` is known to keep.
        least: The smallest number to look at.
        most: The largest.
        start: Where to look first.
    """
    enough, too_few = most, least - 1
    guess, stride = start, 1
    found_enough = found_too_few = False
    while enough - too_few > 1:
        if found_enough and found_too_few:
            guess = (enough + too_few) // 2
        guess = max(too_few + 1, min(enough - 1, guess))
        if stall_of(guess) <= limit:
            enough, found_enough = guess, True
            guess -= stride
        else:
            too_few, found_too_few = guess, True
            guess += stride
        stride *= 2
    return enough


def workers_worth(facts: Facts) -> int:
    """Workers' worth of work that training asks for; fewer cannot do."""
    return max(1, -(-round(facts.batch_work_ns) // facts.step_ns))


def speed_up(facts: Facts, before: int, after: int) -> float:
    """By how many times more batches come from ``after`` workers than from ``before`` at best."""

    def rate(num_workers: int) -> float:
        return num_workers / service_factor(
            num_workers=num_workers,
            cpu_fraction=facts.cpu_fraction,
            cores=facts.cores,
            busy_elsewhere=facts.host_cores,
        )

    return rate(after) / rate(before)


def as_good_as(facts: Facts, number: int, *, least: int) -> int:
    """Give the fewest workers that the cores let make as many batches as ``number`` do.

    By the shares of the cores alone: what replay differs by from number to number is more.
    """

    def loss(num_workers: int) -> float:
        return 1.0 - 1.0 / speed_up(facts, num_workers, number)

    return fewest_with(loss, NO_LOSS, least=least, most=number, start=number - 1)


def _coarser(cost: BatchCost) -> BatchCost:
    """Give the same batch with fewer rows."""
    if cost.rows <= COARSE_ROWS:
        return cost
    times_ns = chunk_times_ns(cost, -(-cost.rows // COARSE_ROWS))
    return BatchCost(spans=tuple(Span(1, time_ns) for time_ns in times_ns))
