"""Adds up what one stretch of training shows of its loader, some microseconds a batch."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median

from lightning_fastdata.loader.engine import HostBatch
from lightning_fastdata.trace.work import ChunkTimes
from lightning_fastdata.tuning.control.window import Window
from lightning_fastdata.tuning.replay import BatchCost, Span

# All guesses: long enough to be no accident, short enough to mend what is wrong soon.
WINDOW_NS, WINDOW_BATCHES = 3_000_000_000, 20
LONGEST_NS, FEWEST_BATCHES = 10_000_000_000, 3  # where steps take seconds
FIRST_NS, FIRST_BATCHES = 1_000_000_000, 8  # so that a bad start is mended soon
PAUSE_NS, PAUSE_STEPS = 500_000_000, 10  # validation and saving, not a slow step
PAUSES_APART = 20  # batches
COSTS_KEPT, STEPS_KEPT = 128, 256  # what a replay takes; enough for a median
UNEVEN = 2.0  # times a batch's mean row: such chunks are kept apart
_LOOK_EVERY_NS = 250_000_000


class Meter:
    """One window, perhaps over several passes.

    Args:
        num_workers: That make its batches; 0 is the training process itself.
        process_ns: Gives what this process has computed so far.
    """

    def __init__(
        self, num_workers: int, process_ns: Callable[[], int] = time.process_time_ns
    ) -> None:
        self.num_workers, self._process_ns = num_workers, process_ns
        self.not_before_ns = 0
        """No window ends before it, by ``time.perf_counter_ns``."""
        self._is_new_pass = False
        self._taken_ns: int | None = None
        self._began_ns: int | None = None
        self._part_ns = self._part_cpu_ns = 0
        self._spent_ns = self._process_cpu_ns = 0
        self._batches = self._ready = 0
        self._gaps_ns = self._waits_ns = self._stall_ns = 0
        self._work_ns = self._cpu_ns = self._core_wait_ns = self._known_ns = 0
        self._long_gaps_ns: list[int] = []
        self._steps_ns: deque[int] = deque(maxlen=STEPS_KEPT)
        self._chunks: deque[Sequence[ChunkTimes]] = deque(maxlen=COSTS_KEPT)

    @property
    def counts(self) -> bool:
        """Whether the next batch is counted: the first of a pass is not."""
        return self._taken_ns is not None

    @property
    def is_empty(self) -> bool:
        """Whether no batch was counted, as after a look at the first one."""
        return not self._batches

    def begin_pass(self) -> None:
        """A pass begins, with empty queues: its first batch says nothing of the others."""
        self._is_new_pass, self._taken_ns = True, None

    def begin_window(self, now_ns: int) -> None:
        """Measure from now on, in the middle of a pass."""
        self._taken_ns = self._part_ns = now_ns
        self._began_ns = now_ns if self._began_ns is None else self._began_ns
        self._part_cpu_ns = self._process_ns()
        # Of a window over several passes, the earlier ones count.
        self.not_before_ns = now_ns + FIRST_NS - self._gaps_ns - self._waits_ns

    def end_pass(self, now_ns: int) -> None:
        """Count nothing until the next pass."""
        if self._taken_ns is not None:
            self._spent_ns += now_ns - self._part_ns
            self._process_cpu_ns += self._process_ns() - self._part_cpu_ns
            self._taken_ns = None

    def add(
        self,
        batch: HostBatch,
        wanted_ns: int,
        taken_ns: int,
        stall_ns: int,
        *,
        is_ready: bool,
        cpu_ns: int,
    ) -> None:
        """Note a batch.

        Args:
            batch: As the engine gave it.
            wanted_ns: When the loop wanted it.
            taken_ns: When it had it.
            stall_ns: In which training is now known to have stood still.
            is_ready: Whether it lay ready when it was wanted.
            cpu_ns: What making it took of a core, where this process made it.
        """
        if self._taken_ns is None:
            self.begin_window(taken_ns)
            return
        gap_ns = wanted_ns - self._taken_ns
        self._taken_ns = taken_ns
        self._gaps_ns += gap_ns
        self._waits_ns += taken_ns - wanted_ns
        self._stall_ns += stall_ns
        self._batches += 1
        self._ready += is_ready
        self._steps_ns.append(gap_ns)
        if gap_ns > PAUSE_NS:
            self._long_gaps_ns.append(gap_ns)
        if self.num_workers:
            self._add_chunks(batch.times)
        else:
            self._work_ns += taken_ns - wanted_ns
            self._cpu_ns += cpu_ns
            self._chunks.append((_made_here(batch, wanted_ns, taken_ns, cpu_ns),))

    def is_due(self, now_ns: int, *, is_first: bool) -> bool:
        """Whether it is long enough; where it is not, the next look is a while off.

        Args:
            now_ns: By ``time.perf_counter_ns``.
            is_first: Whether it is the first window of a run.
        """
        spent_ns = self._gaps_ns + self._waits_ns - self._pauses_ns()
        enough = (
            (spent_ns >= WINDOW_NS and self._batches >= WINDOW_BATCHES)
            or (spent_ns >= LONGEST_NS and self._batches >= FEWEST_BATCHES)
            or (is_first and spent_ns >= FIRST_NS and self._batches >= FIRST_BATCHES)
        )
        if not enough:
            self.not_before_ns = now_ns + _LOOK_EVERY_NS
        return enough

    def window(self, now_ns: int) -> Window:
        """What it comes to, with one batch or more; nothing may be added afterwards."""
        self.end_pass(now_ns)
        whole_ns = self._gaps_ns + self._waits_ns - self._pauses_ns()
        stall_ns = min(self._stall_ns, whole_ns)  # the device tells of some stalls a window late
        host_cpu_ns = max(0, self._process_cpu_ns - (0 if self.num_workers else self._cpu_ns))
        return Window(
            began_ns=now_ns if self._began_ns is None else self._began_ns,
            ended_ns=now_ns,
            num_workers=self.num_workers,
            batches=self._batches,
            busy_ns=whole_ns - stall_ns,
            stall_ns=stall_ns,
            ready_fraction=self._ready / self._batches,
            costs=tuple(cost_of(chunks) for chunks in self._chunks),
            work_ns=self._work_ns,
            cpu_ns=self._cpu_ns,
            core_wait_ns=self._all_core_wait_ns(),
            host_cores=host_cpu_ns / self._spent_ns if self._spent_ns else 0.0,
            is_new_pass=self._is_new_pass,
        )

    def _add_chunks(self, chunks: Sequence[ChunkTimes]) -> None:
        for chunk in chunks:
            wall_ns = chunk.ended_ns - chunk.began_ns
            self._work_ns += wall_ns
            self._cpu_ns += chunk.cpu_ns
            if chunk.core_wait_ns is not None:
                self._core_wait_ns += chunk.core_wait_ns
                self._known_ns += wall_ns
        if chunks:
            self._chunks.append(chunks)

    def _all_core_wait_ns(self) -> int | None:
        """What is known stands for all, where it is of half of the work or more."""
        if not self._work_ns or 2 * self._known_ns < self._work_ns:
            return None
        return self._core_wait_ns * self._work_ns // self._known_ns

    def _pauses_ns(self) -> int:
        """Time in which something else went on: gaps of many steps, not the steps themselves."""
        # What comes again and again is a step, of accumulated gradients perhaps.
        if not 0 < len(self._long_gaps_ns) <= max(1, self._batches // PAUSES_APART):
            return 0
        step_ns = median(self._steps_ns)
        return sum(gap_ns for gap_ns in self._long_gaps_ns if gap_ns > PAUSE_STEPS * step_ns)


def cost_of(chunks: Sequence[ChunkTimes]) -> BatchCost:
    """What a batch costs: one span, or one a chunk where they are uneven."""
    ordered = sorted(chunks, key=lambda chunk: chunk.first_row)
    spans = [
        Span(max(1, chunk.samples), max(0, chunk.ended_ns - chunk.began_ns)) for chunk in ordered
    ]
    rows, time_ns = sum(span.rows for span in spans), sum(span.time_ns for span in spans)
    if any(span.time_ns * rows > UNEVEN * time_ns * span.rows for span in spans):
        return BatchCost(spans=tuple(spans))
    return BatchCost(spans=(Span(rows, time_ns),))


def _made_here(batch: HostBatch, wanted_ns: int, taken_ns: int, cpu_ns: int) -> ChunkTimes:
    return ChunkTimes(
        worker=None,
        samples=len(batch.request.seeds),
        began_ns=wanted_ns,
        ended_ns=taken_ns,
        cpu_ns=cpu_ns,
        page_faults=0,
        read_bytes=0,
    )
