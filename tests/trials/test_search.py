"""The search: it tries what matters, keeps to its time, and tells what it found."""

from typing import Any

import pytest
from trial_sets import MS, FakeClock, Numbers, runs_by_table

from lightning_fastdata.machine import read_machine
from lightning_fastdata.trials import Findings, Search, StepTime, Subject, Trial, plan_of
from lightning_fastdata.trials.policy import interleaved

STEP = StepTime(step_ns=10 * MS)
MADE_UP = ("trial_ns", "batch_ns", "step_ns")
MOST = max(1, round(2 * read_machine({}).cores))


def search(stalls: list[float], step: StepTime | None = STEP, **settings: Any) -> Search:
    """A search whose trials measure what a table says; it is continued to the most workers."""
    clock = FakeClock()
    table = stalls + [stalls[-1]] * (MOST + 1)
    made_up = {name: settings.pop(name) for name in MADE_UP if name in settings}
    # Samples that sleep: what is predicted then does not depend on how busy this machine is.
    subject = Subject(
        name="Numbers", dataset=Numbers(640, settings.pop("sleep_s", 0.001)), batch_size=4
    )
    return Search(
        settings.pop("subject", subject),
        step,
        max_stall_fraction=0.02,
        run=runs_by_table(table, clock, **made_up),
        clock_ns=clock,
        **settings,
    )


def test_the_number_that_is_taken_was_tried_and_keeps_the_limit() -> None:
    findings = search([0.6, 0.01, 0.0]).settle(100.0)

    assert findings.is_settled
    assert findings.chosen == 1
    assert findings.measured_stalls()[1] == pytest.approx([0.01], abs=1e-6)


def test_no_workers_are_taken_where_none_are_needed() -> None:
    cheap = Subject(name="Numbers", dataset=Numbers(640), batch_size=4)

    findings = search([0.01, 0.0], subject=cheap, batch_ns=MS // 10).settle(100.0)

    assert findings.chosen == 0


def test_one_worker_more_is_tried_and_taken_where_those_would_be_just_enough() -> None:
    """A batch of 9 ms for a step of 10 ms: with a fifth more it would come too late."""
    findings = search([0.9, 0.01, 0.0], batch_ns=9 * MS).settle(100.0)

    assert findings.chosen == 2
    assert 2 in findings.measured_stalls()
    assert "but more if batches took 1.2 times as long" in plan_of(findings).reasons["num_workers"]


def test_one_worker_more_is_not_taken_where_it_was_tried_in_vain() -> None:
    findings = search([0.9, 0.01, 0.2], batch_ns=9 * MS).exhaust()

    assert findings.chosen == 1


def test_one_trial_is_made_where_there_is_time_for_one() -> None:
    findings = search([0.6, 0.3, 0.0]).settle(1.0)

    assert len(findings.trials) == 1
    assert not findings.is_settled


def test_no_trial_is_begun_that_would_end_too_late() -> None:
    findings = search([0.6, 0.3, 0.0], trial_ns=2000 * MS).settle(3.0)

    assert len(findings.trials) == 1


@pytest.mark.parametrize("slow", ["step", "batch"])
def test_where_not_even_one_trial_would_end_in_time_the_prediction_chooses(slow: str) -> None:
    """Five batches: two to settle, three measured."""
    if slow == "step":
        hard = search([0.6, 0.3, 0.0], StepTime(step_ns=1000 * MS))
    else:
        dataset = Numbers(640, 0.1)
        hard = search([0.9], subject=Subject(name="Numbers", dataset=dataset, batch_size=64))

    findings = hard.settle(3.0)

    assert findings.trials == []
    assert not findings.is_settled
    best = min(each.stall_fraction for each in findings.forecasts.values())
    assert findings.forecasts[findings.chosen].stall_fraction <= best + 0.03
    assert plan_of(findings).reasons["trials"].startswith("0 in ")


def test_each_trial_is_told_of_when_it_is_made() -> None:
    seen: list[int] = []

    def note(trial: Trial, findings: Findings) -> None:
        assert findings.trials[-1] is trial
        seen.append(trial.num_workers)

    findings = search([0.6, 0.01, 0.0], on_trial=note).settle(100.0)

    assert seen == [trial.num_workers for trial in findings.trials]


def test_an_exhaustive_search_tries_every_number_twice_there_and_back() -> None:
    findings = search([0.5, 0.01, 0.0]).exhaust()

    tried = [trial.num_workers for trial in findings.trials]
    assert tried == interleaved(MOST) + interleaved(MOST)[::-1]
    assert findings.chosen == 1
    assert findings.is_settled


def test_without_a_step_time_the_fewest_within_a_twentieth_of_the_best_rate_are_taken() -> None:
    """A stall of 0.5 stands for half of the batches a second that none would give."""
    findings = search([0.5, 0.04, 0.0], step=None).exhaust()

    assert findings.chosen == 1


def test_a_dataset_that_cannot_be_measured_is_tried_all_the_same() -> None:
    subject = Subject(
        name="Numbers",
        dataset=Numbers(64),
        batch_size=None,
        shuffle=False,
        sampler=list(range(64)),
    )

    findings = search([0.6, 0.01, 0.0], subject=subject).settle(100.0)

    assert findings.facts is None
    assert findings.chosen == 1


def test_a_plan_says_what_was_predicted_before_the_trial_and_what_was_measured() -> None:
    findings = search([0.6, 0.01, 0.0]).exhaust()
    first = dict(findings.foreseen)

    plan = plan_of(findings)

    assert [each.num_workers for each in plan.candidates] == list(range(MOST + 1))
    for each in plan.candidates:
        assert each.predicted_stall_fraction == first[each.num_workers].stall_fraction
        assert each.measured_stall_fraction is not None
        assert each.memory_bytes is not None
    assert plan.candidates[0].engine == "inline"
    assert plan.num_workers == 1
    assert plan.max_workers is None
    assert plan.predicted_stall_fraction == plan.candidates[1].predicted_stall_fraction


def test_what_was_predicted_of_a_number_is_not_mended_by_its_own_trial() -> None:
    findings = search([0.5, 0.5, 0.5], batch_ns=400 * MS).settle(1.0)

    number = findings.trials[0].num_workers
    assert findings.forecasts[number].stall_fraction > 0.5
    assert findings.foreseen[number].stall_fraction < 0.1


def test_steps_that_took_longer_than_told_are_what_the_others_are_predicted_for() -> None:
    """Batches of 20 ms and steps of 10 ms: one worker stalls for half of it; of 30: not at all."""
    told, longer = (
        search([0.4, 0.4, 0.4], step_ns=step_ms * MS).settle(1.0).forecasts[1]
        for step_ms in (10, 30)
    )

    assert told.stall_fraction > 0.4
    assert longer.stall_fraction < 0.1


def test_what_workers_cost_is_not_forgotten_for_a_trial_without_any() -> None:
    """The exhaustive search ends with none; the training process's batches say nothing of them."""
    findings = search([0.9, 0.8, 0.8]).exhaust()

    assert findings.trials[-1].num_workers == 0
    assert findings.trials[-2].around_ns == pytest.approx(20 * MS, rel=0.01)
    assert findings.forecasts[1].stall_fraction > 0.6  # 0.5 without these 20 ms


def test_a_step_that_computes_is_not_taken_to_be_longer_for_the_workers_beside_it() -> None:
    step = StepTime(step_ns=10 * MS, host_cores=0.5)

    longer = search([0.4, 0.4, 0.4], step, step_ns=30 * MS).settle(1.0).forecasts[1]

    assert longer.stall_fraction > 0.4


def test_what_a_loop_waits_besides_what_its_loader_noted_is_predicted_of_all_with_workers() -> None:
    """The table's trials wait 10 ms a batch; a loader that noted nothing spent it in between."""
    findings = search([0.5] * 3, batch_ns=MS // 1000, sleep_s=0.004).settle(1.0)

    assert findings.trials[0].num_workers
    assert findings.trials[0].around_ns == pytest.approx(10 * MS, rel=0.01)
    for number, each in findings.forecasts.items():
        assert (each.stall_fraction > 0.4) == (number > 0)


def test_a_plan_gives_its_reasons_with_figures() -> None:
    plan = plan_of(search([0.6, 0.01, 0.0]).exhaust())

    assert plan.reasons["num_workers"].startswith("1.0% stall measured")
    assert "with 0: 60.0% stall measured" in plan.reasons["num_workers"]
    assert plan.reasons["step_time"] == "10 ms, given"
    assert plan.reasons["probe"].startswith("a batch of 4 takes")
    assert plan.reasons["trials"].startswith(f"{2 * (MOST + 1)} in ")


@pytest.mark.parametrize("engine", ["ring", "torch"])
def test_a_plan_without_workers_says_that_the_engine_asked_for_would_need_some(engine: Any) -> None:
    cheap = Subject(name="Numbers", dataset=Numbers(640), batch_size=4, engine=engine)

    plan = plan_of(search([0.01, 0.0], subject=cheap, batch_ns=MS // 10).settle(100.0))

    assert (plan.num_workers, plan.engine) == (0, "inline")
    assert f'engine="{engine}" needs some: leave engine out' in plan.reasons["engine"]


def test_a_plan_says_that_the_limit_cannot_be_kept() -> None:
    plan = plan_of(search([0.9, 0.5, 0.5]).exhaust())

    assert plan.num_workers == 1
    assert "more do not come to 2.0%" in plan.reasons["num_workers"]


def test_a_plan_says_that_trials_speak_against_what_was_predicted_of_more() -> None:
    """One was to keep the limit and did not; two are said to, and were not tried."""
    plan = plan_of(search([0.9, 0.05, 0.05], batch_ns=MS).settle(1.0))

    assert plan.num_workers == 1
    assert plan.candidates[2].predicted_stall_fraction < 0.02
    assert "by what was tried, more would not come to 2.0% either" in plan.reasons["num_workers"]


def test_without_a_step_time_a_plan_predicts_no_stall() -> None:
    plan = plan_of(search([0.5, 0.04, 0.0], step=None).exhaust())

    assert plan.predicted_stall_fraction is None
    assert all(each.measured_stall_fraction is None for each in plan.candidates)
    assert all(each.measured_batches_per_s for each in plan.candidates)
    assert plan.reasons["step_time"].startswith("not known")
