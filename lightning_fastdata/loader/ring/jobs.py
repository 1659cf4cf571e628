"""What the nursery knows of the batches under way: their chunks, and what came of each."""

import itertools
import math
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from lightning_fastdata.loader.ring.messages import (
    SEED_BYTES,
    BadRow,
    BadSamples,
    BatchDone,
    Chunk,
    ChunkDone,
    Failure,
    NeedsRoom,
    NeedsWhole,
    Result,
)
from lightning_fastdata.loader.ring.rows import WrittenRows
from lightning_fastdata.loader.ring.times import NO_TIMES
from lightning_fastdata.trace.work import ChunkTimes

LEAST_CHUNK_NS = 2_000_000  # of work in a chunk: handing it out and back takes about 0.1 ms
FIRST_CUTS = 4  # of each worker's fair share, until it is known what a sample costs
WHOLE_AFTER = 2  # batches that turned out to need one worker, before none is cut any more
TOO_MUCH_BLAME = 10
OWN_BLAME, OUTSIDE_BLAME = 5, 2  # twice its own doing, or five times killed by who knows whom


@dataclass(kw_only=True, slots=True)
class _Job:
    batch: Chunk
    waiting: set[int]
    """The first rows of chunks that have not been answered."""
    done: list[ChunkDone] = field(default_factory=list)
    blame: Counter[int | None] = field(default_factory=Counter)
    """What workers have ended at, by row; ``None`` is what is done with the batch as a whole."""


class Jobs:
    """Cuts batches into chunks and puts the answers together.

    Args:
        chunk_samples: Rows a chunk; ``None`` goes by how long a sample takes.
        finds_all_bad: Whether a batch with a bad sample is made to its end, to find the others.
    """

    def __init__(self, chunk_samples: int | None, *, finds_all_bad: bool = False) -> None:
        self._finds_all_bad = finds_all_bad
        self.ready: deque[Chunk] = deque()
        """Chunks that wait for a worker, the oldest first."""
        self._chunk_samples = chunk_samples
        self._jobs: dict[int, _Job] = {}
        self._sample_ns: float | None = None
        self._turned_whole = 0

    def add(self, batch: Chunk, num_workers: int) -> None:
        """Take a batch in, and cut it where several workers can write it."""
        if batch.mode == "rows" and self._turned_whole >= WHOLE_AFTER:
            batch = batch._replace(mode="whole")
        cuts = self._cuts(batch, num_workers)
        self._jobs[batch.number] = _Job(batch=batch, waiting={cut.first_row for cut in cuts})
        self.ready.extend(cuts)

    def settle(self, done: ChunkDone, *, is_given_up: bool = False) -> BatchDone | None:
        """Take an answer in; give the batch's, once all of it has come and is still wanted.

        Args:
            done: The answer.
            is_given_up: Whether nobody will make the chunk, which has been waited for long enough.
        """
        job = self._jobs.get(done.number)
        if job is None:
            return None
        job.done.append(done)
        job.waiting.discard(done.first_row)
        failed = None if self._finds_all_bad else done if is_given_up else _first_failed(job)
        if failed is not None:
            # Its slot is not used again, so what is under way of it does no harm.
            job.done, job.waiting = [failed], set()
            self.ready = deque(chunk for chunk in self.ready if chunk.number != done.number)
        if job.waiting:
            return None
        result = _together(job)
        if isinstance(result, NeedsWhole) and job.batch.mode == "rows":
            self._turned_whole += 1
            job.batch = job.batch._replace(mode="whole")
            job.waiting, job.done = {job.batch.first_row}, []
            self.ready.appendleft(job.batch)
            return None
        del self._jobs[done.number]
        times = tuple(part.times for part in job.done)
        if isinstance(result, WrittenRows):
            self._learn(times)
        return BatchDone(done.number, result, times, time.perf_counter_ns())

    def forget(self, batches: set[int]) -> None:
        """Drop batches that will not be made."""
        for number in batches:
            self._jobs.pop(number, None)
        self.ready = deque(chunk for chunk in self.ready if chunk.number not in batches)

    def give_up(self, chunk: Chunk, result: Result) -> BatchDone | None:
        """Answer for a chunk that nobody will make."""
        answer = ChunkDone(chunk.number, chunk.first_row, result, NO_TIMES, None)
        return self.settle(answer, is_given_up=True)

    def give_back(self, chunk: Chunk) -> None:
        """Take a chunk back whose worker ended before it began; it is the next to be made."""
        if chunk.number in self._jobs:  # else its batch was answered, and its slot may be gone
            self.ready.appendleft(chunk)

    def retry(
        self, chunk: Chunk, row: int | None, blame: int, failure: Failure
    ) -> BatchDone | None:
        """Let a chunk be made again whose worker ended at it, or give it up.

        Args:
            chunk: What the worker was at.
            row: The sample of it, from 0 on; ``None`` where it was no single sample.
            blame: How likely it is that the sample was the cause; it adds up.
            failure: The batch's answer, if it is given up.
        """
        job = self._jobs.get(chunk.number)
        if job is None:
            return None
        blamed = None if row is None else chunk.first_row + row
        job.blame[blamed] += blame
        if job.blame[blamed] >= TOO_MUCH_BLAME and row is None and self._asks_singly(chunk):
            job.blame.clear()
            chunk = chunk._replace(singly=True)
        elif job.blame[blamed] >= TOO_MUCH_BLAME:
            result = failure if row is None else BadSamples((BadRow(row, failure),))
            return self.give_up(chunk, result)
        parts = _around(chunk, row)
        job.waiting |= {part.first_row for part in parts}
        self.ready.extendleft(reversed(parts))
        return None

    def _asks_singly(self, chunk: Chunk) -> bool:
        """Whether it is worth to find the one that ends workers among samples made at one go."""
        return self._finds_all_bad and not chunk.singly and len(chunk.seeds) > SEED_BYTES

    def _cuts(self, batch: Chunk, num_workers: int) -> list[Chunk]:
        size = batch.batch_size
        rows = self._rows_a_chunk(size, num_workers)
        if batch.mode != "rows" or batch.are_keys or rows >= size:
            return [batch]
        return [_part(batch, row, row + rows) for row in range(0, size, rows)]

    def _rows_a_chunk(self, batch_size: int, num_workers: int) -> int:
        if self._chunk_samples is not None:
            return self._chunk_samples
        fair = math.ceil(batch_size / num_workers)
        if self._sample_ns is None:  # workers start one after the other: the first takes more
            return math.ceil(fair / FIRST_CUTS)
        worth_it = math.ceil(LEAST_CHUNK_NS / self._sample_ns)
        # A rest of a few rows would cost a message and save nothing.
        return batch_size if 2 * worth_it > batch_size else max(fair, worth_it)

    def _learn(self, times: tuple[ChunkTimes, ...]) -> None:
        spent_ns = sum(part.ended_ns - part.began_ns for part in times)
        latest = max(1.0, spent_ns / sum(part.samples for part in times))
        self._sample_ns = latest if self._sample_ns is None else (self._sample_ns + latest) / 2


def _part(chunk: Chunk, start: int, stop: int) -> Chunk:
    """The samples ``start`` to ``stop`` of a chunk."""
    return chunk._replace(
        first_row=chunk.first_row + start,
        indices=chunk.indices[start * SEED_BYTES : stop * SEED_BYTES],
        seeds=chunk.seeds[start * SEED_BYTES : stop * SEED_BYTES],
    )


def _around(chunk: Chunk, row: int | None) -> list[Chunk]:
    """Cut a suspect out, so that it is alone when a worker ends at it once more."""
    samples = len(chunk.seeds) // SEED_BYTES
    if row is None or chunk.mode != "rows" or chunk.are_keys:
        return [chunk]
    bounds = ((0, row), (row, row + 1), (row + 1, samples))
    return [_part(chunk, start, stop) for start, stop in bounds if start < stop]


def _first_failed(job: _Job) -> ChunkDone | None:
    """The chunk that has failed before which nothing is left to be answered, if there is one.

    Not just any: which of two bad samples is named must not depend on who is quicker.
    """
    failed = [part for part in job.done if isinstance(part.result, (Failure, BadSamples))]
    first = min(failed, key=lambda part: part.first_row, default=None)
    if first is None or any(row < first.first_row for row in job.waiting):
        return None
    return first


def _together(job: _Job) -> Result:
    """What the answers to a batch's chunks come to."""
    parts = sorted(job.done, key=lambda part: part.first_row)
    for part in parts:
        if isinstance(part.result, Failure):
            return part.result
    bad = [
        bad._replace(row=part.first_row + bad.row)
        for part in parts
        if isinstance(part.result, BadSamples)
        for bad in part.result.rows
    ]
    if bad:
        return BadSamples(tuple(bad))
    for kind in (NeedsRoom, NeedsWhole):
        for part in parts:
            if isinstance(part.result, kind):
                return part.result
    if len(parts) == 1:
        return parts[0].result
    rows = [part.result for part in parts if isinstance(part.result, WrittenRows)]
    if any(part.layout != rows[0].layout for part in rows):
        return NeedsWhole()  # collating them all in one place names the sample that differs
    columns = zip(*(part.texts for part in rows), strict=True)
    texts = [list(itertools.chain.from_iterable(column)) for column in columns]
    return WrittenRows(rows[0].layout, texts)
