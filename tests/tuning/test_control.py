"""What the controller makes of single windows that stall, and what it refuses."""

from dataclasses import replace

import pytest
from control_tools import LIMITS, S, after, window

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.trace.changes import MOST_CHANGES
from lightning_fastdata.tuning.control.controller import Controller


@pytest.mark.parametrize("start", [0, 1])
def test_one_stalled_window_suffices_to_grow_to_the_number_that_replay_predicts(start: int) -> None:
    limits = replace(LIMITS, least_workers=start)
    controller = Controller(limits, num_workers=start)

    change = controller.see(window(start, stall=0.8 if start == 0 else 0.75))

    assert change is not None
    assert (change.kind, change.before, change.after) == ("grow", start, 4)
    assert change.predicted_stall_fraction is not None
    assert change.predicted_stall_fraction <= 0.02
    assert controller.num_workers == 4


def test_a_stall_within_the_limit_and_its_tolerance_changes_nothing() -> None:
    controller = Controller(LIMITS, num_workers=4)

    assert controller.see(window(4, stall=0.029)) is None
    assert controller.changes == ()


def test_grows_by_one_where_replay_says_that_there_are_enough() -> None:
    change = Controller(LIMITS, num_workers=5).see(window(5, stall=0.1))

    assert change is not None
    assert (change.kind, change.after) == ("grow", 6)


def test_workers_that_multiply_the_batches_are_taken_and_kept_though_the_stall_hardly_falls() -> (
    None
):
    """Four times the batches are 0.8 % of the time where training does little but wait."""
    controller = Controller(replace(LIMITS, most_workers=4, cores=2), num_workers=1)

    grown = after(controller, window(1, stall=0.998, work_ms=2500, step_ms=5, cpu=0.1))
    windows = [
        window(4, stall=0.992, work_ms=2500, step_ms=5, cpu=0.1, at_s=at_s) for at_s in (3, 6, 9)
    ]

    assert grown is not None
    assert (grown.kind, grown.after) == ("grow", 4)
    assert after(controller, *windows) is None
    assert controller.changes[0].measured_stall_fraction == 0.992
    assert controller.num_workers == 4


def test_grows_by_one_where_nothing_is_known_of_costs() -> None:
    change = Controller(LIMITS, num_workers=1).see(window(1, stall=0.5, knows_costs=False))

    assert change is not None
    assert (change.kind, change.after) == ("grow", 2)
    assert "not known" in change.reason


def test_the_start_of_a_pass_is_no_reason_to_grow_where_replay_sees_none() -> None:
    controller = Controller(LIMITS, num_workers=5)

    assert controller.see(window(5, stall=0.3, is_new_pass=True)) is None


def test_a_reason_is_a_sentence_with_the_figures_that_it_rests_on() -> None:
    change = Controller(LIMITS, num_workers=1).see(window(1, stall=0.75))

    assert change is not None
    assert change.reason == (
        "training stood still 75.0 % of the last 3.0 s; a batch takes 40.0 ms of a worker and a "
        "step 10.0 ms, so 4 workers are predicted to leave "
        f"{100 * (change.predicted_stall_fraction or 0):.1f} %"
    )


def test_never_grows_above_the_budget_and_says_why_not() -> None:
    controller = Controller(LIMITS, num_workers=8)

    assert controller.see(window(8, stall=0.5, work_ms=200)) is None
    assert controller.why_not is not None
    assert "8 is the most" in controller.why_not


def test_full_cores_get_no_workers_that_would_wait_for_each_other() -> None:
    controller = Controller(replace(LIMITS, cores=2), num_workers=2)

    change = controller.see(window(2, stall=0.5, cpu=1.0, work_ms=40, host_cores=0.1))

    assert change is None
    assert controller.why_not is not None
    assert "would only wait for each other" in controller.why_not


def test_does_not_grow_beyond_what_the_cores_can_do() -> None:
    controller = Controller(replace(LIMITS, cores=2), num_workers=1)

    change = controller.see(window(1, stall=0.9, cpu=1.0, work_ms=100))

    assert change is not None
    assert (change.after, controller.num_workers) == (2, 2)


def test_full_cores_give_workers_up_that_only_wait_for_each_other() -> None:
    limits = replace(LIMITS, cores=2)
    full = window(6, stall=0.5, cpu=1 / 3, work_ms=120, core_wait_fraction=2 / 3)

    controller = Controller(limits, num_workers=6)

    assert after(controller, full, full) is None
    assert controller.why_not is not None
    change = controller.see(replace(full, began_ns=6 * S, ended_ns=9 * S))

    assert change is not None
    assert controller.why_not is None  # there was something to be done
    assert (change.kind, change.after) == ("shrink", 4)
    assert "workers only wait for each other" in change.reason


def test_time_without_a_core_is_no_cost_of_a_batch() -> None:
    controller = Controller(replace(LIMITS, cores=4, most_workers=16), num_workers=1)

    change = controller.see(window(1, stall=0.75, work_ms=80, core_wait_fraction=0.5, cpu=0.1))

    assert change is not None
    assert "a batch takes 40.0 ms" in change.reason


def test_a_change_that_was_never_made_is_asked_for_again() -> None:
    controller = Controller(LIMITS, num_workers=1)

    changes = [controller.see(window(1, stall=0.75, at_s=at_s)) for at_s in range(0, 27, 3)]

    assert [change.kind for change in changes if change is not None] == ["grow", "grow"]
    assert [change.measured_stall_fraction for change in controller.changes] == [None, None]


def test_more_workers_than_it_wants_are_no_wish_of_its_own() -> None:
    """Where ranks agree, the number is the largest that any of them wants."""
    controller = Controller(LIMITS, num_workers=5)

    changes = [controller.see(window(8, work_ms=20, at_s=at)) for at in range(0, 300, 3)]

    assert controller.num_workers < 5
    assert all(change is None or change.after < 5 for change in changes)


def test_only_the_newest_changes_are_kept() -> None:
    controller, number, made = Controller(LIMITS, num_workers=1), 1, []

    for at_s in range(0, 60 * 6 * MOST_CHANGES, 60):
        is_costly = at_s // 600 % 2 == 0
        stall = 0.75 if number == 1 and is_costly else 0.0
        work_ms = 40.0 if is_costly else 4.0
        change = controller.see(window(number, stall=stall, work_ms=work_ms, at_s=at_s))
        if change is not None:
            number = change.after
            made.append(change.at_ns)

    assert len(made) > MOST_CHANGES
    assert [change.at_ns for change in controller.changes] == made[-MOST_CHANGES:]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"least_workers": 9}, "least_workers is 9 and most_workers 8"),
        ({"cores": 0.0}, r"cores is 0\.0"),
        ({"max_stall_fraction": 2.0}, r"cores is 8 and max_stall_fraction 2\.0"),
    ],
)
def test_limits_that_cannot_be_are_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(SettingsError, match=f"^{words}"):
        replace(LIMITS, **changes)  # type: ignore[arg-type]


def test_more_workers_than_the_budget_are_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match=r"^num_workers is 9, wanted is 0 to 8"):
        Controller(LIMITS, num_workers=9)
