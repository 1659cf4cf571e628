"""What a worker notes of each piece of work."""

import resource
import time
from typing import NamedTuple

BLOCK_BYTES = 512  # getrusage counts reads in blocks of this size


class ChunkTimes(NamedTuple):
    """Where the time of one chunk went: some samples of one batch, made by one worker.

    Moments are ``time.perf_counter_ns``, which all processes of a machine share on Linux.
    """

    worker: int
    """The worker's number."""
    samples: int
    began_ns: int
    """When the worker took the chunk up."""
    ended_ns: int
    """When it lay in the slot. Much later than ``began_ns`` and little CPU time: it waited."""
    cpu_ns: int
    """CPU time in between. As much as the wall time: the samples are bound by the core."""
    page_faults: int
    """Pages that had to be provided; high at a slot's first use only."""
    read_bytes: int
    """Read from storage, not from the page cache."""


NO_TIMES = ChunkTimes(
    worker=0, samples=0, began_ns=0, ended_ns=0, cpu_ns=0, page_faults=0, read_bytes=0
)
"""Of a chunk that was given up."""


class Stopwatch:
    """Measures one chunk, from its making to ``stop``."""

    def __init__(self) -> None:
        self._usage = resource.getrusage(resource.RUSAGE_THREAD)
        self._cpu_ns = time.thread_time_ns()
        self._began_ns = time.perf_counter_ns()

    def stop(self, worker: int, samples: int) -> ChunkTimes:
        """Say what was measured."""
        ended_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        before, after = self._usage, resource.getrusage(resource.RUSAGE_THREAD)
        return ChunkTimes(
            worker=worker,
            samples=samples,
            began_ns=self._began_ns,
            ended_ns=ended_ns,
            cpu_ns=cpu_ns - self._cpu_ns,
            page_faults=after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt,
            read_bytes=(after.ru_inblock - before.ru_inblock) * BLOCK_BYTES,
        )
