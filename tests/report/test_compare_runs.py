"""Two runs against each other: which is worse, by what, and what was set up differently."""

from dataclasses import replace

import pytest
from sample_summaries import HOSTILE, a_full_summary, a_hostile_summary, a_plain_summary

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.report import compare_runs
from lightning_fastdata.stalls import StallSummary


def a_run(stall_fraction: float, samples_per_s: float | None = 100.0) -> StallSummary:
    return replace(a_plain_summary(stall_fraction), samples_per_s=samples_per_s)


@pytest.mark.parametrize(
    ("before", "after", "is_worse", "judged"),
    [
        (a_run(0.10), a_run(0.12), False, "B is as good as A"),
        (a_run(0.10), a_run(0.1201), True, "B is worse"),
        (a_run(0.10), a_run(0.01), False, "B is better"),
        (a_run(0.10), a_run(0.10, 95.0), False, "B is as good as A"),
        (a_run(0.10), a_run(0.10, 94.9), True, "B is worse"),
        (a_run(0.10), a_run(0.10, 106.0), False, "B is better"),
        (a_run(0.30), a_run(0.10, 90.0), True, "B is worse"),
        (a_run(0.10, None), a_run(0.10), False, "B is as good as A"),
        (a_run(0.10), a_run(0.10, 0.0), True, "B is worse"),
    ],
)
def test_a_run_is_worse_beyond_what_is_tolerated(
    before: StallSummary, after: StallSummary, is_worse: bool, judged: str
) -> None:
    comparison = compare_runs(before, after)

    assert comparison.is_worse == is_worse
    assert comparison.table.lines[-1].startswith(f"Verdict: {judged}; ")


def test_what_is_tolerated_can_be_said() -> None:
    assert compare_runs(a_run(0.1), a_run(0.11), stall_tolerance=0.005).is_worse
    assert not compare_runs(a_run(0.1), a_run(0.1, 80.0), rate_tolerance=0.2).is_worse


def test_the_verdict_names_rate_stall_and_the_part_that_changed_most() -> None:
    comparison = compare_runs(a_run(0.30), a_run(0.10, 130.0))

    assert comparison.table.lines[-1] == (
        "Verdict: B is better; 1.30 times A's samples a second, stall 30.0 % -> 10.0 %; "
        "most changed: waiting for data, 30.00 -> 10.00 ms/step."
    )


def test_what_was_set_up_differently_is_listed() -> None:
    before = a_full_summary()
    assert before.run is not None
    [loader] = before.run.loaders
    faster = replace(loader, num_workers=11)
    after = replace(before, run=replace(before.run, loaders=(faster,), settings=()))

    lines = compare_runs(before, after).table.lines

    assert "  num_workers: 4 -> 11" in lines
    assert "  Trainer, max_epochs: 4 -> not there" in lines
    assert not [line for line in lines if "batch_size" in line]


def test_equal_set_ups_are_said_to_be_equal() -> None:
    lines = compare_runs(a_full_summary(), a_full_summary()).table.lines

    assert "Changed: nothing in the set-up that the reports hold." in lines


def test_names_in_the_set_up_cannot_steer_a_terminal() -> None:
    text = str(compare_runs(a_full_summary(), a_hostile_summary()).table)

    assert HOSTILE[:8] in text
    assert "\x1b" not in text


def test_a_run_that_is_too_short_is_not_judged() -> None:
    with pytest.raises(SettingsError, match=r"^run B has no step after the first of an epoch"):
        compare_runs(a_run(0.1), a_plain_summary(None))
