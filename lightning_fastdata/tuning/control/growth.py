"""Which larger number of workers a stalled window asks for; nothing is decided here."""

from dataclasses import dataclass

from lightning_fastdata.tuning.control.drift import Conditions
from lightning_fastdata.tuning.control.limits import ControlLimits
from lightning_fastdata.tuning.control.outlook import (
    as_good_as,
    fewest_with,
    outlook,
    speed_up,
    upwards,
    workers_worth,
)
from lightning_fastdata.tuning.control.reasons import why_predicted, why_tried
from lightning_fastdata.tuning.control.undisturbed import Facts, costs_of
from lightning_fastdata.tuning.control.window import Window
from lightning_fastdata.tuning.forecast import CLOSE_ENOUGH

TRIED_SHARE = 8  # where replay is no help, more by one in so many workers, 1 at least (guess)
RATE_GAINED = 0.1  # of the batches a second: so much is worth more workers at any stall (guess)
HOPELESS_WINDOWS = 5  # until replay is asked again whether more workers help (guess)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Another number of workers, with what is expected of it."""

    after: int
    predicted_stall_fraction: float | None
    reason: str


@dataclass(kw_only=True, slots=True)
class Hopeless:
    """That replay saw no use in more workers."""

    num_workers: int
    conditions: Conditions
    why_not: str
    windows_left: int = HOPELESS_WINDOWS
    """Until it is asked again."""


def larger_number(window: Window, facts: Facts, limits: ControlLimits) -> Step | None:
    """Say how many workers would end a stall; ``None``: more are not predicted to help.

    Replay says how many are enough. Where it says that those there are already are, a little more
    is tried; not at the start of a pass, when it is the queues that are empty.
    """
    now, most = window.num_workers, limits.most_workers
    if now >= most:
        return None
    costs = costs_of(window, facts)
    if not costs:
        return None if window.is_new_pass else _a_little_more(window, facts, limits, None)
    if now and _hoped_for(window, facts, most) < _worth(window.stall_fraction):
        return None
    stall_of = outlook(costs, facts, limits)
    predicted_now = stall_of(now)
    if predicted_now <= limits.max_stall_fraction:
        if window.is_new_pass:
            return None
        return _a_little_more(window, facts, limits, predicted_now)
    limit = limits.max_stall_fraction
    most = as_good_as(facts, most, least=now + 1)
    start = max(now + 1, min(most, workers_worth(facts)))
    looked_at = upwards(stall_of, limit, start=start, most=most)
    best = min(looked_at.values())
    is_enough = best <= limit
    if not is_enough:
        worth = _worth(predicted_now)
        if predicted_now - best < worth:
            return None
        if window.stall_fraction - best < worth:
            # Replay sees worse than there is: it says that more helps, not by how much.
            return None if window.is_new_pass else _a_little_more(window, facts, limits, None)
        limit = best + _worth(best) / 2
    enough = min(number for number, stall in looked_at.items() if stall <= limit)
    after = fewest_with(stall_of, limit, least=now + 1, most=enough, start=start)
    predicted = stall_of(after)
    reason = why_predicted(window, facts, after, predicted, is_enough=is_enough)
    return Step(after=after, predicted_stall_fraction=predicted, reason=reason)


def _a_little_more(
    window: Window, facts: Facts, limits: ControlLimits, predicted_now: float | None
) -> Step | None:
    now, stall = window.num_workers, window.stall_fraction
    after = min(limits.most_workers, now + max(1, now // TRIED_SHARE))
    expected = None
    if now:
        # Replay is wrong about this one, so the most that can be hoped for is more of the same.
        expected = stall - _hoped_for(window, facts, after)
        if stall - expected < _worth(stall) / 2:
            return None
    reason = why_tried(window, facts, after, predicted_now)
    return Step(after=after, predicted_stall_fraction=expected, reason=reason)


def _worth(stall_fraction: float) -> float:
    """What a stall has to fall by. Where training does little but wait, a little is much."""
    return min(CLOSE_ENOUGH, RATE_GAINED * max(0.0, 1.0 - stall_fraction))


def _hoped_for(window: Window, facts: Facts, after: int) -> float:
    """By how much a stall falls at most: batches come faster by what the cores allow."""
    stall = window.stall_fraction
    return min(stall, (1.0 - stall) * (speed_up(facts, window.num_workers, after) - 1.0))
