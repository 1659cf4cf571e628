"""Measures what a process makes, chunk by chunk: always in short, closely while it is watched."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from lightning_fastdata.loader.make import NO_ROW
from lightning_fastdata.trace.lines import LineSampler
from lightning_fastdata.trace.stages import StageTimes
from lightning_fastdata.trace.work import ChunkTimes

_resource: Any = None
if sys.platform == "linux":  # Windows has no such module, macOS does not count a thread's share
    import resource as _resource

BLOCK_BYTES = 512  # getrusage counts reads in blocks of this size
SLOWEST = 3
_SHORT_NS = 1_000_000  # a batch that the training process makes faster is nobody's trouble; asking
# the kernel about it would take a third of what a step of the profiler may cost. Workers ask after
# longer chunks even from afar: 4 microseconds for the two looks (two Xeon cores, by hand)
_IO, _SCHEDULE = "/proc/thread-self/io", "/proc/thread-self/schedstat"


class Stopwatch:
    """Measures one chunk after the other, in the thread that makes them.

    Args:
        worker: The worker's number; ``None`` is the training process itself.
    """

    def __init__(self, worker: int | None) -> None:
        self._worker = worker
        self._is_close = False
        self._kernel: _Kernel | None = None
        self._asks_kernel, self._was_short = True, False
        self._row, self._step = NO_ROW, ""
        self._began_ns = self._at_ns = self._step_began_ns = self._cpu_ns = 0
        self._slowest: list[tuple[int, int]] = []
        self._slow_from_ns = -1
        self._steps_ns: dict[str, int] = {}
        self._stages = StageTimes()
        # The training process has a sampler of its own, which also sees what is not loading.
        self._lines = None if worker is None else LineSampler(threading.get_ident())

    def begin(self, *, closely: bool) -> None:
        """Begin a chunk.

        Args:
            closely: Whether samples, steps, reads and waits for a core are told apart, which takes
                some microseconds a chunk and a third of one a sample.
        """
        if closely is not self._is_close:
            self._be_close(closely=closely)
        self._usage = _usage()
        is_worker = self._worker is not None
        # A worker that is watched always asks, the training process that is not never does.
        is_long_enough = not self._was_short and (closely or is_worker)
        self._asks_kernel = is_long_enough or (closely and is_worker)
        if self._asks_kernel:
            self._kernel = self._kernel or _Kernel()
            self._kernel.begin(closely=closely)
        if closely:
            self._reset()
            self._stages.begin()
            if self._lines is not None:
                self._lines.begin()
        self._cpu_ns = time.thread_time_ns()
        self._began_ns = self._at_ns = time.perf_counter_ns()

    def rest(self) -> None:
        """Keep no thread while nothing is measured closely."""
        if self._is_close:
            self._be_close(closely=False)

    def sample(self, row: int) -> None:
        """Note that a sample is about to be made, or, with ``NO_ROW``, that the last one has been.

        Args:
            row: Its place in the chunk, from 0 on.
        """
        now_ns = time.perf_counter_ns()
        if self._row != NO_ROW and now_ns - self._at_ns > self._slow_from_ns:
            self._keep(now_ns - self._at_ns)
        self._row, self._at_ns = row, now_ns

    def enter(self, step: str) -> None:
        """Note what is done with all samples from here on.

        Args:
            step: ``collate``, ``transform`` or ``pack``.
        """
        self.sample(NO_ROW)
        self._leave_step()
        self._step = step

    def stop(
        self, *, samples: int, first_row: int = 0, key_of: Callable[[int], Any] | None = None
    ) -> ChunkTimes:
        """Say what was measured since ``begin``.

        Args:
            samples: How many samples the chunk has.
            first_row: The place of the first one in its batch.
            key_of: Gives the index or key of the sample in a row of the chunk.
        """
        if self._is_close:
            self.enter("")
        ended_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        before, after = self._usage, _usage()
        times = (
            self._worker,
            samples,
            self._began_ns,
            ended_ns,
            cpu_ns - self._cpu_ns,
            after.page_faults - before.page_faults,
            (after.read_blocks - before.read_blocks) * BLOCK_BYTES,
            first_row,
            after.major_faults - before.major_faults,
        )
        self._was_short = ended_ns - self._began_ns < _SHORT_NS
        spent, steps_ns = self._spent_by_kernel(times[6]), self._steps_ns
        if not self._is_close:
            return ChunkTimes(*times, core_wait_ns=spent[1])
        lines, looks = ((), 0) if self._lines is None else self._lines.take()
        return ChunkTimes(
            *times,
            cached_bytes=spent[0],
            core_wait_ns=spent[1],
            collate_ns=steps_ns.get("collate", 0),
            transform_ns=steps_ns.get("transform", 0),
            pack_ns=steps_ns.get("pack", 0),
            stages_ns=self._stages.take(),
            slowest=tuple(
                [
                    (first_row + row, row if key_of is None else key_of(row), sample_ns)
                    for sample_ns, row in self._slowest
                    if row < samples  # a stream's end was looked for as if it were a sample
                ]
            ),
            lines=lines,
            looks=looks,
        )

    def _spent_by_kernel(self, stored_bytes: int) -> tuple[int | None, int | None]:
        """Bytes out of the page cache, and nanoseconds without a core."""
        if not self._asks_kernel or self._kernel is None:
            return (0, 0) if self._is_close else (None, None)
        read_bytes, core_wait_ns = self._kernel.end()
        return None if read_bytes is None else max(0, read_bytes - stored_bytes), core_wait_ns

    def _be_close(self, *, closely: bool) -> None:
        self._is_close = closely
        if self._lines is not None and closely:
            self._lines.start()
        elif self._lines is not None:
            self._lines.stop()

    def _keep(self, sample_ns: int) -> None:
        """Keep a sample that is among the slowest so far."""
        slowest = self._slowest
        slowest.append((sample_ns, self._row))
        slowest.sort(reverse=True)
        del slowest[SLOWEST:]
        if len(slowest) == SLOWEST:
            self._slow_from_ns = slowest[-1][0]

    def _leave_step(self) -> None:
        if self._step:
            spent_ns = self._at_ns - self._step_began_ns
            self._steps_ns[self._step] = self._steps_ns.get(self._step, 0) + spent_ns
        self._step_began_ns = self._at_ns

    def _reset(self) -> None:
        self._row, self._step, self._step_began_ns = NO_ROW, "", 0
        self._slowest.clear()
        self._slow_from_ns = -1
        self._steps_ns.clear()


class _Usage(NamedTuple):
    page_faults: int
    major_faults: int
    read_blocks: int


def _usage() -> _Usage:
    """What this thread has used so far; nothing where the system does not tell of threads."""
    if _resource is None:
        return _Usage(0, 0, 0)
    used = _resource.getrusage(_resource.RUSAGE_THREAD)
    return _Usage(used.ru_minflt, used.ru_majflt, used.ru_inblock)


class _Kernel:
    """What the kernel knows of the thread that made it: bytes read, and time without a core.

    Its files are kept open: opening one takes ten times as long as reading it.
    """

    def __init__(self) -> None:
        self._io, self._schedule = _opened(_IO), _opened(_SCHEDULE)
        self._before: tuple[int | None, int | None] = (None, None)
        self._closely = True

    def begin(self, *, closely: bool = True) -> None:
        self._closely = closely
        self._before = self._now()

    def end(self) -> tuple[int | None, int | None]:
        """Bytes read by system calls, and nanoseconds ready to run but without a core."""
        read_bytes, core_wait_ns = (
            None if then is None or now is None else now - then
            for then, now in zip(self._before, self._now(), strict=True)
        )
        return read_bytes, core_wait_ns

    def _now(self) -> tuple[int | None, int | None]:
        read_bytes = _second_word(self._io) if self._closely else None
        return read_bytes, _second_word(self._schedule)

    def __del__(self) -> None:
        for descriptor in (self._io, self._schedule):
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)


def _opened(path: str) -> int | None:
    with contextlib.suppress(OSError):  # not Linux, or a kernel that does not count
        return os.open(path, os.O_RDONLY)  # Python closes it in what it executes
    return None


def _second_word(descriptor: int | None) -> int | None:
    """The second word of a file of the kernel: ``rchar: 5`` is 5, ``1 2 3`` is 2."""
    if descriptor is None:
        return None
    try:
        return int(os.pread(descriptor, 64, 0).split(None, 2)[1])
    except (OSError, ValueError, IndexError):
        return None
