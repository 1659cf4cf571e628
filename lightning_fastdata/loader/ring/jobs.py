"""What the nursery knows of the batches under way: their chunks, and what came of each."""

import itertools
import math
import time
from collections import deque
from dataclasses import dataclass, field

from lightning_fastdata.loader.ring.messages import (
    SEED_BYTES,
    BatchDone,
    Chunk,
    ChunkDone,
    Failure,
    NeedsRoom,
    NeedsWhole,
    Result,
)
from lightning_fastdata.loader.ring.rows import WrittenRows
from lightning_fastdata.loader.ring.times import ChunkTimes

LEAST_CHUNK_NS = 2_000_000  # of work in a chunk: handing it out and back takes about 0.1 ms
FIRST_CUTS = 4  # of each worker's fair share, until it is known what a sample costs
WHOLE_AFTER = 2  # batches that turned out to need one worker, before none is cut any more


@dataclass(kw_only=True, slots=True)
class _Job:
    batch: Chunk
    waiting_for: int
    done: list[ChunkDone] = field(default_factory=list)


class Jobs:
    """Cuts batches into chunks and puts the answers together.

    Args:
        chunk_samples: Rows a chunk; ``None`` goes by how long a sample takes.
    """

    def __init__(self, chunk_samples: int | None) -> None:
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
        self._jobs[batch.number] = _Job(batch=batch, waiting_for=len(cuts))
        self.ready.extend(cuts)

    def settle(self, done: ChunkDone) -> BatchDone | None:
        """Take an answer in; give the batch's, once all of it has come and is still wanted."""
        job = self._jobs.get(done.number)
        if job is None:
            return None
        job.done.append(done)
        job.waiting_for -= 1
        if job.waiting_for:
            return None
        result = _together(job)
        if isinstance(result, NeedsWhole) and job.batch.mode == "rows":
            self._turned_whole += 1
            job.batch = job.batch._replace(mode="whole")
            job.waiting_for, job.done = 1, []
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

    def _cuts(self, batch: Chunk, num_workers: int) -> list[Chunk]:
        size = batch.batch_size
        rows = self._rows_a_chunk(size, num_workers)
        if batch.mode != "rows" or batch.are_keys or rows >= size:
            return [batch]
        return [
            batch._replace(
                first_row=row,
                indices=batch.indices[row * SEED_BYTES : (row + rows) * SEED_BYTES],
                seeds=batch.seeds[row * SEED_BYTES : (row + rows) * SEED_BYTES],
            )
            for row in range(0, size, rows)
        ]

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


def _together(job: _Job) -> Result:
    """What the answers to a batch's chunks come to."""
    parts = sorted(job.done, key=lambda part: part.first_row)
    for kind in (Failure, NeedsRoom, NeedsWhole):
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
