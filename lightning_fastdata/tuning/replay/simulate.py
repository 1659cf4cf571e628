"""The replay itself: a training loop that takes batches from a simulated engine."""

from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np

from lightning_fastdata.tuning.replay.cost import BatchCost
from lightning_fastdata.tuning.replay.dispatch import (
    Dispatch,
    InlineDispatch,
    RingDispatch,
    refuse_below,
)
from lightning_fastdata.tuning.replay.inbox import Source, Taken
from lightning_fastdata.tuning.replay.inline import InlineSource
from lightning_fastdata.tuning.replay.result import Replayed
from lightning_fastdata.tuning.replay.ring import RingSource
from lightning_fastdata.tuning.replay.steps import Steps
from lightning_fastdata.tuning.replay.stock import TorchSource


class _Step(NamedTuple):
    taken: Taken
    wait_ns: int
    exposed_ns: int
    ended_ns: int


def replay(
    batches: Sequence[BatchCost], steps: Steps, dispatch: Dispatch, *, transit_ns: int = 0
) -> Replayed:
    """Say what training would have waited for.

    Args:
        batches: What each batch costs to make, in the order of the epoch.
        steps: What training does with them.
        dispatch: How they are given to workers.
        transit_ns: From the end of a batch's last chunk in a worker to where the training process
            can take it. Nothing travels without workers, and then it does not count.

    Returns:
        What came of it; no batches give a result of zeros.

    Raises:
        SettingsError: If ``transit_ns`` is negative.
    """
    refuse_below(0, transit_ns=transit_ns)
    source: Source
    if isinstance(dispatch, InlineDispatch):
        source = InlineSource(batches)
    elif isinstance(dispatch, RingDispatch):
        source = RingSource(batches, dispatch, transit_ns)
    else:
        source = TorchSource(batches, dispatch, transit_ns)
    count = len(batches)
    if steps.device_ns is None:
        run = _run_on_host(source, steps, count)
    else:
        run = _run_beside_device(source, steps, steps.device_ns, count)
    workers = 0 if isinstance(dispatch, InlineDispatch) else dispatch.num_workers
    return _summed_up(run, sum(batch.time_ns for batch in batches), workers)


def _run_on_host(source: Source, steps: Steps, count: int) -> list[_Step]:
    run: list[_Step] = []
    wanted_ns = 0
    for _, host_ns in zip(range(count), cycle(steps.host_ns), strict=False):
        taken = source.take(wanted_ns)
        wait_ns = taken.taken_ns - wanted_ns
        wanted_ns = taken.taken_ns + host_ns
        run.append(_Step(taken, wait_ns, wait_ns, wanted_ns))
    return run


def _run_beside_device(
    source: Source, steps: Steps, all_device_ns: Sequence[int], count: int
) -> list[_Step]:
    run: list[_Step] = []
    done_ns: list[int] = []  # when the device has done each step
    wanted_ns = idle_from_ns = 0
    times = zip(cycle(steps.host_ns), cycle(all_device_ns), strict=False)
    for step, (host_ns, device_ns) in zip(range(count), times, strict=False):
        taken = source.take(wanted_ns)
        now_ns = taken.taken_ns
        # The device loses only what is left of the wait once it has done what it had.
        exposed_ns = max(0, now_ns - max(wanted_ns, idle_from_ns))
        idle_from_ns = max(now_ns, idle_from_ns) + device_ns
        done_ns.append(idle_from_ns)
        ended_ns = max(now_ns + host_ns, idle_from_ns)
        run.append(_Step(taken, now_ns - wanted_ns, exposed_ns, ended_ns))
        wanted_ns = now_ns + host_ns
        if step >= steps.run_ahead:
            wanted_ns = max(wanted_ns, done_ns[step - steps.run_ahead])
    return run


def _summed_up(run: list[_Step], work_ns: int, workers: int) -> Replayed:
    waits_ns = np.array([step.wait_ns for step in run], dtype=np.int64)
    exposed_ns = np.array([step.exposed_ns for step in run], dtype=np.int64)
    arrived_ns = np.array([step.taken.arrived_ns for step in run], dtype=np.int64)
    taken_ns = np.array([step.taken.taken_ns for step in run], dtype=np.int64)
    wall_ns = run[-1].ended_ns if run else 0
    steady_ns = wall_ns - run[0].ended_ns if run else 0
    later = max(0, len(run) - 1)
    was_ready = arrived_ns <= taken_ns - waits_ns
    arrived_ns.sort()
    # One that is taken at the moment of its arrival never lies there.
    lying = np.arange(1, len(run) + 1) - np.searchsorted(taken_ns, arrived_ns, side="right")
    return Replayed(
        waits_ns=waits_ns,
        exposed_ns=exposed_ns,
        ended_ns=np.array([step.ended_ns for step in run], dtype=np.int64),
        wall_ns=wall_ns,
        steady_ns=steady_ns,
        stall_fraction=float(exposed_ns[1:].sum() / steady_ns) if steady_ns else 0.0,
        ready_fraction=float(was_ready[1:].mean()) if later else 0.0,
        batches_per_s=later / steady_ns * 1e9 if later and steady_ns else None,
        most_ready=max(0, int(lying.max())) if run else 0,
        busy_fraction=work_ns / (workers * wall_ns) if workers and wall_ns else None,
    )
