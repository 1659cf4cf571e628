"""Keeping a trial to the cores that one of several ranks will have."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lightning_fastdata.machine import Machine, read_rank_cores

_THREADS = "/proc/self/task"


@contextmanager
def on_share_of_cores(machine: Machine | None) -> Iterator[int | None]:
    """Run on a rank's share of the cores, with processes and threads that are started meanwhile.

    At the end this thread and those that began meanwhile may run where this one could before.
    Threads that were there already are left alone, on all cores.

    Args:
        machine: Of one of the ranks; ``None``: nothing changes.

    Yields:
        How many cores these are; ``None``: all there are, also where the system binds nobody to
        cores.
    """
    share = None if machine is None else read_rank_cores(machine)
    if share is None:
        yield None
        return
    whole, before = os.sched_getaffinity(0), set(os.listdir(_THREADS))
    try:
        os.sched_setaffinity(0, share)
    except OSError:  # a sandbox may forbid it
        yield None
        return
    try:
        yield len(share)
    finally:
        os.sched_setaffinity(0, whole)
        for thread in set(os.listdir(_THREADS)) - before:
            with suppress(OSError):  # it has ended
                os.sched_setaffinity(int(thread), whole)
