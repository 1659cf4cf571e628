"""What a loader's workers did, as figures."""

import linecache
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from lightning_fastdata.stalls.costs import is_slow
from lightning_fastdata.stalls.figures import PART_NAMES, LineShare, SlowSample, WorkerFigures
from lightning_fastdata.stalls.passes import passes_of
from lightning_fastdata.trace import BatchTimes, Line, LoaderRecord, Part, RunRecord, WorkTotals

SHOWN_LINES = 10
SHOWN_SAMPLES = 10
REST = "samples"


def worker_figures(loader: LoaderRecord) -> WorkerFigures | None:
    """Say what a loader's workers did; ``None`` where they were not seen at work."""
    totals, recent = loader.work.totals, list(loader.work.recent)
    if not totals.chunks:
        return None
    busy_ns = max(1, totals.busy_ns)
    core_wait_ns = totals.core_wait_ns
    steady = [batch for each in passes_of(recent) for batch in each[1:]]
    transits = [
        max(0, batch.arrived_ns - made_ns(batch))
        for batch in recent
        if batch.chunks and batch.arrived_ns is not None
    ]
    sizes = [batch.size_bytes for batch in recent if batch.size_bytes is not None]
    knows = [batch.arrived_ns <= batch.wanted_ns for batch in steady if batch.arrived_ns]
    return WorkerFigures(
        num_workers=loader.setup.num_workers,
        batches=totals.batches,
        samples=totals.samples,
        busy_fraction=_busy_fraction(recent, loader.setup.num_workers),
        cpu_fraction=_fraction(totals.cpu_ns / busy_ns),
        core_wait_fraction=None if core_wait_ns is None else _fraction(core_wait_ns / busy_ns),
        sample_p50_ns=totals.samples_ns.quantile_ns(0.50),
        sample_p99_ns=totals.samples_ns.quantile_ns(0.99),
        read_bytes=totals.read_bytes,
        cached_bytes=totals.cached_bytes,
        major_faults=totals.major_faults,
        slot_wait_fraction=_slot_wait_fraction(recent),
        transit_p50_ns=int(median(transits)) if transits else None,
        batch_bytes=int(median(sizes)) if sizes else None,
        ready_fraction=sum(knows) / len(knows) if knows else None,
        why_no_change=_why_no_change(loader),
    )


def _why_no_change(loader: LoaderRecord) -> str | None:
    name, why = loader.setup.name, loader.why_no_change
    return f"loader {name}: {why}" if name and why else why


def stage_fractions(totals: WorkTotals) -> dict[str, float]:
    """Divide the workers' time by what they did, the most costly first; the parts come to 1.

    Waiting for a core is not among them: it happens within all of them, and is a figure of its own.
    """
    busy_ns = totals.busy_ns
    if busy_ns <= 0:
        return {}
    spent: Counter[str] = Counter(totals.stages_ns)
    spent["collate"] += totals.collate_ns
    spent["batch_transform"] += totals.transform_ns
    named_ns = sum(spent.values())
    spent[REST] += max(0, busy_ns - named_ns)
    whole_ns = max(busy_ns, named_ns)  # stages of several threads may come to more than the time
    return {name: part_ns / whole_ns for name, part_ns in spent.most_common() if part_ns > 0}


def worker_lines(totals: WorkTotals) -> tuple[LineShare, ...]:
    """Name the lines at which workers were found most often."""
    return _shares(totals.lines, totals.looks)


def host_lines(record: RunRecord) -> tuple[LineShare, ...]:
    """Name the lines at which the training process was found, but for forward and backward.

    Each share is of the looks while the same part was going on.
    """
    # A process that waits for workers is found where it waits, which says nothing.
    polls = bool(record.loaders) and all(each.setup.num_workers for each in record.loaders)
    found = [
        (looks, line, part)
        for part, lines in record.host_lines.items()
        if part is not Part.COMPUTE and not (polls and part is Part.WAIT)
        for line, looks in lines.items()
    ]
    found.sort(key=lambda entry: -entry[0])
    return tuple(
        _share(line, looks, record.host_looks[part], PART_NAMES[part])
        for looks, line, part in found[:SHOWN_LINES]
    )


def lines_of_part(record: RunRecord, part: Part) -> tuple[LineShare, ...]:
    """Name the lines at which the training process was found while one part was going on."""
    lines = record.host_lines.get(part, Counter())
    return _shares(lines, record.host_looks[part], PART_NAMES[part])


def slow_samples(loaders: Iterable[LoaderRecord], times: float) -> tuple[SlowSample, ...]:
    """Name the samples that took at least ``times`` the median's time, the slowest first.

    Where workers wait for cores, by as much more as that wait explains.
    """
    found = []
    for loader in loaders:
        usual_ns = loader.work.totals.samples_ns.quantile_ns(0.5)
        if usual_ns is None:
            continue
        usual_ns = max(1, usual_ns)
        slow_ns = times * usual_ns / (1.0 - core_wait_fraction(loader.work.totals))
        held_up = _held_up(loader, slow_ns, usual_ns)
        found += [
            SlowSample(
                index=plain(key),
                path=loader.paths.get(repr(key)),
                time_ns=sample_ns,
                times_the_median=sample_ns / usual_ns,
            )
            for key, sample_ns in loader.work.slowest()
            if sample_ns >= slow_ns and (repr(key), sample_ns) not in held_up
        ]
    return tuple(sorted(found, key=lambda each: -each.time_ns)[:SHOWN_SAMPLES])


def core_wait_fraction(totals: WorkTotals) -> float:
    """Share of the workers' time, under 1, in which they waited for a core; 0 if not known."""
    return min(0.99, max(0.0, (totals.core_wait_ns or 0) / max(1, totals.busy_ns)))


def plain(key: Any) -> int | str:
    """Return a sample's index, or the text of a key that is none."""
    return key if type(key) is int else key if isinstance(key, str) else repr(key)


def made_ns(batch: BatchTimes) -> int:
    """When the last piece of a batch was made; of a batch with at least one."""
    return max(chunk.ended_ns for chunk in batch.chunks)


def _held_up(loader: LoaderRecord, slow_ns: float, usual_ns: float) -> set[tuple[str, int]]:
    """Samples, as far back as chunks are known, that may only have waited for a core."""
    return {
        (repr(key), sample_ns)
        for batch in loader.work.recent
        for chunk in batch.chunks
        for _, key, sample_ns in chunk.slowest
        if sample_ns >= slow_ns and not is_slow(chunk, sample_ns, slow_ns, usual_ns)
    }


def _busy_fraction(recent: Sequence[BatchTimes], num_workers: int) -> float | None:
    """Within passes only: workers have nothing to do between them."""
    busy_ns = elapsed_ns = 0
    for batches in passes_of(recent):
        chunks = [chunk for batch in batches for chunk in batch.chunks]
        if not chunks:
            continue
        began_ns = min(chunk.began_ns for chunk in chunks)
        ended_ns = max(batches[-1].taken_ns, max(chunk.ended_ns for chunk in chunks))
        elapsed_ns += max(0, ended_ns - began_ns)
        busy_ns += sum(chunk.ended_ns - chunk.began_ns for chunk in chunks)
    if not elapsed_ns:
        return None
    return _fraction(busy_ns / (max(1, num_workers) * elapsed_ns))


def _slot_wait_fraction(recent: Sequence[BatchTimes]) -> float:
    """Of the time, not of the batches: several may wait at once."""
    waits = sorted(
        (batch.asked_ns, batch.sent_ns)
        for batch in recent
        if batch.sent_ns is not None and batch.sent_ns > batch.asked_ns
    )
    waited_ns, until_ns = 0, 0
    for began_ns, ended_ns in waits:
        waited_ns += max(0, ended_ns - max(began_ns, until_ns))
        until_ns = max(until_ns, ended_ns)
    elapsed_ns = recent[-1].taken_ns - recent[0].asked_ns if recent else 0
    return _fraction(waited_ns / elapsed_ns) if elapsed_ns > 0 else 0.0


def _shares(lines: Counter[Line], looks: int, part: str = "") -> tuple[LineShare, ...]:
    return tuple(_share(line, found, looks, part) for line, found in lines.most_common(SHOWN_LINES))


def _share(line: Line, found: int, looks: int, part: str) -> LineShare:
    return LineShare(
        file=line.file,
        line=line.line,
        function=line.function,
        text=linecache.getline(line.file, line.line).strip(),
        fraction=_fraction(found / max(1, looks)),
        part=part,
    )


def _fraction(value: float) -> float:
    return min(1.0, max(0.0, value))
