"""What one loader did in one run, in the form in which it can be replayed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from statistics import median

from lightning_fastdata.stalls.costs import EVERYTHING, Kept, is_slow, spans_of, usual_row_ns
from lightning_fastdata.stalls.passes import passes_of
from lightning_fastdata.stalls.work_figures import made_ns
from lightning_fastdata.trace import BatchTimes, ChunkTimes, LoaderRecord, Part, StallTrace
from lightning_fastdata.tuning.replay import BatchCost, Span

MOST_BATCHES = 1024  # of the newest: a replay of so many takes about 10 ms
MOST_CHUNKS = 4096
FEWEST_BATCHES = 4  # guess: fewer are all edge
FEWEST_SINCE_CHANGE = FEWEST_BATCHES + 32  # guess: fewer say less than a mixture with those before
QUICK_GAP = 0.25
"""The quantile of the times between two batches that the host needs by itself on a CUDA device: the
longer ones hold it up until the device has done earlier work. Guess."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """Consecutive batches of one pass, the first of which comes from empty queues."""

    batches: tuple[BatchTimes, ...]
    gaps_ns: tuple[int, ...]
    """From having each batch to wanting the next; the last is the mean of the others."""
    validation_ns: tuple[int, ...]
    """How much of each gap was validation."""


@dataclass(frozen=True)
class Workload:
    """Batches, what they cost, and what training did between them."""

    loader: LoaderRecord
    passes: tuple[Pass, ...]
    device_ns: tuple[int, ...] | None
    """A device's time a step, where it runs beside the host."""
    device_stall_ns: float | None = None
    """What the device lost a step, by its mean; ``None`` where it does not run beside the host."""

    @cached_property
    def chunks(self) -> list[ChunkTimes]:
        """All chunks."""
        batches = chain.from_iterable(each.batches for each in self.passes)
        return [chunk for batch in batches for chunk in batch.chunks]

    @cached_property
    def usual_row_ns(self) -> int:
        """The median sample's time, slow ones set aside."""
        return int(median(usual_row_ns(chunk) for chunk in self.chunks))

    @cached_property
    def steady(self) -> list[BatchTimes]:
        """All batches but the first of each pass."""
        return [batch for each in self.passes for batch in each.batches[1:]]

    @cached_property
    def lost_ns(self) -> float:
        """What a steady step lost, by its mean: the device's time, else the host's wait."""
        if self.device_stall_ns is not None:
            return self.device_stall_ns
        waited_ns = sum(batch.taken_ns - batch.wanted_ns for batch in self.steady)
        return waited_ns / max(1, len(self.steady))

    @cached_property
    def next_ns(self) -> int:
        """What taking a batch costs that has arrived; 0 without workers."""
        return _median(
            batch.taken_ns - max(batch.wanted_ns, _arrived_ns(batch))
            for batch in self.steady
            if self.loader.setup.num_workers and batch.chunks
        )

    @cached_property
    def transit_ns(self) -> int:
        """From the end of a batch in a worker to its arrival; 0 where that is not known."""
        return _median(
            batch.arrived_ns - made_ns(batch)
            for batch in self.steady
            if self.loader.setup.num_workers and batch.chunks and batch.arrived_ns is not None
        )

    @cached_property
    def handed_fraction(self) -> float:
        """Share of all waiting (the host's) for batches that workers had made already."""
        known = [batch for batch in self.steady if batch.chunks]
        waited_ns = sum(batch.taken_ns - batch.wanted_ns for batch in known)
        return min(1.0, self.handed_ns * len(known) / waited_ns) if waited_ns > 0 else 0.0

    @cached_property
    def handed_ns(self) -> float:
        """That waiting a step, by its mean; 0 without workers."""
        known = [batch for batch in self.steady if batch.chunks]
        if not known or not self.loader.setup.num_workers:
            return 0.0
        each_ns = (batch.taken_ns - max(batch.wanted_ns, made_ns(batch)) for batch in known)
        return sum(max(0, handed_ns) for handed_ns in each_ns) / len(known)

    def slow_fraction(self, times: float) -> float:
        """Share of the samples that took so many times the usual, as far as they were noted."""
        slow = len(self.slow_rows_ns(times))
        return slow / max(1, sum(chunk.samples for chunk in self.chunks))

    def slow_rows_ns(self, times: float) -> list[int]:
        """Return the times of samples that took so many times the usual by their own doing."""
        usual_ns = self.usual_row_ns
        return [
            ns
            for chunk in self.chunks
            for *_, ns in chunk.slowest
            if is_slow(chunk, ns, times * usual_ns, usual_ns)
        ]

    @cached_property
    def work_ns(self) -> float:
        """The mean time to make a batch."""
        batches = sum(len(each.batches) for each in self.passes)
        return sum(chunk.ended_ns - chunk.began_ns for chunk in self.chunks) / max(1, batches)

    def costs(self, kept: Kept = EVERYTHING) -> list[list[BatchCost]]:
        """Return what each batch costs a worker, by pass."""
        usual = BatchCost(spans=(Span(1, max(0, round(self.work_ns * kept.factor))),))
        row_ns = self.usual_row_ns
        return [
            [
                BatchCost(spans=tuple(spans)) if (spans := spans_of(batch, kept, row_ns)) else usual
                for batch in each.batches
            ]
            for each in self.passes
        ]


def workload_of(
    loader: LoaderRecord, stall: StallTrace, *, is_drained: bool, passes_left_out: int = 0
) -> Workload | None:
    """Return what a loader did; ``None`` where too little is known of it.

    Args:
        loader: The loader's record.
        stall: What training did meanwhile.
        is_drained: Whether the device had nothing left to do at nearly each fetch, so that the
            host's own times are all there is.
        passes_left_out: Of those that are recorded in full, the oldest.
    """
    newest = _newest(loader, passes_left_out)
    validations = [
        (began_ns, ended_ns)
        for step in stall.recent
        for part, began_ns, ended_ns in step.spans
        if part is Part.VALIDATION
    ]
    passes = [_pass(batches, validations) for batches in newest if len(batches) > 1]
    known = sum(1 for each in passes for batch in each.batches if batch.chunks)
    if known < FEWEST_BATCHES:
        return None
    device_ns, device_stall_ns = None, None
    if stall.clock == "cuda" and not is_drained and stall.recent:
        device_ns = tuple(
            max(0, sum(step.parts_ns) - step.parts_ns[Part.WAIT] - step.parts_ns[Part.VALIDATION])
            for step in stall.recent
        )
        device_stall_ns = sum(step.parts_ns[Part.WAIT] for step in stall.recent) / len(stall.recent)
        passes = [_as_the_host_would(each) for each in passes]
    return Workload(
        loader=loader,
        passes=tuple(passes),
        device_ns=device_ns,
        device_stall_ns=device_stall_ns,
    )


def _newest(loader: LoaderRecord, passes_left_out: int) -> list[list[BatchTimes]]:
    passes = passes_of(loader.work.recent)
    if loader.work.totals.batches == len(loader.work.recent):
        passes = passes[passes_left_out:]
    batches = _since_last_change(loader, [batch for each in passes for batch in each])
    taken = chunks = 0
    for batch in reversed(batches[-MOST_BATCHES:]):
        chunks += len(batch.chunks)
        if chunks > MOST_CHUNKS:
            break
        taken += 1
    return passes_of(_with_inline_work(loader, batch) for batch in batches[len(batches) - taken :])


def _since_last_change(loader: LoaderRecord, batches: list[BatchTimes]) -> list[BatchTimes]:
    """Leave out what was asked of another number of workers, where enough is left."""
    if not loader.changes:
        return batches
    since_ns = loader.changes[-1].at_ns
    newer = [batch for batch in batches if batch.asked_ns > since_ns]
    return newer if len(newer) >= FEWEST_SINCE_CHANGE else batches


def _with_inline_work(loader: LoaderRecord, batch: BatchTimes) -> BatchTimes:
    """Without workers, what a batch costs is what the loop waits for it."""
    if loader.setup.num_workers or batch.chunks:
        return batch
    chunk = ChunkTimes(
        worker=None,
        samples=loader.setup.batch_size or 1,
        began_ns=batch.wanted_ns,
        ended_ns=batch.taken_ns,
        cpu_ns=batch.taken_ns - batch.wanted_ns,
        page_faults=0,
        read_bytes=0,
    )
    return batch._replace(chunks=(chunk,))


def _pass(batches: Sequence[BatchTimes], validations: list[tuple[int, int]]) -> Pass:
    gaps_ns = [max(0, after.wanted_ns - before.taken_ns) for before, after in pairwise(batches)]
    validation_ns = [0] * len(batches)
    place = 0
    for began_ns, ended_ns in validations:
        while place < len(gaps_ns) and batches[place + 1].wanted_ns <= began_ns:
            place += 1
        if place < len(gaps_ns) and batches[place].taken_ns <= began_ns:
            validation_ns[place] += min(ended_ns - began_ns, gaps_ns[place] - validation_ns[place])
    gaps_ns.append(sum(gaps_ns) // len(gaps_ns))
    return Pass(batches=tuple(batches), gaps_ns=tuple(gaps_ns), validation_ns=tuple(validation_ns))


def _as_the_host_would(each: Pass) -> Pass:
    own_ns = sorted(
        gap_ns - validation_ns
        for gap_ns, validation_ns in zip(each.gaps_ns, each.validation_ns, strict=True)
    )
    quick_ns = own_ns[int(QUICK_GAP * (len(own_ns) - 1))]
    return Pass(
        batches=each.batches,
        gaps_ns=tuple(quick_ns + validation_ns for validation_ns in each.validation_ns),
        validation_ns=each.validation_ns,
    )


def _arrived_ns(batch: BatchTimes) -> int:
    return made_ns(batch) if batch.arrived_ns is None else batch.arrived_ns


def _median(values: Iterator[int]) -> int:
    known = [max(0, value) for value in values]
    return int(median(known)) if known else 0
