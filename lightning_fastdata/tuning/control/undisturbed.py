"""From what a window showed to what batches cost where nobody waits for a core."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from lightning_fastdata.tuning.control.limits import ControlLimits
from lightning_fastdata.tuning.control.window import Window
from lightning_fastdata.tuning.forecast import Demand, Supply
from lightning_fastdata.tuning.replay import BatchCost, Span, Steps, scaled

BATCHES = 128  # in a replay, which is on the training thread: 1 to 3 ms (by hand)
UNKNOWN_ROWS = 64  # guess: rows of a batch of which only the time is known
FULL = 0.9  # of the cores in use: then there are no more (guess; the kernel takes some itself)
CHANCE_WAIT = 0.05  # of a worker's time: threads that happen to run at once wait so long (guess)
SURE_WAIT = 0.25  # of a worker's time: more, and whoever takes the cores does so always (guess)


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a window says of costs and cores, whatever the number of workers was."""

    batch_work_ns: float
    """Of a worker that always has a core, for a batch; 0 where not known."""
    cpu_fraction: float
    """Share of it (0 to 1) that computes."""
    stretch: float
    """By how much that time was longer in the window, 1 or more. High: there are too few cores."""
    step_ns: int
    """The mean step without its stall."""
    host_cores: float
    """Cores' worth that the training process computes while it does not wait."""
    used_cores: float
    """Cores' worth that workers and training process had, by the mean of the window."""
    cores: float
    """That there are for them: fewer than the machine has while others take some."""


def facts_of(window: Window, limits: ControlLimits) -> Facts:
    """Say what a window shows of costs and cores."""
    elapsed_ns = max(1, window.busy_ns + window.stall_ns)
    work_ns = max(0, window.work_ns)
    cpu_ns = min(max(0, window.cpu_ns), work_ns)
    host_cores = max(0.0, window.host_cores)
    used_cores = host_cores + cpu_ns / elapsed_ns
    stretch = _stretch(window, limits, work_ns, cpu_ns, used_cores)
    own_ns = work_ns / stretch
    share = 1.0 - 1.0 / stretch
    # A core for which threads sometimes queue is one that there is; only where they always do, we
    # had all that there was: what was used, or more while all workers were at work at once, as
    # those are that share a batch and then wait for the next.
    always = min(1.0, max(0.0, (share - CHANCE_WAIT) / (SURE_WAIT - CHANCE_WAIT)))
    at_once = host_cores + (window.num_workers * cpu_ns / work_ns if work_ns else 0.0)
    had = min(limits.cores, max(used_cores, at_once, limits.cores / 16))
    return Facts(
        batch_work_ns=own_ns / window.batches,
        cpu_fraction=min(1.0, cpu_ns / own_ns) if own_ns else 1.0,
        stretch=stretch,
        step_ns=max(1, window.step_ns),
        host_cores=min(host_cores * elapsed_ns / max(1, window.busy_ns), limits.cores),
        used_cores=used_cores,
        cores=had * always + limits.cores * (1.0 - always),
    )


def costs_of(window: Window, facts: Facts) -> tuple[BatchCost, ...]:
    """Give the costs of a window's batches as they would be with a core for each worker.

    Where only their sum is known, each batch gets the mean; empty where nothing is.
    """
    if window.costs:
        newest = window.costs[-BATCHES:]
        if facts.stretch == 1.0:
            return newest
        return tuple(scaled(cost, 1.0 / facts.stretch) for cost in newest)
    if not facts.batch_work_ns:
        return ()
    return (BatchCost(spans=(Span(UNKNOWN_ROWS, round(facts.batch_work_ns)),)),)


def newest_of_each(windows: Iterable[Sequence[BatchCost]]) -> tuple[BatchCost, ...]:
    """Give the newest costs of several windows, as many of each, in the order of training."""
    known = [costs for costs in windows if costs]
    return tuple(cost for costs in known for cost in costs[-(BATCHES // len(known)) :])


def supply_of(costs: Sequence[BatchCost], facts: Facts, limits: ControlLimits) -> Supply:
    """Put costs together as replay takes them, often enough for its queues to settle."""
    enough = tuple(islice(cycle(costs), BATCHES))
    return Supply(costs=enough, cpu_fraction=facts.cpu_fraction, is_cut=limits.is_cut)


def demand_of(facts: Facts) -> Demand:
    """Say what training asks for."""
    return Demand(steps=Steps(host_ns=(facts.step_ns,)), host_cores=facts.host_cores)


def _stretch(
    window: Window, limits: ControlLimits, work_ns: int, cpu_ns: int, used_cores: float
) -> float:
    """By how much workers' time was longer than with a core for each."""
    if not work_ns:
        return 1.0
    if window.core_wait_ns is not None:
        wait_ns = min(max(0, window.core_wait_ns), work_ns - cpu_ns)
        return min(work_ns / max(1, work_ns - wait_ns), 1e6)
    if used_cores < FULL * limits.cores or not cpu_ns:
        return 1.0
    # Equal shares: what computes takes as many times longer as there are threads to a core, and
    # nothing of a worker's time can have been waiting for a core but what did not compute.
    threads_a_core = (window.num_workers + 1) / limits.cores
    return max(1.0, min(work_ns / cpu_ns, threads_a_core))
