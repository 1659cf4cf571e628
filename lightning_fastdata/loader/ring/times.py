"""What a worker notes of each piece of work."""

import resource
import time

from lightning_fastdata.trace.work import ChunkTimes

BLOCK_BYTES = 512  # getrusage counts reads in blocks of this size


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
            page_faults=after.ru_minflt - before.ru_minflt,
            read_bytes=(after.ru_inblock - before.ru_inblock) * BLOCK_BYTES,
            major_faults=after.ru_majflt - before.ru_majflt,
        )
