"""What batches cost, in the form that is replayed: drawn from a probe, or read off a pool."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import median

import numpy as np
import numpy.typing as npt

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.trace import BatchTimes, ChunkTimes
from lightning_fastdata.tuning.forecast import Supply
from lightning_fastdata.tuning.probe import ProbeFacts
from lightning_fastdata.tuning.replay import BatchCost, Span, handing_ns_of

DRAWN_BATCHES = 192  # replayed in about 2 ms
SLOW = 4.0  # times the median: such samples are replayed one by one (guess)
MOST_SLOW = 8  # a batch: the slowest; with more of them, each holds up a smaller part (guess)
# By hand, with steps of 0.5 to 55 ms between batches: the longer they are, the colder the caches
# (two EPYC cores, torch 2.14, 2026-11-23). A loop that does nothing else takes a fifth of it
# (bench_feed).
RING_NEXT_NS = 300_000  # 0.18 to 0.6 ms
RING_HANDING_NS = 250_000  # 0.1 to 0.35 ms where a core was free
RING_HANDOVER_CPU_NS = 600_000  # 0.25 to 0.5 ms the training process, 0.2 to 0.4 ms the nursery
FREE_CORE_QUANTILE = 0.25  # of times between chunks: a core was free (by hand, 1 to 4 workers)


def supply_of(
    facts: ProbeFacts,
    batch_size: int,
    is_cut: bool,
    dataset_fits_in_memory: bool | None,
) -> Supply:
    """Draw batches from the samples that were measured, the same ones each time.

    Args:
        facts: What was measured.
        batch_size: Samples a batch, those that ``facts`` are about.
        is_cut: Whether several workers may write one batch.
        dataset_fits_in_memory: Whether all files stay in memory once they were read. Then batches
            cost what they cost the second time; else, and where it is not known (``None``), what
            they cost the first time.
    """
    wall_ns = expected_wall_ns(facts, dataset_fits_in_memory)
    factor = wall_ns / max(1, facts.batch_wall_ns)
    if facts.sample_ns:
        costs = _drawn(facts, batch_size, factor)
    else:
        costs = (BatchCost(spans=(Span(batch_size, wall_ns),)),) * DRAWN_BATCHES
    return Supply(
        costs=costs,
        cpu_fraction=min(1.0, facts.batch_cpu_ns / max(1, wall_ns)),
        is_cut=is_cut,
        handing_ns=RING_HANDING_NS,
        next_ns=RING_NEXT_NS,
        batch_bytes=facts.batch_bytes,
        handover_cpu_ns=RING_HANDOVER_CPU_NS,
    )


def expected_wall_ns(facts: ProbeFacts, dataset_fits_in_memory: bool | None) -> int:
    """A worker's time for a batch once training has got going."""
    warm_ns = facts.warm_batch_wall_ns
    if dataset_fits_in_memory and facts.is_cold and warm_ns is not None:
        return warm_ns
    return facts.batch_wall_ns


def supply_of_batches(
    batches: Sequence[BatchTimes], *, num_workers: int, is_cut: bool = True
) -> Supply:
    """Read off what batches cost in a real pool, without what workers waited for a core.

    Args:
        batches: That were recorded, in their order; the first of each pass may be among them.
        num_workers: That made them; 0 is the training process itself, whose batches say nothing of
            how they would be handed over.
        is_cut: Whether several workers may write one batch.

    Raises:
        SettingsError: If nothing is known of what any batch cost.
    """
    known = [batch for batch in batches if batch.chunks]
    if not known:
        raise SettingsError(
            f"of {len(batches)} batches none says what it cost, one or more are wanted. Watch a "
            "loader whose engine measures its workers (the ring's, or the training process)."
        )
    chunks = [chunk for batch in known for chunk in batch.chunks]
    usual_ns = median(_own_ns(chunk) / max(1, chunk.samples) for chunk in chunks)
    own_ns = sum(_own_ns(chunk) for chunk in chunks)
    sizes = [batch.size_bytes for batch in known if batch.size_bytes is not None]
    handing_ns = handing_ns_of(known, quantile=FREE_CORE_QUANTILE) if num_workers else None
    # Where workers wait for a core, so does the nursery.
    wall_ns = sum(max(0, chunk.ended_ns - chunk.began_ns) for chunk in chunks)
    free_fraction = own_ns / max(1, wall_ns)
    return Supply(
        costs=tuple(BatchCost(spans=_spans_of(batch, usual_ns)) for batch in known),
        cpu_fraction=min(1.0, sum(chunk.cpu_ns for chunk in chunks) / max(1, own_ns)),
        is_cut=is_cut,
        next_ns=_next_ns(known) if num_workers else RING_NEXT_NS,
        transit_ns=round(_transit_ns(known) * free_fraction) if num_workers else 0,
        handing_ns=RING_HANDING_NS if handing_ns is None else handing_ns,
        batch_bytes=round(median(sizes)) if sizes else None,
        handover_cpu_ns=RING_HANDOVER_CPU_NS,
    )


def _drawn(facts: ProbeFacts, batch_size: int, factor: float) -> tuple[BatchCost, ...]:
    generator = np.random.default_rng(0)  # equal facts give equal plans
    samples_ns = np.array(facts.sample_ns, dtype=np.float64) * factor
    whole_ns = facts.whole_ns * factor
    slow_from_ns = SLOW * float(np.median(samples_ns))
    return tuple(
        BatchCost(
            spans=tuple(
                _apart(generator.choice(samples_ns, size=batch_size), slow_from_ns, whole_ns)
            )
        )
        for _ in range(DRAWN_BATCHES)
    )


def _apart(
    rows_ns: npt.NDArray[np.float64], slow_from_ns: float, whole_ns: float
) -> Iterator[Span]:
    """Slow rows as spans of their own; the others share their time evenly."""
    slow = np.flatnonzero(rows_ns > slow_from_ns)
    if len(slow) > MOST_SLOW:
        slow = np.sort(slow[np.argsort(rows_ns[slow])[-MOST_SLOW:]])
    plain = len(rows_ns) - len(slow)
    slow_ns = rows_ns[slow].astype(np.int64)
    rest_ns = int(rows_ns.sum() + whole_ns) - int(slow_ns.sum())
    if not plain:
        slow_ns[-1] += rest_ns
    done, next_row = 0, 0
    for row, row_ns in zip(slow.tolist(), slow_ns.tolist(), strict=True):
        if row > next_row:
            yield _piece(rest_ns, done, row - next_row, plain)
            done += row - next_row
        yield Span(1, row_ns)
        next_row = row + 1
    if done < plain:
        yield _piece(rest_ns, done, plain - done, plain)


def _piece(rest_ns: int, done: int, rows: int, of_rows: int) -> Span:
    return Span(rows, rest_ns * (done + rows) // of_rows - rest_ns * done // of_rows)


def _own_ns(chunk: ChunkTimes) -> int:
    """A chunk's time, but for waiting for a core."""
    wall_ns = max(0, chunk.ended_ns - chunk.began_ns)
    return max(0, wall_ns - min(wall_ns, chunk.core_wait_ns or 0))


def _spans_of(batch: BatchTimes, usual_ns: float) -> tuple[Span, ...]:
    """A chunk's slow rows by themselves; chunks without are one span of all their rows."""
    pieces: list[tuple[bool, int, int]] = []
    for chunk in sorted(batch.chunks, key=lambda each: each.first_row):
        pieces += _pieces(chunk, usual_ns)
    spans: list[Span] = []
    for is_slow, run in groupby(pieces, key=lambda piece: piece[0]):
        if is_slow:
            spans += [Span(rows, ns) for _, rows, ns in run]
        else:
            together = list(run)
            spans.append(Span(sum(r for _, r, _ in together), sum(ns for *_, ns in together)))
    return tuple(spans)


def _pieces(chunk: ChunkTimes, usual_ns: float) -> Iterator[tuple[bool, int, int]]:
    """Consecutive rows of a chunk: whether it is one slow row, how many, and their time."""
    left_ns, samples = _own_ns(chunk), max(1, chunk.samples)
    # A sample that was noted as slow may have waited for a core for as long as its chunk has.
    waited_ns = chunk.core_wait_ns or 0
    slow: dict[int, int] = {}
    for row, _, sample_ns in chunk.slowest:
        place, own_ns = row - chunk.first_row, sample_ns - waited_ns
        if SLOW * usual_ns < own_ns <= left_ns and 0 <= place < samples and place not in slow:
            slow[place] = own_ns
            left_ns -= own_ns
    plain = samples - len(slow)
    if not plain:
        slow[max(slow)] += left_ns
    done = next_place = 0
    for place in sorted(slow):
        if place > next_place:
            rows = place - next_place
            yield False, rows, _piece(left_ns, done, rows, plain).time_ns
            done += rows
        yield True, 1, slow[place]
        next_place = place + 1
    if done < plain:
        yield False, plain - done, _piece(left_ns, done, plain - done, plain).time_ns


def _next_ns(batches: Sequence[BatchTimes]) -> int:
    """What taking a batch costs that has arrived."""
    return _median(batch.taken_ns - max(batch.wanted_ns, _arrived_ns(batch)) for batch in batches)


def _transit_ns(batches: Sequence[BatchTimes]) -> int:
    """From the end of a batch in a worker to its arrival."""
    return _median(
        batch.arrived_ns - _made_ns(batch) for batch in batches if batch.arrived_ns is not None
    )


def _arrived_ns(batch: BatchTimes) -> int:
    return _made_ns(batch) if batch.arrived_ns is None else batch.arrived_ns


def _made_ns(batch: BatchTimes) -> int:
    return max(chunk.ended_ns for chunk in batch.chunks)


def _median(values: Iterator[int]) -> int:
    known = [max(0, value) for value in values]
    return round(median(known)) if known else 0
