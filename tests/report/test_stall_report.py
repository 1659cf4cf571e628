"""What a summary looks like: units, words, files."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.report import (
    compare_table,
    logger_metrics,
    render_terminal,
    summary_table,
    write_json,
)
from lightning_fastdata.stalls import StallSummary
from lightning_fastdata.trace import StallWindow

SUMMARY = StallSummary(
    steps=100,
    steps_left_out=21,
    wall_ns=10_000_000_000,
    stall_fraction=0.3,
    exposed_stall_ns=3_000_000_000,
    hidden_wait_ns=500_000_000,
    transfer_ns=1_000_000_000,
    compute_ns=5_500_000_000,
    other_host_ns=500_000_000,
    validation_ns=2_000_000_000,
    first_batch_ns=1_500_000_000,
    epoch_start_ns=(20_000_000, 40_000_000, 90_000_000),
    wait_p50_ns=30_000_000,
    wait_p95_ns=60_000_000,
    wait_p99_ns=None,
    clock="cuda",
    device="cuda",
    samples_per_s=2560.0,
    problem=None,
)


def printed(summary: StallSummary, *, is_terminal: bool) -> str:
    file = io.StringIO()
    render_terminal(summary, console=Console(file=file, force_terminal=is_terminal, width=100))
    return file.getvalue()


def test_the_table_gives_milliseconds_a_step_and_percent() -> None:
    cells = {row[0]: row[1:3] for row in summary_table(SUMMARY).rows}

    assert cells == {
        "waiting for data": ("30.00", "30.0 %"),
        "transfer": ("10.00", "10.0 %"),
        "compute": ("55.00", "55.0 %"),
        "other host work": ("5.00", "5.0 %"),
        "whole step": ("100.00", "100.0 %"),
    }


def test_the_lines_give_the_edges_and_the_percentiles() -> None:
    lines = "\n".join(summary_table(SUMMARY).lines)

    assert "median 30.00 ms, p95 60.00 ms, p99 not measured" in lines
    assert "hidden behind compute 5.00 ms/step" in lines
    assert "First batch: 1.50 s; later epochs (3): median 40.00 ms, longest 90.00 ms" in lines
    assert "Validation between these steps: 2.00 s" in lines
    assert "Samples a second (this process): 2,560" in lines


def test_the_last_hundredth_of_few_waits_is_called_the_longest() -> None:
    few = dataclasses.replace(SUMMARY, steps=99, wait_p99_ns=80_000_000)

    assert "p95 60.00 ms, longest 80.00 ms" in "\n".join(summary_table(few).lines)


@pytest.mark.parametrize(
    ("stall_fraction", "words"),
    [
        (0.012, "Verdict: the data keeps up; training waits for it 1.2 % of the time."),
        (0.12, "Verdict: training waits for data 12.0 % of the time."),
        (0.3, "Verdict: training is starved of data; it waits 30.0 % of the time."),
        (None, "Verdict: too short to judge; no step ran after the first of an epoch."),
    ],
)
def test_one_sentence_says_how_bad_it_is(stall_fraction: float | None, words: str) -> None:
    summary = dataclasses.replace(SUMMARY, stall_fraction=stall_fraction)

    assert summary_table(summary).lines[-1] == words


def test_a_file_gets_plain_ascii() -> None:
    text = printed(SUMMARY, is_terminal=False)

    assert text.isascii()
    assert "\x1b" not in text
    assert "waiting for data    30.00   30.0 %  ######" in text


def test_a_terminal_gets_a_drawn_table() -> None:
    text = printed(SUMMARY, is_terminal=True)

    assert "╭" in text
    assert "Verdict: training is starved of data" in text


def test_a_run_without_a_step_can_be_printed() -> None:
    nothing = dataclasses.replace(
        SUMMARY, steps=0, wall_ns=0, exposed_stall_ns=0, stall_fraction=None, hidden_wait_ns=None
    )

    assert "too short to judge" in printed(nothing, is_terminal=True)


def test_a_problem_is_shown() -> None:
    text = printed(dataclasses.replace(SUMMARY, problem="it broke [/] "), is_terminal=True)

    assert "Incomplete: it broke [/]" in text


def test_the_host_clock_of_another_device_is_said() -> None:
    summary = dataclasses.replace(SUMMARY, clock="host", device="mps")

    assert "what a mps device hides cannot be seen" in "\n".join(summary_table(summary).lines)


def test_runs_stand_side_by_side() -> None:
    fast = dataclasses.replace(SUMMARY, stall_fraction=0.01, samples_per_s=None)

    table = compare_table({"before": SUMMARY, "after [x]": fast}, extra_rows={"workers": [2, None]})

    assert table.columns == ("", "before", "after [x]")
    cells = {row[0].strip(): row[1:] for row in table.rows}
    assert cells["samples/s"] == ("2,560", "not measured")
    assert cells["stall"] == ("30.0 %", "1.0 %")
    assert cells["compute"] == ("55.00", "55.00")
    assert cells["first batch"] == ("1.50 s", "1.50 s")
    assert cells["workers"] == ("2", "not measured")
    assert "after [x]" in str(table)


def test_a_comparison_refuses_no_runs_and_rows_that_do_not_fit() -> None:
    with pytest.raises(SettingsError, match=r"^runs is empty, but"):
        compare_table({})
    with pytest.raises(SettingsError, match=r"^extra row 'workers' has 1 cells, but there are 2"):
        compare_table({"a": SUMMARY, "b": SUMMARY}, extra_rows={"workers": [1]})


def test_json_is_written_whole_and_replaces_the_last(tmp_path: Path) -> None:
    path = tmp_path / "new" / "summary.json"

    write_json(SUMMARY, path)
    write_json(dataclasses.replace(SUMMARY, steps=7), path)

    assert json.loads(path.read_text())["steps"] == 7
    assert list(path.parent.iterdir()) == [path]


def test_logger_metrics_have_torchtitans_names() -> None:
    window = StallWindow(steps=2, stall_ns=60_000_000, wall_ns=200_000_000)

    assert logger_metrics(window) == {
        "time_metrics/data_loading(%)": 30.0,
        "time_metrics/data_loading(s)": 0.03,
    }
    assert logger_metrics(StallWindow()) == {}
