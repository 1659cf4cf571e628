"""One trial: a real loader with some number of workers, feeding what stands in for training."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.trace.work import BatchTimes, WorkTrace

MEASURED_NS, LONGEST_NS = 1_000_000_000, 2_000_000_000  # guess: a workers' pool repeats itself
BATCHES, FEWEST_BATCHES, LAST_CHANCE = 20, 8, 3  # guess: fewer than 8 are mostly chance
SETTLED_NS = 1_000_000_000  # guess: caches and allocators have settled, whatever a batch takes


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What one number of workers was seen to do."""

    num_workers: int
    prefetch_batches: int
    batches: int
    """That were measured, after those in which workers start and queues fill."""
    wait_ns: int
    """Of the loop, for all of them."""
    busy_ns: int
    """Of the loop, between having a batch and wanting the next."""
    whole_ns: int
    """Of the trial, with what was not measured."""
    times: tuple[BatchTimes, ...]
    """How each was made."""

    @property
    def stall_fraction(self) -> float:
        """Share of the time (0 to 1) that the loop waited."""
        whole_ns = self.wait_ns + self.busy_ns
        return self.wait_ns / whole_ns if whole_ns else 0.0

    @property
    def floor_fraction(self) -> float:
        """Share of the time (0 to 1) that the loop would have waited, had each batch lain ready.

        More workers leave it as it is. Without any, it is 0.
        """
        late_ns = sum(
            max(0, min(batch.taken_ns, batch.arrived_ns) - batch.wanted_ns)
            if batch.arrived_ns is not None
            else batch.taken_ns - batch.wanted_ns
            for batch in self.times
        )
        whole_ns = self.wait_ns + self.busy_ns
        return max(0.0, self.wait_ns - self._of_all(late_ns)) / whole_ns if whole_ns else 0.0

    @property
    def around_ns(self) -> int:
        """What the loop waited a batch that its loader did not note: to ask for more, mostly."""
        noted_ns = self._of_all(sum(batch.taken_ns - batch.wanted_ns for batch in self.times))
        return round(max(0.0, self.wait_ns - noted_ns) / max(1, self.batches))

    def _of_all(self, noted_ns: int) -> float:
        """What the newest batches add up to, as if all that were measured had been noted."""
        return noted_ns * self.batches / len(self.times) if self.times else 0.0

    @property
    def batches_per_s(self) -> float:
        """That the loop got."""
        return self.batches * 1e9 / max(1, self.wait_ns + self.busy_ns)


def run_trial(
    loader: FastDataLoader,
    step: Callable[[], None],
    *,
    deadline_ns: int,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> Trial | None:
    """Load for a second or two and note how long the loop waits. The loader is closed at the end.

    Args:
        loader: Not used before.
        step: Takes as long as a training step.
        deadline_ns: By ``clock_ns``; after it three measured batches are enough.
        clock_ns: Tells nanoseconds.

    Returns:
        What was seen; ``None`` if there were too few batches to say.
    """
    work, began_ns = WorkTrace(), clock_ns()
    loader.observe(work)
    try:
        with closing(_batches(loader)) as batches:
            meter = _Meter(loader.plan.prefetch_batches, deadline_ns, clock_ns)
            wanted_ns = clock_ns()
            for _ in batches:
                taken_ns = clock_ns()
                step()
                asked_ns = clock_ns()
                meter.add(taken_ns - wanted_ns, asked_ns - taken_ns, asked_ns)
                if meter.is_done:
                    break
                wanted_ns = asked_ns
    finally:
        loader.observe(None)
        loader.close()
    if meter.measured < 1:
        return None
    return Trial(
        num_workers=loader.plan.num_workers,
        prefetch_batches=loader.plan.prefetch_batches,
        batches=meter.measured,
        wait_ns=meter.wait_ns,
        busy_ns=meter.busy_ns,
        whole_ns=clock_ns() - began_ns,
        times=tuple(work.recent)[-meter.measured :],
    )


class _Meter:
    """Adds waits up, once as many batches have gone by as are made ahead."""

    def __init__(self, in_flight: int, deadline_ns: int, clock_ns: Callable[[], int]) -> None:
        self._to_settle = in_flight + 2
        self._deadline_ns = deadline_ns
        self._began_ns = clock_ns()
        self._seen = 0
        self.measured = self.wait_ns = self.busy_ns = 0
        self.is_done = False

    def add(self, wait_ns: int, busy_ns: int, now_ns: int) -> None:
        """Take in one batch."""
        self._seen += 1
        late = now_ns >= self._deadline_ns
        slow = now_ns - self._began_ns > SETTLED_NS or late
        if self._seen <= (min(2, self._to_settle) if slow else self._to_settle):
            return
        self.measured += 1
        self.wait_ns += wait_ns
        self.busy_ns += busy_ns
        spent_ns = self.wait_ns + self.busy_ns
        wanted = BATCHES if spent_ns < LONGEST_NS else FEWEST_BATCHES
        is_long_enough = spent_ns >= MEASURED_NS and self.measured >= wanted
        self.is_done = is_long_enough or (late and self.measured >= LAST_CHANCE)


def _batches(loader: FastDataLoader) -> Generator[Any, None, None]:
    """Every batch of pass after pass; a pass without any ends it."""
    while True:
        began = False
        with closing(cast(Generator[Any, None, None], iter(loader))) as batches:
            for batch in batches:
                began = True
                yield batch
        if not began:
            return
