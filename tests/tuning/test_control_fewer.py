"""When the controller gives workers up, and when it takes that back."""

from dataclasses import replace
from itertools import pairwise

from control_tools import LIMITS, after, window

from lightning_fastdata.tuning.control.controller import Controller


def test_one_worker_fewer_is_tried_only_after_three_clean_windows() -> None:
    controller = Controller(LIMITS, num_workers=6)

    assert after(controller, window(6), window(6)) is None
    change = controller.see(window(6, at_s=6))

    assert change is not None
    assert (change.kind, change.before, change.after) == ("shrink", 6, 5)


def test_one_window_with_a_stall_begins_the_count_of_clean_windows_again() -> None:
    clean, unsure = window(6), window(6, stall=0.025)

    assert after(Controller(LIMITS, num_workers=6), clean, clean, unsure, clean, clean) is None


def test_half_of_what_is_much_too_much_goes_at_once() -> None:
    limits = replace(LIMITS, most_workers=32, cores=16)

    change = after(Controller(limits, num_workers=32), *[window(32)] * 3)

    assert change is not None
    assert 16 <= change.after <= 20


def test_no_worker_goes_where_one_fewer_would_be_too_few_if_batches_took_a_tenth_more() -> None:
    controller = Controller(LIMITS, num_workers=4)

    assert after(controller, *[window(4, work_ms=29)] * 12) is None
    assert controller.num_workers == 4


def test_workers_that_wait_for_a_core_only_as_they_share_a_batch_become_fewer() -> None:
    """Four on two cores are at a batch at once, each half of the time without a core."""
    limits = replace(LIMITS, most_workers=4, cores=2)
    crowded = window(4, work_ms=128, step_ms=55, cpu=0.5, core_wait_fraction=0.5)

    change = after(Controller(limits, num_workers=4), *[crowded] * 3)

    assert change is not None
    assert (change.kind, change.after) == ("shrink", 3)


def test_workers_stay_where_others_take_a_core_though_all_batches_lie_ready() -> None:
    """Four are at work nearly all the time, and get one core of two."""
    limits = replace(LIMITS, most_workers=4, cores=2)
    taken = window(4, work_ms=200, step_ms=55, cpu=0.25, core_wait_fraction=0.75)

    assert after(Controller(limits, num_workers=4), *[taken] * 6) is None


def test_workers_never_become_none() -> None:
    limits = replace(LIMITS, least_workers=0)
    controller = Controller(limits, num_workers=1)

    assert after(controller, *[window(1, work_ms=0.1)] * 12) is None


def test_a_shrink_that_led_to_a_stall_is_taken_back_at_once() -> None:
    controller = Controller(LIMITS, num_workers=6)

    change = after(controller, *[window(6)] * 3, window(5, stall=0.1))

    assert change is not None
    assert (change.kind, change.before, change.after) == ("roll_back", 5, 6)


def test_a_shrink_is_taken_back_even_if_its_stall_comes_late() -> None:
    controller = Controller(LIMITS, num_workers=6)

    change = after(controller, *[window(6)] * 3, window(5), window(5), window(5, stall=0.1))

    assert change is not None
    assert (change.kind, change.after) == ("roll_back", 6)


def test_the_wait_for_the_next_shrink_doubles_each_time_one_is_taken_back() -> None:
    controller = Controller(LIMITS, num_workers=6)
    number, shrunk_at_s = 6, []

    for at_s in range(0, 1800, 3):
        change = controller.see(window(number, stall=0.1 if number < 6 else 0.0, at_s=at_s))
        if change is not None:
            number = change.after
            shrunk_at_s += [at_s] if change.kind == "shrink" else []

    waits_s = [later - earlier for earlier, later in pairwise(shrunk_at_s)]
    assert waits_s == sorted(waits_s)
    assert waits_s[-1] >= 280
    assert max(waits_s) <= 615
