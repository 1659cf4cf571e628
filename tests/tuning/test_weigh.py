"""What was weighed for a plan stands in it, and what an earlier run came to is taken up."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.tuning.choose import Situation, Wishes, choose_plan
from lightning_fastdata.tuning.probe import ProbeFacts
from lightning_fastdata.tuning.remembered import Remembered
from lightning_fastdata.tuning.weigh import MOST_SHOWN, most_workers

MS = 1_000_000
BATCH = ProbeFacts(samples=9, batch_wall_ns=60 * MS, batch_cpu_ns=60 * MS, batch_bytes=10**6)
BEFORE = Remembered(
    engine="ring",
    num_workers=3,
    prefetch_batches=6,
    stall_fraction=0.004,
    step_time_s=0.02,
    batch_bytes=10**6,
    source="run",
    saved_on="2026-11-23",
)


def plan_at(cores: float, step_time_s: float | None = None, **known: object) -> LoaderPlan:
    situation = Situation(cores=cores, step_time_s=step_time_s, batch_size=32)
    return choose_plan(Wishes(), replace(situation, **known), BATCH)  # type: ignore[arg-type]


@settings(max_examples=30)
@given(cores=st.integers(2, 24), step_ms=st.integers(1, 200), wait=st.sampled_from([0.0, 0.5, 1.0]))
def test_the_chosen_number_stands_among_candidates_that_agree_with_the_plan(
    cores: int, step_ms: int, wait: float
) -> None:
    facts = replace(BATCH, batch_cpu_ns=round(BATCH.batch_wall_ns * (1 - wait)))
    situation = Situation(cores=cores, step_time_s=step_ms / 1e3, batch_size=32)

    plan = choose_plan(Wishes(), situation, facts)

    numbers = [each.num_workers for each in plan.candidates]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert numbers[-1] == plan.max_workers
    assert len(numbers) <= MOST_SHOWN + 4
    (chosen,) = (each for each in plan.candidates if each.num_workers == plan.num_workers)
    assert chosen.engine == plan.engine
    assert chosen.prefetch_batches == plan.prefetch_batches
    assert chosen.predicted_stall_fraction == plan.predicted_stall_fraction
    stalls = [each.predicted_stall_fraction for each in plan.candidates]
    known = [stall for stall in stalls if stall is not None]
    assert len(known) == len(stalls)
    assert plan.predicted_stall_fraction is not None
    assert plan.predicted_stall_fraction <= max(0.02, min(known) + 0.02)


def test_without_a_step_candidates_tell_batches_a_second_and_no_stall() -> None:
    plan = plan_at(8)

    assert plan.num_workers == 7
    assert plan.predicted_stall_fraction is None
    assert all(each.predicted_stall_fraction is None for each in plan.candidates)
    rates = [each.predicted_batches_per_s or 0 for each in plan.candidates]
    assert rates[0] == pytest.approx(1e9 / BATCH.batch_wall_ns, rel=0.01)
    assert "not known yet" in plan.reasons["num_workers"]


@pytest.mark.parametrize(
    ("cores", "step_time_s", "words"),
    [
        (8.0, 60.0, "a step takes 60 s: without workers the loader keeps up (predicted stall 0."),
        (8.0, 0.05, "a step takes 50 ms: with 2 workers the loader keeps up (predicted stall 0."),
        (2.0, 0.001, "with 2 workers it is about as good as with any number up to 2 (predicted"),
        (2.0, None, "with 1 worker 16.6 batches/s are made, and with up to 1 at most 16.7. The"),
    ],
)
def test_the_reason_for_the_number_is_a_sentence_with_its_figures(
    cores: float, step_time_s: float | None, words: str
) -> None:
    assert words in plan_at(cores, step_time_s).reasons["num_workers"]


def test_making_batches_in_the_training_process_stalls_it_for_as_long() -> None:
    none = plan_at(8, 0.02).candidates[0]

    assert (none.engine, none.prefetch_batches) == ("inline", 0)
    assert none.predicted_stall_fraction == pytest.approx(60 / 80, abs=0.001)


def test_a_short_batch_beside_a_long_step_gets_no_worker_but_may_get_some_later() -> None:
    plan = plan_at(8, 5.0)

    assert (plan.engine, plan.num_workers) == ("inline", 0)
    assert plan.max_workers == 8
    assert plan.predicted_stall_fraction == pytest.approx(0.06 / 5.06)


def test_workers_that_wait_for_storage_may_outnumber_the_cores() -> None:
    waiting = replace(BATCH, batch_cpu_ns=MS)

    plan = choose_plan(Wishes(), Situation(cores=4, step_time_s=0.011, batch_size=32), waiting)

    assert (plan.num_workers, plan.max_workers) == (6, 8)


@pytest.mark.parametrize(
    ("cores", "cpu_fraction", "most"),
    [
        (4, 1.0, 4),
        (4, 0.9, 5),
        (4, 0.5, 8),
        (4, 0.0, 8),
        (2.5, 1.0, 3),
        (1, 1.0, 1),
        (9999, 0, 512),
    ],
)
def test_more_workers_than_two_a_core_or_than_the_cores_can_feed_are_not_weighed(
    cores: float, cpu_fraction: float, most: int
) -> None:
    assert most_workers(cores, cpu_fraction) == most


def test_training_that_computes_on_the_host_leaves_fewer_cores() -> None:
    alone, beside = (
        plan_at(4, 0.02, host_cores=host_cores).predicted_stall_fraction
        for host_cores in (0.0, 3.0)
    )

    assert alone is not None
    assert beside is not None
    assert alone < 0.05 < beside


def test_what_an_earlier_run_came_to_is_taken_up_without_measuring() -> None:
    situation = Situation(cores=8, remembered=BEFORE)

    plan = choose_plan(Wishes(), situation, None)

    assert (plan.engine, plan.num_workers, plan.max_workers) == ("ring", 3, 16)
    assert plan.reasons["num_workers"] == (
        "an earlier run on this kind of machine came to it (2026-11-23, stall 0.4%); "
        "lightning-fastdata tune --forget starts anew"
    )


@pytest.mark.parametrize(
    ("source", "words"),
    [("tune", "tune came to it"), ("checkpoint", "the run that"), ("loader", "the loader before")],
)
def test_whoever_came_to_it_is_named(source: str, words: str) -> None:
    remembered = replace(BEFORE, source=source, stall_fraction=None)  # type: ignore[arg-type]

    reason = choose_plan(Wishes(), Situation(cores=8, remembered=remembered), None).reasons

    assert reason["num_workers"].startswith(words)
    assert "stall" not in reason["num_workers"]
    assert ("--forget" in reason["num_workers"]) is (source == "tune")


def test_a_remembered_number_is_cut_to_what_this_machine_has() -> None:
    many = replace(BEFORE, num_workers=20, prefetch_batches=40)

    plan = choose_plan(Wishes(), Situation(cores=4, remembered=many), None)

    assert plan.num_workers == 8
    assert "of 20 workers 8 are within the budget" in plan.reasons["num_workers"]


def test_that_no_worker_was_needed_is_remembered_too_unless_workers_are_asked_for() -> None:
    none = replace(BEFORE, engine="inline", num_workers=0, prefetch_batches=0)
    situation = Situation(cores=4, remembered=none)

    assert choose_plan(Wishes(), situation, None).engine == "inline"
    asked = choose_plan(Wishes(engine="ring"), situation, None)
    assert (asked.engine, asked.num_workers) == ("ring", 1)
    assert 'engine="ring" was asked for, though' in asked.reasons["num_workers"]


def test_a_fixed_number_is_kept_whatever_is_remembered() -> None:
    plan = choose_plan(Wishes(num_workers=1), Situation(cores=8, remembered=BEFORE), None)

    assert (plan.num_workers, plan.max_workers) == (1, None)


@pytest.mark.parametrize(
    ("free_bytes", "words"),
    [(10**12, "once its files are in memory (60 ms before)"), (10**6, "come from storage")],
)
def test_files_that_fit_into_memory_are_expected_to_be_there(free_bytes: int, words: str) -> None:
    cold = replace(
        BATCH, read_bytes=10**7, warm_batch_wall_ns=12 * MS, batch_cpu_ns=12 * MS, length=32_000
    )
    situation = Situation(
        cores=8, step_time_s=0.02, batch_size=32, memory_available_bytes=free_bytes + 10**9
    )

    plan = choose_plan(Wishes(), situation, cold)

    assert words in plan.reasons["num_workers"]
    assert plan.num_workers == (1 if free_bytes == 10**12 else 3)


def test_the_budget_is_within_what_memory_holds() -> None:
    plan = plan_at(8, 0.03, memory_available_bytes=20 * 10**6)

    assert plan.max_workers is not None
    assert (2 * plan.max_workers + 1) * BATCH.batch_bytes <= 10 * 10**6


@pytest.mark.parametrize("kind", ["is_gather", "is_stream"])
def test_training_changes_no_number_that_does_not_follow_from_costs(kind: str) -> None:
    assert plan_at(16, **{kind: True}).max_workers is None
