"""What the controller does about what came of a growth."""

from dataclasses import replace
from itertools import pairwise

import pytest
from control_tools import LIMITS, after, window

from lightning_fastdata.tuning.control.controller import Controller


def test_what_came_of_a_change_is_noted_with_it() -> None:
    controller = Controller(LIMITS, num_workers=1)

    after(controller, window(1, stall=0.75), window(4, stall=0.01), window(4, stall=0.02))

    assert controller.changes[0].measured_stall_fraction == pytest.approx(0.01)


def test_a_window_in_which_queues_fill_verifies_nothing() -> None:
    controller = Controller(LIMITS, num_workers=1)
    short = replace(window(4, stall=0.75), batches=5)

    assert after(controller, window(1, stall=0.75), short) is None
    assert controller.changes[0].measured_stall_fraction is None


def test_growth_that_did_not_help_is_rolled_back_and_not_tried_again_at_once() -> None:
    controller = Controller(LIMITS, num_workers=1)

    change = after(controller, window(1, stall=0.75), window(4, stall=0.74))
    later = [controller.see(window(1, stall=0.75, at_s=at)) for at in range(6, 60, 3)]

    assert change is not None
    assert (change.kind, change.before, change.after) == ("roll_back", 4, 1)
    assert "did not help" in change.reason
    assert later == [None] * 18


def test_growth_is_tried_again_after_its_back_off_which_doubles() -> None:
    controller = Controller(LIMITS, num_workers=1)
    number, grown_at_s = 1, []

    for at_s in range(0, 600, 3):
        change = controller.see(window(number, stall=0.75, at_s=at_s))
        if change is not None:
            number = change.after
            grown_at_s += [at_s] if change.kind == "grow" else []

    waits_s = [later - earlier for earlier, later in pairwise(grown_at_s)]
    assert len(waits_s) == 3
    assert waits_s[1] >= 1.8 * waits_s[0]
    assert waits_s[2] >= 1.8 * waits_s[1]


def test_what_more_workers_do_to_each_other_does_not_shorten_the_back_off() -> None:
    """A storage that gives no more: with more workers, each batch takes longer."""
    controller = Controller(LIMITS, num_workers=1)
    number, grown_at_s = 1, []

    for at_s in range(0, 600, 3):
        work_ms = 600 if number == 1 else 2400
        change = controller.see(window(number, stall=0.75, at_s=at_s, work_ms=work_ms, step_ms=150))
        if change is not None:
            number = change.after
            grown_at_s += [at_s] if change.kind == "grow" else []

    waits_s = [later - earlier for earlier, later in pairwise(grown_at_s)]
    assert waits_s[1] >= 1.6 * waits_s[0]


def test_two_changes_a_minute_are_enough_after_the_first_half_minute() -> None:
    controller, number, changed_at_s = Controller(LIMITS, num_workers=1), 1, []
    controller.see(window(1, work_ms=1))

    for at_s in range(60, 200, 3):
        change = controller.see(window(number, stall=0.9 - 0.1 * number, work_ms=1, at_s=at_s))
        if change is not None:
            number = change.after
            changed_at_s.append(at_s)

    assert changed_at_s[:4] == [60, 63, 120, 123]


def test_growth_is_tried_again_once_batches_cost_something_else() -> None:
    controller = Controller(LIMITS, num_workers=1)

    change = after(
        controller,
        window(1, stall=0.75),
        window(4, stall=0.74),
        window(1, stall=0.75),
        window(1, stall=0.9, work_ms=60),
        window(1, stall=0.9, work_ms=60),
    )

    assert change is not None
    assert change.kind == "grow"
    assert change.after >= 6


def test_growth_that_gave_a_quarter_of_what_was_predicted_stays() -> None:
    controller = Controller(LIMITS, num_workers=1)

    change = after(controller, window(1, stall=0.75), window(4, stall=0.5))

    assert change is None or change.kind != "roll_back"
    assert controller.num_workers >= 4


def test_growth_that_slowed_training_down_is_rolled_back_though_it_stalls_less() -> None:
    controller = Controller(LIMITS, num_workers=5)

    change = after(controller, window(5, stall=0.1), window(6, stall=0.07, step_ms=12))

    assert change is not None
    assert change.kind == "roll_back"


def test_growth_out_of_the_training_process_is_rolled_back_to_one_worker() -> None:
    limits = replace(LIMITS, least_workers=0)
    controller = Controller(limits, num_workers=0)

    change = after(
        controller, window(0, stall=0.8), *(window(4, stall=0.8) for _ in "12")
    )  # two windows, until what is in flight has been gone through

    assert change is not None
    assert (change.kind, change.after) == ("roll_back", 1)
