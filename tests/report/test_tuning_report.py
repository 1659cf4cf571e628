"""What ``tune`` says: one sentence first, then what was weighed, then how to use it."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tuned_plans import STALLS, a_candidate, a_plan, a_plan_by_rate

from lightning_fastdata.plan import Candidate, LoaderPlan
from lightning_fastdata.report.tuning import (
    ROWS_SHOWN,
    SCHEMA,
    SCHEMA_VERSION,
    TuningReport,
    candidates_table,
    render_tuning,
)
from lightning_fastdata.report.tuning_words import chosen_of, tuning_verdict

shares = st.none() | st.floats(0, 1)


def a_report(plan: LoaderPlan, **changes: Any) -> TuningReport:
    report = TuningReport(
        target="train.py:build",
        plan=plan,
        max_stall_fraction=0.02,
        took_ns=8_300_000_000,
        is_remembered=True,
        facts={"asked": {"batch_size": 64}},
    )
    return replace(report, **changes)


def printed(report: TuningReport, *, is_terminal: bool = False) -> str:
    file = io.StringIO()
    render_tuning(report, console=Console(file=file, force_terminal=is_terminal, width=120))
    return file.getvalue()


def a_plan_of(num_workers: int, *candidates: Candidate) -> LoaderPlan:
    return replace(a_plan(num_workers, (0.0,) * (num_workers + 1)), candidates=candidates)


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (a_plan(), "Use 3 workers: 1.2 % stall predicted, 1.4 % measured; 2 leave 21.0 %."),
        (
            a_plan(measured={}),
            "Use 3 workers: 1.2 % stall predicted; 2 would leave 21.0 %.",
        ),
        (
            a_plan(0, (0.001, 0.0), {0: 0.003}),
            "Use no workers: 0.1 % stall predicted, 0.3 % measured.",
        ),
        (
            a_plan(1, (0.5, 0.01), {0: 0.52}),
            "Use 1 worker: 1.0 % stall predicted, not tried; none leaves 52.0 %.",
        ),
        (
            a_plan(2, (0.9, 0.4, 0.01), {1: 0.45}),
            "Use 2 workers: 1.0 % stall predicted, not tried; 1 leaves 45.0 %.",
        ),
        (
            a_plan_of(1, a_candidate(1, None, 0.013)),
            "Use 1 worker: 1.3 % stall measured.",
        ),
        (
            a_plan(1, (0.9, 0.6, 0.59), {1: 0.61}),
            "Use 1 worker: 60.0 % stall predicted, 61.0 % measured, over the 2.0 % asked for "
            "(nothing that was weighed is clearly better); none would leave 90.0 %.",
        ),
        (
            a_plan(1, (0.9, 0.6, 0.1), {}),
            "Use 1 worker: 60.0 % stall predicted, over the 2.0 % asked for; "
            "none would leave 90.0 %.",
        ),
        (a_plan_by_rate(), "Use 4 workers: 43.0 batches/s predicted; 3 would give 33.0."),
        (a_plan(2, (), {}), "Use 2 workers."),
        (
            replace(a_plan(2, (), {}), predicted_stall_fraction=0.031),
            "Use 2 workers: 3.1 % stall predicted.",
        ),
    ],
)
def test_the_verdict_says_what_to_use_and_what_fewer_would_come_to(
    plan: LoaderPlan, sentence: str
) -> None:
    assert tuning_verdict(plan, 0.02) == sentence


def test_a_measured_rate_is_told_beside_the_predicted_one() -> None:
    plan = a_plan_by_rate(1)
    tried = tuple(replace(each, measured_batches_per_s=12.5) for each in plan.candidates)

    sentence = tuning_verdict(replace(plan, candidates=tried), 0.02)

    assert sentence == ("Use 1 worker: 13.0 batches/s predicted, 12.5 measured; none gives 12.5.")


def test_a_stall_that_reads_like_the_limit_is_not_over_it() -> None:
    assert "over" not in tuning_verdict(a_plan(1, (0.9, 0.0203), {}), 0.02)


def test_the_choice_is_the_candidate_that_is_most_like_the_plan() -> None:
    ours = replace(a_candidate(2, 0.1), prefetch_batches=8)
    others = (
        a_candidate(2, 0.2),
        replace(a_candidate(2, 0.3), engine="torch"),
        a_candidate(1, 0.5),
    )

    plan = replace(a_plan_of(2, *others, ours), prefetch_batches=8)

    assert chosen_of(plan) is ours


@given(
    choice=st.integers(0, 5),
    figures=st.lists(st.tuples(shares, shares, shares, shares), max_size=6),
    limit=st.floats(0, 1),
)
def test_whatever_was_found_can_be_told(
    choice: int, figures: list[tuple[float | None, ...]], limit: float
) -> None:
    candidates = tuple(
        replace(
            a_candidate(number),
            predicted_stall_fraction=stall,
            measured_stall_fraction=measured,
            predicted_batches_per_s=rate,
            measured_batches_per_s=measured_rate,
            memory_bytes=None,
        )
        for number, (stall, measured, rate, measured_rate) in enumerate(figures)
    )
    plan = replace(a_plan(choice, (None,) * 6, {}), candidates=candidates)

    text = printed(a_report(plan, max_stall_fraction=limit))

    assert text.startswith("Use ")
    assert "None" not in text.replace("=None", "")
    assert text.splitlines()[0].endswith(".")


def test_the_sentence_comes_first_then_the_table_the_reasons_and_the_use() -> None:
    lines = printed(a_report(a_plan())).splitlines()

    assert lines[0].startswith("Use 3 workers:")
    assert lines[1] == "What was weighed for train.py:build"
    assert lines[-6:] == [
        "num_workers=3: The fewest that keep the stall at or under 2.0 %.",
        "step_time: 50.0 ms, as it was given.",
        "Found out in 8.30 s.",
        "To use it, leave num_workers out of FastDataModule or FastDataLoader: it is remembered,",
        "  and the next run of one process here starts with it.",
        "To have it elsewhere: FastDataModule(..., num_workers=3, prefetch_factor=2)",
    ]


def test_a_choice_for_several_ranks_is_said_to_be_theirs() -> None:
    report = replace(a_report(a_plan()), facts={"machine": {"local_world_size": 8}})

    assert "the next run of 8 processes here starts with it." in printed(report)


def test_only_the_choice_is_marked() -> None:
    table = candidates_table(a_report(a_plan()))

    assert [row[1] for row in table.rows if row[0]] == ["3"]
    assert [row[0] for row in table.rows].count("->") == 1


def test_each_candidate_has_its_figures_and_says_what_is_missing() -> None:
    table = candidates_table(a_report(a_plan()))

    assert table.columns == (
        *("", "workers", "in flight", "stall predicted", "measured"),
        *("batches/s predicted", "measured", "memory"),
    )
    assert table.rows[3] == ("->", "3", "6", "1.2 %", "1.4 %", "19.8", "19.7", "8.0 MiB")
    assert table.rows[4] == ("", "4", "8", "0.4 %", "not tried", "19.9", "not tried", "10.0 MiB")


def test_what_is_known_of_no_candidate_has_no_column() -> None:
    table = candidates_table(a_report(a_plan_by_rate()))

    assert table.columns == ("", "workers", "in flight", "batches/s predicted", "memory")


def test_engines_are_told_apart_where_there_are_two() -> None:
    candidates = (
        a_candidate(0, 0.5),
        a_candidate(1, 0.1),
        replace(a_candidate(1, 0.2), engine="torch"),
    )

    table = candidates_table(a_report(a_plan_of(1, *candidates)))

    assert table.columns[1] == "engine"
    assert [row[1] for row in table.rows] == ["inline", "ring", "torch"]


def test_of_many_candidates_those_that_tell_most_are_shown() -> None:
    stalls = [max(0.0, 1 - number / 50) for number in range(257)]
    tried = {49: 0.03, 55: 0.0, 70: 0.0}

    table = candidates_table(a_report(a_plan(55, stalls, tried)))

    shown = [int(row[1]) for row in table.rows]
    assert {0, 49, 53, 54, 55, 56, 57, 70, 256} <= set(shown)
    assert shown == sorted(shown)
    assert len(shown) <= ROWS_SHOWN
    assert table.lines == (f"{len(shown)} of 257; --json FILE has all.",)


def test_without_a_step_time_it_is_said_how_to_give_one() -> None:
    assert "with --step-time MS or --model" in printed(a_report(a_plan_by_rate()))
    assert "--step-time" not in printed(a_report(a_plan(stalls=(None, *STALLS[1:]))))


def test_a_choice_that_is_not_remembered_says_how_it_is_used() -> None:
    text = printed(a_report(a_plan(0, (0.0,), {}), is_remembered=False))

    assert text.splitlines()[-1] == "To use it: FastDataModule(..., num_workers=0)"
    assert "remembered" not in text


def test_what_was_short_is_said() -> None:
    text = printed(a_report(replace(a_plan(), shortage="Memory is too little. Free some.")))

    assert "Short of: Memory is too little. Free some." in text


def test_a_file_gets_plain_ascii_and_a_terminal_a_drawn_table() -> None:
    plain, drawn = printed(a_report(a_plan())), printed(a_report(a_plan()), is_terminal=True)

    assert plain.isascii()
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 100
    assert "╭" in drawn
    assert "Use 3 workers" in drawn.splitlines()[0]


def test_a_target_with_brackets_and_controls_is_told_as_text() -> None:
    text = printed(a_report(a_plan(), target="[red]\x1b[31m\u202ex"), is_terminal=True)

    assert "[red]\\x1b[31m\\u202ex" in text


def test_the_json_has_a_version_the_plan_and_every_candidate() -> None:
    values = json.loads(a_report(a_plan()).to_json())

    assert (values["schema"], values["schema_version"]) == (SCHEMA, SCHEMA_VERSION)
    assert values["verdict"] == tuning_verdict(a_plan(), 0.02)
    assert values["plan"]["num_workers"] == 3
    assert values["plan"]["reasons"] == dict(a_plan().reasons)
    assert "candidates" not in values["plan"]
    assert [each["predicted_stall_fraction"] for each in values["candidates"]] == list(STALLS)
    assert values["candidates"][4]["measured_stall_fraction"] is None
    assert values["facts"] == {"asked": {"batch_size": 64}}
    assert (values["took_ns"], values["is_remembered"]) == (8_300_000_000, True)
