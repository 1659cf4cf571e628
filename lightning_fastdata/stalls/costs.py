"""What a recorded batch costs a worker, with or without what held the worker up."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from lightning_fastdata.trace import BatchTimes, ChunkTimes
from lightning_fastdata.tuning.replay import Span

SET_APART = 2.0  # times the usual: such rows are replayed one by one (guess)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What is kept of the recorded costs; the rest is taken away, to see what it costs."""

    slow_from: float | None = None
    """Samples of so many times the usual time take the usual time; ``None``: they are kept."""
    blocked: bool = True
    """Else time in which a worker neither computed nor waited for a core takes none."""
    core_wait: bool = True
    """Else a worker always has a core."""
    factor: float = 1.0


EVERYTHING = Kept()


def spans_of(batch: BatchTimes, kept: Kept, usual_ns: int) -> list[Span]:
    """What a batch costs; rows of about the usual time are one span, which replays faster."""
    spans: list[Span] = []
    plain_rows, plain_ns = 0, 0.0
    for rows, time_ns in _pieces(batch, kept, usual_ns):
        if time_ns < SET_APART * usual_ns * rows:
            plain_rows, plain_ns = plain_rows + rows, plain_ns + time_ns
            continue
        if plain_rows:
            spans.append(Span(plain_rows, round(plain_ns)))
        spans.append(Span(rows, round(time_ns)))
        plain_rows, plain_ns = 0, 0.0
    if plain_rows:
        spans.append(Span(plain_rows, round(plain_ns)))
    return spans


def _pieces(batch: BatchTimes, kept: Kept, usual_ns: int) -> Iterator[tuple[int, float]]:
    """Consecutive rows and their time: each chunk, less its known rows, and each of those."""
    slow_ns = float("inf") if kept.slow_from is None else kept.slow_from * usual_ns
    for chunk in sorted(batch.chunks, key=lambda each: each.first_row):
        wall_ns = max(0, chunk.ended_ns - chunk.began_ns)
        samples = max(1, chunk.samples)
        known = [(row, ns) for row, ns in _known_rows(chunk) if ns >= SET_APART * usual_ns]
        slow = {row for row, ns in known if is_slow(chunk, ns, slow_ns, usual_ns)}
        over_ns = sum(ns - usual_ns for row, ns in known if row in slow)
        factor = _factor(chunk, wall_ns, over_ns, kept)
        rest_rows = samples - len(known)
        row_ns = (wall_ns - sum(ns for _, ns in known)) * factor / max(1, rest_rows)
        next_row = chunk.first_row
        for row, ns in known:
            if row > next_row:
                yield row - next_row, row_ns * (row - next_row)
            yield 1, (usual_ns if row in slow else ns) * factor
            next_row = row + 1
        if chunk.first_row + samples > next_row:
            left = chunk.first_row + samples - next_row
            yield left, row_ns * left


def is_slow(chunk: ChunkTimes, sample_ns: int, slow_ns: float, usual_ns: float) -> bool:
    """Whether a sample is slow by its own doing, and not because its worker waited for a core.

    Which of a chunk's samples waited is not known: each might have waited all of that time.
    """
    own_ns = sample_ns - (chunk.core_wait_ns or 0)
    return sample_ns >= slow_ns and own_ns >= SET_APART * usual_ns


def _factor(chunk: ChunkTimes, wall_ns: int, over_ns: int, kept: Kept) -> float:
    """What is left of a chunk's time, slow samples' excess set aside as time that was blocked."""
    core_wait_ns = min(chunk.core_wait_ns or 0, wall_ns)
    blocked_ns = max(0, wall_ns - chunk.cpu_ns - core_wait_ns - over_ns)
    left_ns = whole_ns = max(1, wall_ns - over_ns)
    if not kept.core_wait:
        left_ns -= min(core_wait_ns, left_ns)
    if not kept.blocked:
        left_ns -= min(blocked_ns, left_ns)
    return kept.factor * left_ns / whole_ns


def _known_rows(chunk: ChunkTimes) -> list[tuple[int, int]]:
    """Rows whose own time is known, in order; none that does not fit the chunk's time."""
    rows = range(chunk.first_row, chunk.first_row + max(1, chunk.samples))
    known: dict[int, int] = {}
    left_ns = max(0, chunk.ended_ns - chunk.began_ns)
    for row, _, sample_ns in chunk.slowest:
        if row in rows and row not in known and 0 <= sample_ns <= left_ns:
            known[row] = sample_ns
            left_ns -= sample_ns
    if len(known) == len(rows):  # collating and the like is nobody's: the rows share it
        known = {row: ns + left_ns // len(known) for row, ns in known.items()}
    return sorted(known.items())


def usual_row_ns(chunk: ChunkTimes) -> float:
    """The mean time of a chunk's samples, its slowest set aside."""
    known = _known_rows(chunk)
    rows = max(1, chunk.samples) - len(known)
    if rows <= 0:
        return median(row_ns for _, row_ns in known)
    wall_ns = max(0, chunk.ended_ns - chunk.began_ns)
    return (wall_ns - sum(row_ns for _, row_ns in known)) / rows
