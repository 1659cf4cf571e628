"""A recorded run in the trace-event format that Perfetto and ``chrome://tracing`` open.

All lanes are on the host's clock, in microseconds after the first event. The device's lane is laid
beside them: a step of it begins with the host's, or where the device ended the step before if it
was still busy, and lasts as long as the device itself measured.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from lightning_fastdata.report.files import write_text
from lightning_fastdata.report.words import PARTS, printable
from lightning_fastdata.stalls.figures import PART_NAMES
from lightning_fastdata.trace import (
    BatchTimes,
    ChunkTimes,
    LoaderRecord,
    Part,
    RunRecord,
    StepTimes,
)
from lightning_fastdata.trace.changes import PlanChange

Event: TypeAlias = dict[str, Any]
_TRAINING, _FIRST_LOADER = 1, 2  # process numbers; a loader's workers are shown as one process
_HOST_LANE, _DEVICE_LANE, _INLINE_LANE = 0, 1, 2  # thread numbers in the training process


def chrome_trace(record: RunRecord) -> dict[str, Any]:
    """Return the newest steps and batches of a run, and its first batches, as trace events."""
    steps = [step for step in record.stall.recent if step.spans]
    events = [*_host_events(steps), *_device_events(steps)]
    events += _first_batch(record)
    for place, loader in enumerate(record.loaders):
        events += _loader_events(loader, steps, pid=_FIRST_LOADER + place, first_id=place << 32)
    began_ns = min((event["ts"] for event in events), default=0)
    for event in events:
        event["ts"] = (event["ts"] - began_ns) / 1000
        if "dur" in event:
            event["dur"] /= 1000
    events.sort(key=lambda event: event["ts"])
    return {
        "traceEvents": [*_names(record), *events],
        "displayTimeUnit": "ms",
        "otherData": _facts(record),
    }


def write_chrome_trace(record: RunRecord, path: Path) -> None:
    """Write the trace to ``path``, making its folder; an older file of that name is replaced."""
    write_text(json.dumps(chrome_trace(record), separators=(",", ":")) + "\n", path)


def _host_events(steps: Iterable[StepTimes]) -> Iterator[Event]:
    for step in steps:
        for part, began_ns, ended_ns in step.spans:
            yield _part_event(part, began_ns, ended_ns, _HOST_LANE)


def _device_events(steps: Iterable[StepTimes]) -> Iterator[Event]:
    at_ns = 0
    for step in steps:
        if not step.device_spans_ns:
            continue
        # The device reaches a step's first event no earlier than the host asked for it.
        at_ns = max(at_ns, step.spans[0][1])
        for (part, _, _), took_ns in zip(step.spans, step.device_spans_ns, strict=True):
            yield _part_event(part, at_ns, at_ns + took_ns, _DEVICE_LANE)
            at_ns += took_ns


def _first_batch(record: RunRecord) -> Iterator[Event]:
    """Mark the wait for the run's first batch, which is no step's."""
    took_ns = record.stall.first_batch_ns
    firsts = [loader.work.first for loader in record.loaders]
    if took_ns is None or not firsts or not all(firsts):
        return
    ended_ns = max(first[0].taken_ns for first in firsts)
    event = _part_event(Part.WAIT, ended_ns - took_ns, ended_ns, _HOST_LANE)
    yield event | {"name": "first batch"}


def _part_event(part: Part, began_ns: int, ended_ns: int, lane: int) -> Event:
    return {
        "name": PARTS[PART_NAMES[part]],
        "cat": "step",
        "ph": "X",
        "ts": began_ns,
        "dur": ended_ns - began_ns,
        "pid": _TRAINING,
        "tid": lane,
    }


def _loader_events(
    loader: LoaderRecord, steps: Iterable[StepTimes], *, pid: int, first_id: int
) -> Iterator[Event]:
    batches = _kept_batches(loader)
    computing_ns = [
        began_ns for step in steps for part, began_ns, _ in step.spans if part is Part.COMPUTE
    ]
    for place, batch in enumerate(batches):
        for chunk in batch.chunks:
            yield _chunk_event(batch, chunk, pid, loader.paths)
        yield from _arrow(batch, computing_ns, pid, first_id + place)
    yield from _ready_counts(batches, pid)
    for change in loader.changes:
        yield _change_event(change, pid)


def _kept_batches(loader: LoaderRecord) -> list[BatchTimes]:
    """Return the first and the newest batches, each once."""
    kept = {(batch.taken_ns, batch.number): batch for batch in loader.work.first}
    kept.update(((batch.taken_ns, batch.number), batch) for batch in loader.work.recent)
    return [kept[key] for key in sorted(kept)]


def _lane(chunk: ChunkTimes, pid: int) -> tuple[int, int]:
    return (_TRAINING, _INLINE_LANE) if chunk.worker is None else (pid, chunk.worker)


def _chunk_event(batch: BatchTimes, chunk: ChunkTimes, pid: int, paths: Mapping[str, str]) -> Event:
    process, thread = _lane(chunk, pid)
    arguments: dict[str, Any] = {
        "batch": batch.number,
        "samples": chunk.samples,
        "cpu_ms": chunk.cpu_ns / 1e6,
        "read_bytes": chunk.read_bytes,
        "cached_bytes": chunk.cached_bytes,
        "major_faults": chunk.major_faults,
    }
    for name, time_ns in (("collate", chunk.collate_ns), ("transform", chunk.transform_ns)):
        if time_ns:
            arguments[f"{name}_ms"] = time_ns / 1e6
    for name, time_ns in chunk.stages_ns:
        arguments[f"stage {printable(name, 80)} ms"] = time_ns / 1e6
    if chunk.slowest:
        _, key, time_ns = chunk.slowest[0]
        arguments["slowest_sample"] = printable(repr(key), 120)
        arguments["slowest_sample_ms"] = time_ns / 1e6
        if repr(key) in paths:
            arguments["slowest_sample_path"] = printable(paths[repr(key)], 600)
    return {
        "name": f"batch {batch.number}",
        "cat": "chunk",
        "ph": "X",
        "ts": chunk.began_ns,
        "dur": chunk.ended_ns - chunk.began_ns,
        "pid": process,
        "tid": thread,
        "args": arguments,
    }


def _arrow(batch: BatchTimes, computing_ns: list[int], pid: int, identity: int) -> Iterator[Event]:
    """Lead from the chunk that made a batch whole to the computing that began with it in hand."""
    place = bisect_left(computing_ns, batch.taken_ns)
    if not batch.chunks or place == len(computing_ns):
        return
    last = max(batch.chunks, key=lambda chunk: chunk.ended_ns)
    process, thread = _lane(last, pid)
    same = {"name": "batch", "cat": "batch", "id": identity}
    # Half way, not at its end: an arrow starts inside a slice, and the end is outside of it.
    middle_ns = (last.began_ns + last.ended_ns) // 2
    yield {**same, "ph": "s", "ts": middle_ns, "pid": process, "tid": thread}
    yield {
        **same,
        "ph": "f",
        "bp": "e",
        "ts": computing_ns[place],
        "pid": _TRAINING,
        "tid": _HOST_LANE,
    }


def _ready_counts(batches: Iterable[BatchTimes], pid: int) -> Iterator[Event]:
    known = [
        (batch.arrived_ns, batch.taken_ns) for batch in batches if batch.arrived_ns is not None
    ]
    # A batch that the loop waits for is taken the moment it comes: arrivals first.
    changes = sorted(
        chain.from_iterable(
            ((min(arrived_ns, taken_ns), -1, 1), (taken_ns, 0, -1))
            for arrived_ns, taken_ns in known
        )
    )
    ready = 0
    for at_ns, _, change in changes:
        ready += change
        yield {
            "name": "batches ready",
            "ph": "C",
            "ts": at_ns,
            "pid": pid,
            "tid": 0,
            "args": {"batches": ready},
        }


def _change_event(change: PlanChange, pid: int) -> Event:
    return {
        "name": f"workers {change.before} -> {change.after}",
        "cat": "plan",
        "ph": "i",
        "s": "p",  # drawn through all lanes of this loader's workers
        "ts": change.at_ns,
        "pid": pid,
        "tid": 0,
        "args": {
            "kind": change.kind,
            "reason": printable(change.reason),
            "stall_fraction": change.stall_fraction,
            "predicted_stall_fraction": change.predicted_stall_fraction,
            "measured_stall_fraction": change.measured_stall_fraction,
        },
    }


def _names(record: RunRecord) -> Iterator[Event]:
    """Name processes and threads."""
    rank = f" (rank {record.rank})" if record.ranks else ""
    yield from _process(_TRAINING, f"training process{rank}")
    yield _thread(_TRAINING, _HOST_LANE, "training loop")
    if any(step.device_spans_ns for step in record.stall.recent):
        yield _thread(_TRAINING, _DEVICE_LANE, f"device ({record.stall.device_type})")
    for place, loader in enumerate(record.loaders):
        pid = _FIRST_LOADER + place
        name = f" {printable(loader.setup.name, 80)}" if loader.setup.name else ""
        yield from _process(pid, f"workers of loader{name} ({loader.setup.engine})")
        made_by = {chunk.worker for batch in _kept_batches(loader) for chunk in batch.chunks}
        if None in made_by:
            yield _thread(_TRAINING, _INLINE_LANE, "batches made here")
        for worker in sorted(worker for worker in made_by if worker is not None):
            yield _thread(pid, worker, f"worker {worker}")


def _process(pid: int, name: str) -> Iterator[Event]:
    same = {"ph": "M", "ts": 0, "pid": pid, "tid": 0}
    yield {**same, "name": "process_name", "args": {"name": name}}
    yield {**same, "name": "process_sort_index", "args": {"sort_index": pid}}


def _thread(pid: int, tid: int, name: str) -> Event:
    arguments = {"name": name}
    return {"ph": "M", "ts": 0, "name": "thread_name", "pid": pid, "tid": tid, "args": arguments}


def _facts(record: RunRecord) -> dict[str, str]:
    facts = {name: str(value) for name, value in record.settings.items()}
    facts["clock"] = record.stall.clock
    run = {"script": record.script, "started_at": record.started_at}
    facts |= {name: text for name, text in run.items() if text is not None}
    if record.machine is not None:
        facts |= {"device": record.machine.device, "cpu": record.machine.cpu}
        facts |= dict(record.machine.versions)
    return {printable(name, 80): printable(text) for name, text in facts.items()}
