"""Which smaller number of workers is predicted to do; nothing is decided here."""

from collections.abc import Sequence

from lightning_fastdata.tuning.control.growth import Step
from lightning_fastdata.tuning.control.limits import ControlLimits
from lightning_fastdata.tuning.control.outlook import (
    as_good_as,
    fewest_with,
    outlook,
    speed_up,
    workers_worth,
)
from lightning_fastdata.tuning.control.reasons import why_fewer, why_no_worse
from lightning_fastdata.tuning.control.undisturbed import FULL, Facts, costs_of
from lightning_fastdata.tuning.control.window import Window
from lightning_fastdata.tuning.replay import BatchCost

SLOWER = 1.1  # times the cost that fewer workers have to bear, so that they do for long (guess)


def smaller_number(
    costs: Sequence[BatchCost],
    window: Window,
    facts: Facts,
    limits: ControlLimits,
    *,
    now: int,
    longest_stride: int,
    windows: int,
) -> Step | None:
    """Say how many workers still keep the limit; ``None``: not one fewer does.

    One fewer, where there is little to spare; half of what is to spare, where that is much.

    Args:
        costs: Of workers that always have a core, one or more, of all clean windows.
        window: The newest.
        facts: What it showed.
        limits: The machine and the engine.
        now: Workers that are to become fewer.
        longest_stride: By how many at most.
        windows: How many in a row were clean.
    """
    least = max(1, limits.least_workers)
    stall_of = outlook(costs, facts, limits, slower=SLOWER)
    limit = limits.max_stall_fraction
    if now <= least or stall_of(now - 1) > limit:
        return None
    start = workers_worth(facts)
    fewest = fewest_with(stall_of, limit, least=least, most=now - 1, start=start)
    after = _half_way(now, fewest, longest_stride)
    predicted = stall_of(after)
    reason = why_fewer(window, windows, after, predicted, SLOWER)
    return Step(after=after, predicted_stall_fraction=predicted, reason=reason)


def no_worse_number(
    window: Window, facts: Facts, limits: ControlLimits, longest_stride: int
) -> Step | None:
    """Say how many workers do as well where more do not help; ``None``: not one fewer does.

    Where our own processes fill the cores, those that give as many batches. Where replay
    sees no reason for a stall, those that keep the limit. Not where others take the cores: there,
    more workers get more of them, and they are wanted once the others are gone.
    """
    now, least = window.num_workers, max(1, limits.least_workers)
    costs = costs_of(window, facts)
    if now <= least or not costs:
        return None
    if facts.used_cores >= FULL * limits.cores:
        return _less_crowded(window, facts, least, longest_stride)
    stall_of = outlook(costs, facts, limits, slower=SLOWER)
    limit = limits.max_stall_fraction
    if stall_of(now - 1) > limit:
        return None
    start = workers_worth(facts)
    fewest = fewest_with(stall_of, limit, least=least, most=now - 1, start=start)
    after = _half_way(now, fewest, longest_stride)
    predicted = max(stall_of(after), window.stall_fraction)
    reason = why_no_worse(window, facts, after, is_crowded=False)
    return Step(after=after, predicted_stall_fraction=predicted, reason=reason)


def _less_crowded(window: Window, facts: Facts, least: int, longest_stride: int) -> Step | None:
    now = window.num_workers
    fewest = as_good_as(facts, now, least=least)
    if fewest == now:
        return None
    after = _half_way(now, fewest, longest_stride)
    predicted = 1.0 - (1.0 - window.stall_fraction) / max(1.0, speed_up(facts, after, now))
    reason = why_no_worse(window, facts, after, is_crowded=True)
    return Step(after=after, predicted_stall_fraction=predicted, reason=reason)


def _half_way(now: int, fewest: int, longest_stride: int) -> int:
    return now - max(1, min(longest_stride, (now - fewest) // 2))
