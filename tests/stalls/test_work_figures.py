"""What workers did, as figures: by hand on a few batches."""

from collections import Counter
from pathlib import Path

import pytest
from run_records import MS, Run, recorded

from lightning_fastdata.stalls import StallSummary, WorkerFigures, conclude
from lightning_fastdata.trace import Line, Part


def figures_of(run: Run) -> WorkerFigures:
    figures = conclude(recorded(run)).workers
    assert figures is not None
    return figures


def slow_loader(**changes: object) -> Run:
    """One worker that needs 40 ms a batch for steps of 20 ms."""
    return Run(
        num_workers=1,
        sample_ns=lambda epoch, index: 5 * MS,
        **changes,  # type: ignore[arg-type]
    )


def test_a_worker_without_a_pause_is_busy_all_of_the_time() -> None:
    assert figures_of(slow_loader()).busy_fraction == pytest.approx(1.0, abs=0.02)


def test_workers_are_busy_as_far_as_they_are_needed() -> None:
    """Four workers, 16 ms of work a step of 20 ms."""
    assert figures_of(Run()).busy_fraction == pytest.approx(16 / 80, abs=0.02)


def test_time_between_epochs_is_nobodys_idleness() -> None:
    run = slow_loader(epochs=5, batches=10, epoch_start_ns=3_000 * MS)

    assert figures_of(run).busy_fraction == pytest.approx(1.0, abs=0.15)


def test_computing_and_waiting_for_a_core_are_told_apart() -> None:
    figures = figures_of(slow_loader(cpu_fraction=0.5, stretch=3.0))

    assert figures.cpu_fraction == pytest.approx(0.25, abs=0.001)
    assert figures.core_wait_fraction == pytest.approx(0.5, abs=0.001)


def test_batches_that_come_too_late_were_not_ready() -> None:
    assert figures_of(slow_loader()).ready_fraction == 0.0
    assert figures_of(Run()).ready_fraction == 1.0


def test_the_way_to_the_training_process_is_measured() -> None:
    assert figures_of(Run(transit_ns=3 * MS)).transit_p50_ns == 3 * MS


def test_what_was_read_is_summed_up() -> None:
    figures = figures_of(Run(batches=10, read_bytes=100, major_faults=3))

    assert figures.read_bytes == 8_000
    assert figures.major_faults == 30


def test_the_workers_time_is_divided_among_stages_that_come_to_all_of_it() -> None:
    record = recorded(slow_loader(transform_fraction=0.25))
    totals = record.loaders[0].work.totals
    totals.stages_ns["decode"] = totals.busy_ns // 2

    fractions = conclude(record).worker_stage_fractions

    assert fractions == pytest.approx({"decode": 0.5, "batch_transform": 0.25, "samples": 0.25})
    assert next(iter(fractions)) == "decode"


def test_stages_of_several_threads_do_not_come_to_more_than_all() -> None:
    record = recorded(slow_loader())
    totals = record.loaders[0].work.totals
    totals.stages_ns["decode"] = totals.stages_ns["read"] = totals.busy_ns

    assert conclude(record).worker_stage_fractions == {"decode": 0.5, "read": 0.5}


def slow_ones(index: int) -> int:
    return {7: 80 * MS, 90: 40 * MS, 100: 5 * MS}.get(index, 2 * MS)


def with_slow_samples() -> StallSummary:
    record = recorded(Run(sample_ns=lambda epoch, index: slow_ones(index)))
    record.loaders[0].paths["7"] = "/data/7.jpg"
    return conclude(record)


def test_samples_of_three_times_the_median_are_slow_and_have_their_file() -> None:
    slow = with_slow_samples().slow_samples

    assert [(each.index, each.time_ns, each.path) for each in slow] == [
        (7, 80 * MS, "/data/7.jpg"),
        (90, 40 * MS, None),
    ]
    assert slow[0].times_the_median == pytest.approx(40, rel=0.01)


def test_a_line_has_its_text_and_its_share_of_the_looks(tmp_path: Path) -> None:
    source = tmp_path / "my_data.py"
    source.write_text("def get(f):\n    return Image.open(f).convert()\n")

    (line,) = conclude(recorded(Run(line=Line(str(source), 2, "get")))).worker_lines

    assert line.text == "return Image.open(f).convert()"
    assert line.fraction == 0.6


def test_lines_of_forward_and_backward_are_not_the_hosts() -> None:
    record = recorded(Run())
    for part, looks in ((Part.COMPUTE, 900), (Part.LOGGING, 61), (Part.OTHER, 10)):
        record.host_lines[part] = Counter({Line("a.py", int(part), "f"): looks})
        record.host_looks[part] = 2 * looks

    lines = conclude(record).host_lines

    assert [(line.part, line.fraction) for line in lines] == [("logging", 0.5), ("other", 0.5)]
