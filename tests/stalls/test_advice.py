"""What is advised and said: one change that is predicted, and what a reader can act on."""

from dataclasses import replace
from pathlib import Path

import pytest
from run_records import MS, Run, recorded
from test_causes import RUNS, each, every_50th_is_slow, first_of

from lightning_fastdata.stalls import conclude
from lightning_fastdata.trace import Line, WorkTrace


def test_fewer_workers_are_not_advised_where_training_would_only_wait_more() -> None:
    """It computes on the same cores, and gets a fifth of one: fewer workers speed it up."""
    run = replace(
        RUNS["cpu_saturated, crowded"],
        num_workers=4,
        stretch=3.0,
        step_ns=40 * MS,
        host_cpu_cores=0.2,
    )

    assert first_of(run).cause == "cpu_saturated"
    assert first_of(run).changes == ()
    assert first_of(replace(run, device="mps")).changes[0].then == 2


def test_one_process_without_workers_misses_no_core_that_it_could_not_use() -> None:
    run = Run(
        num_workers=0, cores=2, stretch=1.2, sample_ns=each(8 * MS), cpu_fraction=1.0, step_ns=MS
    )

    advice = first_of(run).advice

    assert not advice.startswith("Other processes")


CROWDED = Run(
    num_workers=4,
    cores=2,
    stretch=3.0,
    step_ns=190 * MS,
    sample_ns=each(16 * MS),
    host_cpu_cores=0.6,
)


def test_training_that_its_workers_slow_down_is_named_although_it_never_waits() -> None:
    finding = first_of(CROWDED)

    assert finding.cause == "cpu_saturated"
    assert finding.stall_fraction < 0.05
    assert finding.evidence[0].startswith("Training computes on the same cores")


@pytest.mark.parametrize(
    "changes", [{"device": "mps"}, {"stretch": 1.3}, {"cores": 64.0}, {"host_cpu_cores": 0.01}]
)
def test_training_with_cores_to_spare_or_a_device_is_not_slowed(
    changes: dict[str, object],
) -> None:
    findings = conclude(recorded(replace(CROWDED, **changes))).findings  # type: ignore[arg-type]  # as Run has them

    assert "cpu_saturated" not in {finding.cause for finding in findings}


def test_advice_is_one_change_and_the_costliest_line_is_evidence(tmp_path: Path) -> None:
    source = tmp_path / "my_data.py"
    source.write_text("def get(f):\n    return decode(f)\n")
    line = Line(str(source), 2, "get")

    finding = first_of(replace(RUNS["cpu_saturated, crowded"], line=line))

    assert finding.advice.startswith("num_workers 8 -> 2")
    assert str(source) not in finding.advice
    assert f"60 % of looks found workers at {source}:2 `return decode(f)`." in finding.evidence


def test_a_line_is_moved_to_a_device_only_where_there_is_one() -> None:
    run = replace(RUNS["cpu_saturated"], line=Line("nowhere.py", 3, "get"))

    assert "device" not in first_of(run).advice
    assert "move it to the device" in first_of(replace(run, device="cuda")).advice


def test_a_sample_whose_chunk_waited_for_a_core_that_long_is_not_slow() -> None:
    """Its neighbours got a core, so the loader as a whole hardly waited."""
    run = replace(RUNS["slow_samples, heavy tail"], sample_ns=every_50th_is_slow)
    record = recorded(run)
    work = WorkTrace()
    for batch in record.loaders[0].work.recent:
        chunks = tuple(
            chunk._replace(core_wait_ns=148 * MS if chunk.slowest[0][2] > 100 * MS else 0)
            for chunk in batch.chunks
        )
        work.add(batch._replace(chunks=chunks))
    record.loaders[0].work = work

    summary = conclude(record)

    assert summary.slow_samples == ()
    assert "slow_samples" not in {finding.cause for finding in summary.findings}


def test_what_little_libraries_read_is_not_named_as_the_data() -> None:
    finding = first_of(replace(RUNS["storage, cold"], read_bytes=3))

    assert "Read the data once" in finding.advice
    assert "from storage" not in " ".join(finding.evidence)


@pytest.mark.parametrize("name", ["pinning", "transfer", "epoch_start"])
def test_what_is_no_part_of_the_stall_predicts_none(name: str) -> None:
    assert first_of(RUNS[name]).predicted_stall_fraction is None


def test_a_stage_that_reads_has_its_costliest_line_beside_it() -> None:
    record = recorded(
        replace(RUNS["too_few_workers, asleep"], line=Line("nowhere.py", 7, "decode"))
    )
    totals = record.loaders[0].work.totals
    totals.stages_ns["read"] = totals.busy_ns

    finding = conclude(record).findings[0]

    assert finding.cause == "storage"
    assert "60 % of looks found workers at nowhere.py:7." in finding.evidence
