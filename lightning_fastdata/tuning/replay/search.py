"""How few workers would do."""

import math
from collections.abc import Callable, Sequence
from functools import cache

from lightning_fastdata.tuning.replay.cost import BatchCost, scaled
from lightning_fastdata.tuning.replay.dispatch import Dispatch, refuse_below
from lightning_fastdata.tuning.replay.result import Replayed
from lightning_fastdata.tuning.replay.simulate import replay
from lightning_fastdata.tuning.replay.steps import Steps

LEAST_GAIN = 0.01  # of the wall time: below it, more workers are not worth their memory (guess)
LAST_SHARE = 0.1  # of all that can be gained: its last tenth takes as many workers again (guess)


def fewest_workers(
    batches: Sequence[BatchCost],
    steps: Steps,
    make_dispatch: Callable[[int], Dispatch],
    *,
    most: int,
    max_stall_fraction: float,
    least: int = 1,
    transit_ns: int = 0,
    factor: Callable[[int], float] | None = None,
) -> tuple[int, Replayed]:
    """Find the fewest workers that keep the stall at or under a limit.

    Where ``most`` workers cannot, the fewest that come within 0.01 of what they reach, or within a
    tenth of all that more workers gain: more hardly help. What counts is the stall after as many
    steps as batches are in flight (but after half of them at the latest), when no more comes from
    queues that filled before the first step.

    One worker fewer than the answer is always too few. Far fewer might do by chance, where
    slow batches come at a regular distance; that is not looked for: a few numbers are replayed
    around work over step time, not all.

    Args:
        batches: What each batch costs a worker that is not disturbed.
        steps: What training does.
        make_dispatch: Gives the dispatch with so many workers.
        most: The largest number to look at.
        max_stall_fraction: The limit, 0 to 1.
        least: The smallest number to look at.
        transit_ns: As ``replay`` takes it.
        factor: By how much work stretches with so many workers, as ``service_factor`` says.

    Returns:
        The number of workers, and the replay with it.

    Raises:
        SettingsError: If ``most`` is below ``least``.
    """
    refuse_below(least, most=most)

    @cache
    def run(num_workers: int) -> tuple[float, Replayed]:
        stretch = 1.0 if factor is None else factor(num_workers)
        costs = batches if stretch == 1.0 else [scaled(batch, stretch) for batch in batches]
        dispatch = make_dispatch(num_workers)
        result = replay(costs, steps, dispatch, transit_ns=transit_ns)
        return result.stall_fraction_after(min(dispatch.in_flight, len(batches) // 2)), result

    start = max(least, min(most, _demand(batches, steps)))
    found = _first(lambda n: run(n)[0] <= max_stall_fraction, least, most, start)
    if found is None:
        reached = run(most)[0]
        limit = reached + max(LEAST_GAIN, LAST_SHARE * (run(least)[0] - reached))
        found = _first(lambda n: run(n)[0] <= limit, least, most, most)
        assert found is not None  # what ``most`` reaches is within the limit
    return found, run(found)[1]


def _demand(batches: Sequence[BatchCost], steps: Steps) -> int:
    """Workers' worth of work: fewer cannot do."""
    work_ns = sum(batch.time_ns for batch in batches) / max(1, len(batches))
    step_ns = sum(steps.host_ns) / len(steps.host_ns)
    if steps.device_ns is not None:
        step_ns = max(step_ns, sum(steps.device_ns) / len(steps.device_ns))
    return math.ceil(work_ns / max(1.0, step_ns))


def _first(is_enough: Callable[[int], bool], least: int, most: int, start: int) -> int | None:
    """Find a number that is enough while one less is not; ``None`` if ``most`` is not.

    With ever longer strides from ``start``, and then by halves.
    """
    stride, enough = 1, start
    too_few = least - 1
    while not is_enough(enough):
        if enough == most:
            return None
        too_few, enough = enough, min(most, enough + stride)
        stride *= 2
    stride = 1
    while enough - too_few > 1:
        # Strides downwards until one number is too few; from then on the middle is nearer.
        lower = max((enough + too_few) // 2, enough - stride)
        stride *= 2
        if is_enough(lower):
            enough = lower
        else:
            too_few = lower
    return enough
