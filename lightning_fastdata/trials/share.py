"""Keeping a trial to the cores that one of several ranks will have."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_fastdata.machine import Machine, read_cores_of_one


@contextmanager
def on_share_of_cores(machine: Machine | None) -> Iterator[None]:
    """Run on a rank's share of the cores, as do the processes that are started meanwhile.

    The calling thread is put back where it was. Nothing changes where the machine is one rank's, or
    the system binds no process to cores.

    Args:
        machine: Of one of the ranks; ``None``: nothing changes.
    """
    share = None
    if machine is not None and machine.local_world_size > 1:
        share = read_cores_of_one(machine)
    if share is None:
        yield
        return
    whole = os.sched_getaffinity(0)
    os.sched_setaffinity(0, share)
    try:
        yield
    finally:
        os.sched_setaffinity(0, whole)
