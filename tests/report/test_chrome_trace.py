"""The trace file: Chrome's trace-event format, every lane on one clock, nothing twice."""

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from sample_summaries import HOSTILE

from lightning_fastdata.report import chrome_trace, write_chrome_trace
from lightning_fastdata.trace import (
    BatchTimes,
    ChunkTimes,
    LoaderRecord,
    LoaderSetup,
    Part,
    RunRecord,
    StallTrace,
    StepTimes,
    WorkTrace,
)

US = 1000
NEEDED = {  # by the format's own document
    "X": {"name", "ph", "ts", "dur", "pid", "tid"},
    "M": {"name", "ph", "pid", "tid", "args"},
    "C": {"name", "ph", "ts", "pid", "args"},
    "s": {"name", "cat", "id", "ph", "ts", "pid", "tid"},
    "f": {"name", "cat", "id", "ph", "ts", "pid", "tid", "bp"},
}
STEP_US = 100


def a_chunk(worker: int | None, began_us: int, ended_us: int) -> ChunkTimes:
    return ChunkTimes(
        worker=worker,
        samples=4,
        began_ns=began_us * US,
        ended_ns=ended_us * US,
        cpu_ns=5 * US,
        page_faults=0,
        read_bytes=7,
        stages_ns=((HOSTILE, 3 * US),),
        slowest=((0, HOSTILE, 9 * US),),
    )


def a_batch(number: int, *chunks: ChunkTimes, taken_us: int) -> BatchTimes:
    arrived_us = max(chunk.ended_ns for chunk in chunks) // US + 1
    return BatchTimes(
        number=number,
        asked_ns=0,
        sent_ns=0,
        arrived_ns=arrived_us * US,
        wanted_ns=(taken_us - 1) * US,
        taken_ns=taken_us * US,
        size_bytes=None,
        chunks=chunks,
    )


def a_step(number: int) -> StepTimes:
    """Wait 30, compute 70; the device needs 10 more than the host in each step."""
    began = (1_000 + STEP_US * number) * US
    return StepTimes(
        parts_ns=(30 * US, 0, 70 * US, 0, 0, 0, 0),
        host_wait_ns=30 * US,
        samples=4,
        spans=(
            (Part.WAIT, began, began + 30 * US),
            (Part.COMPUTE, began + 30 * US, began + 100 * US),
        ),
        device_spans_ns=(20 * US, 90 * US),
    )


def a_record(batches: int = 5, *, worker: int | None = 1) -> RunRecord:
    stall = StallTrace(clock="cuda", device_type="cuda")
    work = WorkTrace()
    for number in range(batches):
        stall.add(a_step(number))
        made = 800 + STEP_US * number
        halves = (a_chunk(worker, made, made + 90), a_chunk(2, made, made + 95))
        work.add(a_batch(number, *halves, taken_us=1_030 + STEP_US * number))
    setup = LoaderSetup(
        name="",
        is_ours=True,
        engine="ring",
        num_workers=2,
        prefetch_batches=4,
        batch_size=8,
        pin_memory=False,
        persistent_workers=True,
        in_order=True,
        has_length=True,
        samples=100,
        dataset="Data",
    )
    loader = LoaderRecord(setup=setup, work=work)
    return RunRecord(stall=stall, loaders=[loader], settings={"max_epochs": float("inf")})


def events_of(record: RunRecord, phase: str) -> list[dict[str, Any]]:
    return [event for event in chrome_trace(record)["traceEvents"] if event["ph"] == phase]


def test_every_event_has_what_its_kind_needs_and_plain_numbers() -> None:
    trace = chrome_trace(a_record())

    for event in trace["traceEvents"]:
        assert NEEDED[event["ph"]] <= set(event)
        assert event["ts"] >= 0
        assert event.get("dur", 0) >= 0
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
    json.dumps(trace, allow_nan=False)


def test_times_are_microseconds_after_the_first_and_in_order() -> None:
    stamps = [event["ts"] for event in chrome_trace(a_record())["traceEvents"]]

    assert stamps == sorted(stamps)
    [first, *_] = events_of(a_record(), "X")
    assert (first["ts"], first["dur"]) == (0, 90)


def test_spans_of_one_lane_lie_one_after_the_other() -> None:
    lanes = defaultdict(list)
    for event in events_of(a_record(), "X"):
        lanes[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))

    for spans in lanes.values():
        for (_, ended), (began, _) in pairwise(spans):
            assert began >= ended


def test_every_lane_has_a_name() -> None:
    record = a_record()

    named = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in events_of(record, "M")
        if event["name"] == "thread_name"
    }
    used = {(event["pid"], event["tid"]) for event in events_of(record, "X")}
    assert used == set(named)
    assert set(named.values()) == {"training loop", "device (cuda)", "worker 1", "worker 2"}


def test_the_device_begins_with_the_host_and_ends_by_its_own_clock() -> None:
    device = [event for event in events_of(a_record(2), "X") if event["tid"] == 1]
    device = [event for event in device if event["pid"] == 1]

    spans = [(event["ts"], event["dur"]) for event in device]
    # The host's steps begin at 200 and 300; the device still works until 310.
    assert spans == [(200, 20), (220, 90), (310, 20), (330, 90)]


def test_a_chunk_says_what_was_in_it() -> None:
    [chunk, *_] = events_of(a_record(), "X")

    assert chunk["name"] == "batch 0"
    assert chunk["args"]["samples"] == 4
    assert chunk["args"]["cpu_ms"] == 0.005
    assert any(name.startswith("stage <script>") for name in chunk["args"])


def test_a_chunk_says_where_its_slowest_sample_lies() -> None:
    record = a_record()
    record.loaders[0].paths[repr(HOSTILE)] = "/data/7.jpg"

    [chunk, *_] = events_of(record, "X")

    assert chunk["args"]["slowest_sample_path"] == "/data/7.jpg"


def test_the_wait_for_the_first_batch_is_one_span_of_the_training_loop() -> None:
    record = a_record()
    record.stall.first_batch_ns = 1_030 * US

    [first] = [event for event in events_of(record, "X") if event["name"] == "first batch"]
    assert (first["ts"], first["dur"], first["pid"], first["tid"]) == (0, 1_030, 1, 0)


def test_a_first_batch_that_was_not_measured_has_no_span() -> None:
    assert "first batch" not in {event["name"] for event in events_of(a_record(), "X")}


def test_the_trace_says_what_was_run_and_when() -> None:
    record = a_record()
    record.script, record.started_at = "train.py", "2026-11-23T06:10:16+00:00"

    facts = chrome_trace(record)["otherData"]

    assert (facts["script"], facts["started_at"]) == ("train.py", "2026-11-23T06:10:16+00:00")


def test_a_batch_among_the_first_and_the_newest_is_there_once() -> None:
    chunks = [event for event in events_of(a_record(), "X") if event["cat"] == "chunk"]

    counted = Counter((event["name"], event["tid"]) for event in chunks)
    assert set(counted.values()) == {1}
    assert len(counted) == 10


def test_batches_made_by_the_training_process_have_their_own_lane_there() -> None:
    names = [event["args"].get("name") for event in events_of(a_record(worker=None), "M")]

    assert "batches made here" in names


def test_the_count_of_ready_batches_is_never_negative_and_ends_at_none() -> None:
    counts = [event["args"]["batches"] for event in events_of(a_record(), "C")]

    assert len(counts) == 10
    assert min(counts) == 0
    assert counts[-1] == 0


def test_a_batch_that_the_loop_waited_for_counts_before_it_is_taken() -> None:
    record = a_record(1)
    [batch] = record.loaders[0].work.first
    record.loaders[0].work = WorkTrace()
    record.loaders[0].work.add(batch._replace(arrived_ns=batch.taken_ns + 1))

    assert [event["args"]["batches"] for event in events_of(record, "C")] == [1, 0]


def test_an_arrow_leads_from_the_last_chunk_of_a_batch_to_the_step_that_took_it() -> None:
    record = a_record()
    starts = {event["id"]: event for event in events_of(record, "s")}
    ends = {event["id"]: event for event in events_of(record, "f")}

    assert set(starts) == set(ends) == set(range(5))
    for number in range(5):
        assert starts[number]["tid"] == 2, "the chunk of worker 2 ended last"
        assert ends[number]["ts"] == 230 + STEP_US * number, "where computing begins"


def test_a_record_of_nothing_is_a_trace_of_nothing() -> None:
    trace = chrome_trace(RunRecord(stall=StallTrace(clock="host", device_type="cpu")))

    assert {event["ph"] for event in trace["traceEvents"]} == {"M"}


def test_the_file_is_json_and_replaces_the_last(tmp_path: Path) -> None:
    path = tmp_path / "new" / "trace.json"

    write_chrome_trace(a_record(), path)
    write_chrome_trace(a_record(1), path)

    assert len(json.loads(path.read_text())["traceEvents"]) < 30
    assert list(path.parent.iterdir()) == [path]
