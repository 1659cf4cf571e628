"""Changes of the number of workers are told in every report, and nothing is said without one."""

import io
from dataclasses import replace
from typing import Any

from rich.console import Console
from sample_summaries import HOSTILE, a_full_summary, a_plain_summary
from test_chrome_trace import a_record, events_of

from lightning_fastdata.report import render_html, render_terminal, summary_table
from lightning_fastdata.report.changes_text import CHANGES_SHOWN, changes_lines
from lightning_fastdata.report.page_tables import tables_of
from lightning_fastdata.stalls import StallSummary, WorkerChange
from lightning_fastdata.trace.changes import PlanChange

S = 10**9
GROWN = WorkerChange(
    loader="",
    at_ns=4_200_000_000,
    kind="grow",
    before=1,
    after=3,
    reason="Training waited 40.0 % of the last 50 steps.",
    stall_fraction=0.4,
    predicted_stall_fraction=0.012,
    measured_stall_fraction=0.015,
)
TAKEN_BACK = replace(
    GROWN,
    at_ns=12 * S,
    kind="roll_back",
    before=3,
    after=2,
    reason="It had not helped.",
    predicted_stall_fraction=None,
    measured_stall_fraction=None,
)


def a_summary(*changes: WorkerChange) -> StallSummary:
    return replace(a_plain_summary(), worker_changes=changes)


def test_each_change_is_a_line_with_what_was_expected_and_what_came_of_it() -> None:
    assert changes_lines([GROWN, TAKEN_BACK]) == [
        "The number of workers changed 2 times while training ran:",
        "  after 4.20 s: 1 -> 3: Training waited 40.0 % of the last 50 steps (stall predicted "
        "1.2 %, measured",
        "    1.5 %)",
        "  after 12.00 s: 3 -> 2, taken back: It had not helped",
    ]


def test_without_a_change_nothing_is_said() -> None:
    assert changes_lines([]) == []
    assert "workers changed" not in "\n".join(summary_table(a_summary()).lines)
    assert "worker_changes" not in tables_of(a_summary())
    assert "workers changed" not in render_html(a_summary())


def test_why_the_number_stays_though_training_waits_is_told_in_every_report() -> None:
    why = "training stood still 12.0 % of the last 5.0 s; 4 is the most workers that there may be"
    summary = replace(
        a_summary(), workers=replace(a_full_summary().workers, num_workers=4, why_no_change=why)
    )

    text = " ".join("\n".join(summary_table(summary).lines).split())
    assert f"The number of workers stays at 4: {why}." in text
    assert ("why their number stays", why) in tables_of(summary)["workers"].rows
    assert why in render_html(summary)


def test_nothing_is_said_of_a_number_that_stays_where_training_does_not_wait() -> None:
    summary = a_full_summary()

    assert "stays at" not in "\n".join(summary_table(summary).lines)
    assert "number stays" not in render_html(summary)


def test_the_terminal_tells_them_before_the_verdict() -> None:
    lines = summary_table(a_summary(GROWN)).lines

    assert "The number of workers changed 1 time while training ran:" in lines[:-1]
    assert lines[-1].startswith("Verdict:")


def test_of_many_the_newest_are_told_and_the_others_counted() -> None:
    many = [replace(GROWN, at_ns=number * S) for number in range(16)] + [TAKEN_BACK]

    lines = changes_lines(many)

    assert lines[0] == "The number of workers changed 17 times while training ran:"
    assert lines[1] == "  12 before these, in the report"
    assert len(lines) == 2 + CHANGES_SHOWN
    assert lines[-2:] == [
        "  after 15.00 s: 1 -> 3 (stall predicted 1.2 %, measured 1.5 %, 40.0 % before)",
        "  after 12.00 s: 3 -> 2, taken back (stall 40.0 % before)",
    ]


def test_the_page_has_a_table_of_them() -> None:
    grid = tables_of(a_summary(GROWN, TAKEN_BACK))["worker_changes"]

    assert grid.title == "How the number of workers changed"
    assert grid.columns == ("after", "workers", "why", "stall before", "predicted", "measured")
    assert grid.rows == (
        ("4.20 s", "1 -> 3", GROWN.reason, "40.0 %", "1.2 %", "1.5 %"),
        (
            *("12.00 s", "3 -> 2, taken back", "It had not helped."),
            *("40.0 %", "not predicted", "not measured"),
        ),
    )
    assert "How the number of workers changed" in render_html(a_summary(GROWN))


def test_loaders_are_told_apart_where_they_have_names() -> None:
    changes = (replace(GROWN, loader="images"), replace(GROWN, loader="words"))

    grid = tables_of(a_summary(*changes))["worker_changes"]

    assert grid.columns[0] == "loader"
    assert [row[0] for row in grid.rows] == ["images", "words"]
    assert changes_lines(changes)[1].startswith("  loader images, after 4.20 s:")


def test_a_page_of_very_many_says_that_it_shows_the_newest() -> None:
    grid = tables_of(a_summary(*(replace(GROWN, at_ns=at * S) for at in range(256))))

    assert grid["worker_changes"].note == "The newest 64 of 256."
    assert grid["worker_changes"].rows[-1][0] == "255.00 s"


def test_a_reason_stays_text() -> None:
    hostile = replace(a_full_summary(), worker_changes=(replace(GROWN, reason=HOSTILE),))
    file = io.StringIO()

    render_terminal(hostile, console=Console(file=file))

    assert "\x1b" not in file.getvalue()
    assert "<script>" not in render_html(hostile)


def changed_record(**changes: Any) -> list[dict[str, Any]]:
    record = a_record()
    change = PlanChange(
        at_ns=1_150_000,
        kind="grow",
        before=1,
        after=3,
        reason=HOSTILE,
        stall_fraction=0.4,
        predicted_stall_fraction=0.012,
    )
    record.loaders[0].changes = (change,)
    return events_of(record, "i")


def test_the_trace_has_an_instant_in_the_lanes_of_the_loader() -> None:
    [event] = changed_record()

    assert (event["name"], event["s"], event["pid"]) == ("workers 1 -> 3", "p", 2)
    assert event["ts"] == 350.0, "microseconds after the first event, which is at 800"
    assert event["args"]["stall_fraction"] == 0.4
    assert event["args"]["predicted_stall_fraction"] == 0.012
    assert "\x1b" not in event["args"]["reason"]


def test_the_trace_of_a_run_without_changes_has_no_instant() -> None:
    assert events_of(a_record(), "i") == []
