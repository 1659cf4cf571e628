"""What the terminal says after the verdict: the causes, the changes, and what became of them."""

import io
from dataclasses import replace
from typing import Any, get_args

import pytest
from rich.console import Console
from sample_summaries import HOSTILE, a_full_summary, a_hostile_summary, a_plain_summary

from lightning_fastdata.report import render_terminal, summary_table
from lightning_fastdata.report.findings_text import followed_verdict
from lightning_fastdata.report.words import CAUSES, place, printable, workers_line
from lightning_fastdata.stalls import Cause, StallSummary


def printed(summary: StallSummary, *, is_terminal: bool = False) -> str:
    file = io.StringIO()
    render_terminal(summary, console=Console(file=file, force_terminal=is_terminal, width=100))
    return file.getvalue()


def after_the_verdict(text: str) -> str:
    return text[text.index("Verdict: ") :]


def test_a_run_without_findings_says_no_more_than_its_table() -> None:
    quiet = replace(a_full_summary(), findings=(), followed=())

    assert printed(quiet) == f"{summary_table(quiet)}\n"


def test_a_finding_has_its_cause_its_share_its_evidence_its_change_and_the_prediction() -> None:
    lines = after_the_verdict(printed(a_full_summary())).splitlines()

    assert lines[1:5] == [
        "1. Too few workers: costs 29.7 % of the time",
        "   because: 4 workers were busy 97 % of the time, and 92 % of the batches were not ready "
        "when they",
        "            were wanted.",
        "   do: Raise num_workers from 4 to 11 (predicted stall 3.1 %)",
    ]


def test_three_findings_are_shown_and_the_others_counted() -> None:
    text = after_the_verdict(printed(a_full_summary()))

    assert "3. Epochs start slowly" in text
    assert "4." not in text
    assert "and 1 more of less weight" in text


def test_a_finding_that_costs_no_time_does_not_say_zero() -> None:
    [first, *_] = a_full_summary().findings
    spare = replace(first, cause="too_many_workers", stall_fraction=0.0)

    text = after_the_verdict(printed(replace(a_full_summary(), findings=(spare,))))

    assert "\n1. More workers than needed\n" in text


def test_followed_advice_sets_the_prediction_beside_the_measurement() -> None:
    followed = replace(a_full_summary(), findings=())

    assert after_the_verdict(printed(followed)).splitlines()[1:] == [
        "Done: num_workers: 2 -> 4: stall was 61.2 %, predicted 37.1 %, measured 38.4 %: the "
        "prediction held."
    ]


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (0.45, "prediction held"),
        (0.35, "prediction held"),
        (0.48, "prediction missed by 8.0 points"),
        (0.28, "prediction missed by 12.0 points, for the better"),
    ],
)
def test_a_prediction_holds_within_five_points(measured: float, verdict: str) -> None:
    [followed] = a_full_summary().followed
    followed = replace(followed, predicted_stall_fraction=0.4, measured_stall_fraction=measured)

    assert followed_verdict(followed) == verdict


def test_a_line_in_a_notebook_is_named_by_its_cell() -> None:
    [line, *_] = a_full_summary().worker_lines
    temporary = replace(line, file="/tmp/ipykernel_1234/2656020730.py", line=32)

    assert place(temporary) == "notebook cell, line 32"
    assert place(replace(line, file="<ipython-input-3-0f>", line=7)) == "notebook cell, line 7"
    assert place(line) == "my_data.py:48"


def test_the_evidence_names_a_notebooks_cell() -> None:
    [first, *_] = a_full_summary().findings
    where = "61 % of it in /tmp/ipykernel_1234/2656020730.py:32 `x = 1`."

    text = printed(replace(a_full_summary(), findings=(replace(first, evidence=(where,)),)))

    assert "because: 61 % of it in notebook cell, line 32 `x = 1`." in text


def test_a_notebook_gets_one_output_and_not_one_for_each_line() -> None:
    class Counted(Console):
        prints = 0

        def print(self, *objects: Any, **settings: Any) -> None:
            self.prints += 1
            super().print(*objects, **settings)

    console = Counted(file=io.StringIO(), force_terminal=True, width=100)
    render_terminal(a_full_summary(), console=console)

    assert console.prints == 1


def test_the_workers_and_the_slowest_samples_are_named() -> None:
    text = after_the_verdict(printed(a_full_summary()))

    assert (
        '4 workers, busy 97.0 %, 61.0 % in my_data.py:48 `image = Image.open(path).convert("RGB")`'
    ) in text
    assert "Slow sample 1032: 1.29 s, 165 times the median (/data/imagenet/train/" in text


def test_a_run_without_workers_says_who_made_the_batches() -> None:
    workers = a_full_summary().workers
    assert workers is not None

    line = workers_line(replace(workers, num_workers=0, busy_fraction=None), ())

    assert line == "No workers: the training process made the batches"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_names_cannot_steer_a_terminal_or_fail_to_be_written(is_terminal: bool) -> None:
    text = printed(a_hostile_summary(), is_terminal=is_terminal)

    assert "\x1b[31m" not in text
    assert "\u202e" not in text
    text.encode("utf-8")


def test_every_cause_has_a_name() -> None:
    assert set(CAUSES) == set(get_args(Cause))


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    shown = printable("a" * 3_000 + "z" * 3_000, 41)

    assert shown == "a" * 18 + " ... " + "z" * 18
    assert len(printable(HOSTILE, 100)) < 200


def test_a_plain_run_prints_ascii() -> None:
    assert printed(a_plain_summary()).isascii()
    assert printed(a_full_summary()).isascii()
