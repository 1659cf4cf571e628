"""What one batch costs, found by making a few samples of it."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lightning_fastdata.order import EpochKey, permute
from lightning_fastdata.tuning.calls import Call, Noted, each_sample, over_ns
from lightning_fastdata.tuning.facts import COLD, ProbeFacts, count_bytes

__all__ = ["LeftOutError", "ProbeFacts", "count_bytes", "probe_batches"]

MIN_SAMPLES, FEW_SAMPLES = 3, 24  # guess: the spread of JPEG sizes shows from about ten on
MAX_SAMPLES = 256  # guess: of 24, a fifth of the time, none is among the slowest 6 %
BUDGET_NS = 400_000_000  # of reading single samples; a slow disk is then seen with three
AGAIN_NS = 100_000_000  # of reading some once more; no fewer than three, again
WHOLE_BATCH_NS = 100_000_000  # a batch expected to take less is measured whole
TOGETHER, SMALL = 8, 0.03  # guess: what is less than that share of a sample does not matter
HICCUP_NS = 5_000_000  # guess: storage that is slow now and then is so for longer
HICCUP = 4.0  # times the usual sample; such a short one is made again, to see whether it was that
MOST_HICCUPS = 8  # that are looked into


class LeftOutError(Exception):
    """Some of the samples cannot be made; the others may be tried.

    Args:
        left: These others.
    """

    def __init__(self, left: Sequence[int]) -> None:
        super().__init__(f"{len(left)} samples can be made")
        self.left = left


def probe_batches(
    make: Callable[[Sequence[int]], Any],
    *,
    length: int,
    batch_size: int,
    reads_whole: bool,
    noted: Callable[[], Noted] = Noted,
) -> ProbeFacts | None:
    """Measure what a batch costs in this process.

    Args:
        make: Makes the batch of the given samples; raises ``LeftOutError`` where bad ones are to be
            left out.
        length: Samples in the dataset, 1 or more.
        batch_size: Samples a batch.
        reads_whole: Whether the dataset makes a batch at one go, so that only whole ones tell.
        noted: Says what was seen inside of the last call of ``make``.

    Returns:
        Costs scaled to one batch; ``None`` if no sample could be made. The first call is left out:
        it pays for imports and caches. Time without a free core is taken out.
    """
    size = min(batch_size, length)
    count = min(length, 3 * size + MAX_SAMPLES)
    drawn = permute(np.arange(count), length, EpochKey(seed=0, epoch=0)).tolist()
    prober = _Prober(make, noted, drawn, size)
    if reads_whole:
        prober.read_whole()
    else:
        prober.read_singly()
    return prober.facts(batch_size, length)


class _Prober:
    """Reads samples, within its budget of time, and keeps what each call cost."""

    def __init__(
        self,
        make: Callable[[Sequence[int]], Any],
        noted: Callable[[], Noted],
        drawn: Sequence[int],
        size: int,
    ) -> None:
        self._make, self._noted = make, noted
        self._drawn, self._size = drawn, size
        self._first: Call | None = None
        self._singles: list[Call] = []
        self._batches: list[Call] = []
        self._few: list[Call] = []
        self._together: Call | None = None
        """Some samples at one go, where whole batches take too long."""
        self._again: list[tuple[Call, Call]] = []
        """Cost of the same samples, the first time and the second."""
        self._hiccups: dict[int, float] = {}
        """The true time of samples that once took longer by chance."""

    def read_whole(self) -> None:
        """Measure a dataset that makes a batch at one go."""
        size, drawn = self._size, self._drawn
        few = min(size, MIN_SAMPLES)
        self._first = self._cost(drawn[:few])
        second = self._cost(drawn[few : 2 * few] or drawn[:few])
        if second is not None and second.wall_ns * size > BUDGET_NS * few:
            self._few.append(second)
            self._read_again(self._few)
            return
        batches = (self._cost(drawn[k * size : (k + 1) * size] or drawn[:size]) for k in (1, 2))
        self._batches = [cost for cost in batches if cost is not None]
        self._read_again(self._batches[:1])

    def read_singly(self) -> None:
        """Measure single samples, then whole batches where these are quick."""
        size, drawn = self._size, self._drawn
        places = iter(range(len(drawn)))
        self._read_singles(places, FEW_SAMPLES)
        again = list(self._singles)
        if not again:
            return
        expected_ns = statistics.mean(cost.wall_ns for cost in again) * size
        if expected_ns <= WHOLE_BATCH_NS:
            taken = next(places, 0)
            for k in range(3):
                indices = drawn[taken + k * size : taken + (k + 1) * size] or drawn[:size]
                if (cost := self._cost(indices)) is not None:
                    self._batches.append(cost)
            places = iter(range(taken + 3 * size, len(drawn)))
        known = len(again) + sum(len(cost.noted.sample_ns) for cost in self._batches)
        self._read_singles(places, MAX_SAMPLES - known)
        self._read_again(again)
        if not self._batches:
            self._make_some_together()
        self._look_into_hiccups()

    def _read_singles(self, places: Any, most: int) -> None:
        spent_ns = sum(cost.wall_ns for cost in self._singles)
        read = 0
        while read < most and (spent_ns <= BUDGET_NS or len(self._singles) < MIN_SAMPLES - 1):
            place = next(places, None)
            if place is None:
                return
            cost = self._cost([self._drawn[place]])
            if cost is None:
                continue
            read += 1
            spent_ns += cost.wall_ns
            if self._first is None:
                self._first = cost
            else:
                self._singles.append(cost)

    def _read_again(self, costs: Sequence[Call]) -> None:
        spent_ns = 0.0
        for before in costs[:FEW_SAMPLES]:
            if spent_ns > AGAIN_NS and len(self._again) >= MIN_SAMPLES:
                return
            after = self._cost(before.indices)
            if after is not None:
                spent_ns += after.wall_ns
                self._again.append((before, after))

    def _look_into_hiccups(self) -> None:
        """Make short samples again that were slow: on a busy machine any of them may be for once.

        One that is slow by its own doing is so again. Where all files come faster the second time,
        nothing can be told.
        """
        samples = [each for cost in (*self._singles, *self._batches) for each in each_sample(cost)]
        warm = self._warm_ns(1.0)
        if not samples or warm is None or warm * COLD < 1.0:
            return
        usual_ns = statistics.median(ns for _, ns in samples)
        slow = [each for each in samples if HICCUP * usual_ns < each[1] < HICCUP_NS]
        for index, sample_ns in sorted(slow, key=lambda each: -each[1])[:MOST_HICCUPS]:
            cost = self._cost([index])
            if cost is not None and cost.wall_ns < sample_ns / 2:
                self._hiccups[index] = min(cost.wall_ns, *(ns for _, ns in each_sample(cost)))

    def _cost(self, indices: Sequence[int]) -> Call | None:
        """What as many samples cost; ``None`` if none of them can be made."""
        wanted = len(indices)
        while indices:
            cpu_ns, wall_ns = time.process_time_ns(), time.perf_counter_ns()
            try:
                batch = self._make(indices)
            except LeftOutError as error:
                indices = error.left
                continue
            wall_ns, cpu_ns = time.perf_counter_ns() - wall_ns, time.process_time_ns() - cpu_ns
            noted = self._noted()
            scale = wanted / len(indices)
            return Call(
                rows=wanted,
                indices=tuple(indices),
                wall_ns=max(wall_ns - noted.core_wait_ns, 1) * scale,
                cpu_ns=cpu_ns * scale,
                size_bytes=count_bytes(batch) * scale,
                noted=noted,
            )
        return None

    def facts(self, batch_size: int, length: int) -> ProbeFacts | None:
        """Put together what was measured."""
        first = [] if self._first is None else [self._first]
        told = self._batches or self._few or self._singles or first
        if not told:
            return None
        singles = self._singles or ([] if self._batches or self._few else first)
        sample_ns, whole_ns = self._by_sample(singles, batch_size)
        if sample_ns:
            wall_ns = statistics.mean(sample_ns) * batch_size + whole_ns
        else:
            wall_ns = statistics.median(cost.wall_ns / cost.rows for cost in told) * batch_size
        warm_ns = self._warm_ns(wall_ns)
        # By the same calls: computing is as much of the time as it was of theirs.
        told_ns = sum(cost.wall_ns for cost in told)
        rows = sum(cost.rows for cost in told)
        reads = [cost.noted.read_bytes for cost in told]
        known = [read for read in reads if read is not None]
        return ProbeFacts(
            samples=rows + (sum(cost.rows for cost in singles) if self._batches else 0),
            batch_wall_ns=round(wall_ns),
            batch_cpu_ns=round(sum(cost.cpu_ns for cost in told) / told_ns * wall_ns),
            batch_bytes=round(sum(cost.size_bytes for cost in told) / rows * batch_size),
            sample_ns=tuple(round(each) for each in sample_ns),
            whole_ns=round(whole_ns),
            read_bytes=round(sum(known) / rows * batch_size) if len(known) == len(told) else None,
            warm_batch_wall_ns=None if warm_ns is None else round(warm_ns),
            length=length,
        )

    def _by_sample(self, singles: Sequence[Call], batch_size: int) -> tuple[list[float], float]:
        """The time of each sample, and what a batch takes beyond its samples."""
        batches = self._batches
        if any(cost.noted.sample_ns for cost in batches):
            alone = self._alone((*singles, *batches))
            beyond_ns = statistics.median(over_ns(cost) for cost in batches)
            return alone, beyond_ns * batch_size / self._size
        if not singles:
            return [], 0.0
        alone = self._alone(singles)
        if not batches:
            return alone, self._unmeasured_whole_ns(singles, batch_size)
        # A call for one sample pays what a batch pays once; which of the two it is shows by the
        # usual sample, since a batch may have none of the slow ones.
        row_ns = statistics.median(cost.wall_ns for cost in batches) / self._size
        lower_ns = min(0.0, row_ns - statistics.median(alone))
        alone = [max(1.0, ns + lower_ns) for ns in alone]
        return alone, max(0.0, row_ns - statistics.mean(alone)) * batch_size

    def _unmeasured_whole_ns(self, singles: Sequence[Call], batch_size: int) -> float:
        """What a batch takes beyond its samples, by calls for one sample and one for several."""
        one_ns = statistics.median(over_ns(cost) for cost in singles)
        if self._together is None:
            return one_ns * batch_size
        more = self._together.rows - 1
        row_ns = min(one_ns, max(0.0, (over_ns(self._together) - one_ns) / more))
        return one_ns - row_ns + row_ns * batch_size

    def _make_some_together(self) -> None:
        """Find out what putting samples together costs, where it is not next to nothing."""
        beyond_ns = statistics.median(over_ns(cost) for cost in self._singles)
        usual_ns = statistics.median(cost.wall_ns for cost in self._singles)
        some = [cost.indices[0] for cost in self._singles][: min(self._size, TOGETHER)]
        if len(some) > 1 and beyond_ns > SMALL * usual_ns:
            self._together = self._cost(some)

    def _alone(self, costs: Sequence[Call]) -> list[float]:
        return [self._hiccups.get(index, ns) for cost in costs for index, ns in each_sample(cost)]

    def _warm_ns(self, wall_ns: float) -> float | None:
        if not self._again:
            return None
        before_ns = sum(before.wall_ns for before, _ in self._again)
        after_ns = sum(after.wall_ns for _, after in self._again)
        return wall_ns * min(1.0, after_ns / before_ns)
