"""The recorder's arithmetic, on clocks that move only when told to."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trace_loop import Loop, Step, small_ns, steps

from lightning_fastdata.trace import (
    MAX_EPOCHS,
    MAX_UNREAD_STEPS,
    WARMUP_STEPS,
    Part,
    SampleCounter,
    StallTrace,
    StallWindow,
    StepTimes,
    WaitHistogram,
)


@given(plan=st.lists(steps, max_size=8))
def test_on_the_host_clock_each_part_is_exactly_the_time_spent_in_it(plan: list[Step]) -> None:
    loop = Loop()
    loop.start_epoch()
    began_ns = loop.clock.now_ns

    for step in plan:
        loop.run(step)

    assert [each.parts_ns for each in loop.added] == [
        (
            step.wait_ns,
            step.transfer_ns,
            step.launch_ns,
            0 if step.validates else step.before_ns,
            step.before_ns if step.validates else 0,
            0,
            0,
        )
        for step in plan
    ]
    assert sum(sum(each.parts_ns) for each in loop.added) == loop.clock.now_ns - began_ns


@given(plan=st.lists(steps, min_size=1, max_size=8))
def test_on_the_device_clock_only_what_queued_work_did_not_cover_is_a_stall(
    plan: list[Step],
) -> None:
    loop = Loop(on_device=True)
    assert loop.device is not None
    loop.start_epoch()
    stalls_ns = []

    for step in plan:
        busy_until_ns = loop.device.busy_until_ns
        asked_ns = loop.clock.now_ns + step.before_ns
        answered_ns = asked_ns + step.wait_ns
        stalls_ns.append(max(0, answered_ns - max(busy_until_ns, asked_ns)))
        loop.run(step)
    loop.recorder.finish(wait=True)

    assert [each.parts_ns[Part.WAIT] for each in loop.added] == stalls_ns
    assert [each.host_wait_ns for each in loop.added] == [step.wait_ns for step in plan]


@given(plan=st.lists(steps, min_size=1, max_size=8))
def test_the_parts_of_the_device_clock_add_up_to_the_devices_own_time(plan: list[Step]) -> None:
    loop = Loop(on_device=True)
    assert loop.device is not None
    loop.start_epoch()
    began_ns = loop.device.record()

    for step in plan:
        loop.run(step)
    ended_ns = loop.device.record()
    loop.recorder.finish(wait=True)

    assert began_ns is not None
    assert ended_ns is not None
    assert sum(sum(each.parts_ns) for each in loop.added) == ended_ns - began_ns


def test_never_waits_for_the_device_before_the_end() -> None:
    loop = Loop(on_device=True)
    assert loop.device is not None
    loop.start_epoch(Step(device_ns=1000))

    for _ in range(5):
        loop.run(Step(wait_ns=1, device_ns=1000))

    assert (loop.device.waits, loop.added) == (0, [])
    loop.recorder.finish(wait=True)
    assert (loop.device.waits, len(loop.added)) == (1, 5)


def test_an_interrupted_run_keeps_what_the_device_had_finished_and_does_not_wait() -> None:
    loop = Loop(on_device=True)
    assert loop.device is not None
    loop.start_epoch()
    loop.run(Step(wait_ns=1))
    loop.run(Step(wait_ns=1, device_ns=1000))

    loop.recorder.finish(wait=False)

    assert (loop.device.waits, len(loop.added)) == (0, 1)


def test_steps_that_the_device_leaves_unread_stay_few_and_are_counted() -> None:
    loop = Loop(on_device=True)
    loop.start_epoch(Step(device_ns=10**9))

    for _ in range(3 * MAX_UNREAD_STEPS):
        loop.run(Step())
    loop.recorder.finish(wait=True)

    assert len(loop.added) == MAX_UNREAD_STEPS - 1  # one place was the first step's
    assert loop.trace.steps_seen == 3 * MAX_UNREAD_STEPS + 1


def test_read_events_go_back_to_the_pool() -> None:
    loop = Loop(on_device=True)
    assert loop.device is not None
    loop.start_epoch()
    loop.run(Step())

    assert loop.device.released == 2 * 6  # the last mark of a step is the first of the next


def test_a_step_during_graph_capture_is_left_out() -> None:
    loop = Loop(on_device=True)
    assert loop.device is not None
    loop.start_epoch()

    loop.device.captures = True
    loop.run(Step(wait_ns=5))
    loop.device.captures = False
    loop.run(Step(wait_ns=7))  # begins with a mark that was not made
    loop.run(Step(wait_ns=9))

    assert [each.parts_ns[Part.WAIT] for each in loop.added] == [9]
    assert loop.trace.steps_seen == 4


def test_a_fetch_inside_the_step_counts_as_waiting_and_not_as_computing() -> None:
    loop = Loop()
    loop.start_epoch()

    loop.recorder.step_started()
    loop.clock.now_ns += 2
    loop.fetch(5)
    loop.clock.now_ns += 3
    loop.recorder.step_stopped()
    loop.recorder.commit(8)

    assert loop.added[0].parts_ns == (5, 0, 5, 0, 0, 0, 0)
    assert loop.added[0].samples == 8


@given(before_ns=small_ns, transfer_ns=small_ns, after_ns=small_ns)
def test_a_transfer_inside_the_fetch_counts_as_transfer_and_not_as_waiting(
    before_ns: int, transfer_ns: int, after_ns: int
) -> None:
    """A loader may bring its batches to the device itself, while it is asked for them."""
    loop = Loop()
    loop.start_epoch()

    loop.recorder.fetch_started()
    loop.clock.now_ns += before_ns
    loop.recorder.transfer_started()
    loop.clock.now_ns += transfer_ns
    loop.recorder.transfer_stopped()
    loop.clock.now_ns += after_ns
    loop.recorder.fetch_stopped()
    loop.recorder.step_started()
    loop.recorder.step_stopped()
    loop.recorder.commit(None)

    parts_ns = loop.added[-1].parts_ns
    assert parts_ns[Part.WAIT] == before_ns + after_ns
    assert parts_ns[Part.TRANSFER] == transfer_ns


def test_samples_of_a_step_with_two_fetches_are_not_known() -> None:
    loop = Loop()
    loop.start_epoch()

    loop.fetch(1)
    loop.run(Step(wait_ns=2), samples=8)

    assert (loop.added[0].parts_ns[Part.WAIT], loop.added[0].samples) == (3, None)


def test_a_transfer_without_a_fetch_is_validations_and_does_not_count() -> None:
    loop = Loop()
    loop.start_epoch()

    loop.recorder.validation_started()
    loop.recorder.transfer_started()
    loop.clock.now_ns += 50
    loop.recorder.transfer_stopped()
    loop.run(Step(wait_ns=1))

    assert loop.added[0].parts_ns == (1, 0, 0, 0, 50, 0, 0)


def test_a_step_that_nobody_commits_is_forgotten() -> None:
    loop = Loop()
    loop.start_epoch()

    loop.run(Step(wait_ns=100), is_ours=False)
    loop.run(Step(wait_ns=1))

    assert [each.parts_ns[Part.WAIT] for each in loop.added] == [1]
    assert loop.trace.steps_seen == 2


def test_a_fetch_that_finds_the_end_of_the_epoch_belongs_to_no_step() -> None:
    loop = Loop()
    loop.start_epoch()
    loop.run(Step(wait_ns=1))
    loop.fetch(100)

    loop.start_epoch()
    loop.run(Step(wait_ns=2))

    assert [each.parts_ns[Part.WAIT] for each in loop.added] == [1, 2]


def test_the_start_of_each_epoch_is_a_number_of_its_own() -> None:
    loop = Loop()

    for opening_ns in (100, None, 300):
        loop.recorder.loader_opened(opening_ns)
        loop.start_epoch(Step(before_ns=2, wait_ns=5))
        loop.run(Step(wait_ns=1))

    assert loop.trace.first_batch_ns == 107
    assert list(loop.trace.epoch_start_ns) == [7, 307]
    assert len(loop.added) == 3


def test_a_first_batch_whose_loader_was_not_seen_opening_is_not_measured() -> None:
    loop = Loop()
    loop.recorder.loader_opened(None)

    loop.start_epoch(Step(wait_ns=5))

    assert loop.trace.first_batch_ns is None


def test_a_long_run_stays_small() -> None:
    loop = Loop()

    for _ in range(2 * MAX_EPOCHS):
        loop.start_epoch()

    assert len(loop.trace.epoch_start_ns) == MAX_EPOCHS


def test_the_first_steps_are_kept_apart_as_warmup() -> None:
    trace = StallTrace(clock="host", device_type="cpu")

    for wait_ns in range(WARMUP_STEPS + 3):
        trace.add(
            StepTimes(parts_ns=(wait_ns, 0, 0, 0, 0, 0, 0), host_wait_ns=wait_ns, samples=None)
        )

    assert (trace.warmup.steps, trace.steady.steps) == (WARMUP_STEPS, 3)
    assert trace.steady.parts_ns[Part.WAIT] == 3 * WARMUP_STEPS + 3


def test_a_window_holds_the_steps_since_the_last_one() -> None:
    trace = StallTrace(clock="host", device_type="cpu")
    step = StepTimes(parts_ns=(1, 2, 3, 4, 5, 6, 7), host_wait_ns=1, samples=2)

    trace.add(step)
    trace.take_window()
    trace.add(step)

    assert trace.take_window() == StallWindow(steps=1, stall_ns=1, wall_ns=23, host_wait_ns=1)
    assert trace.take_window() == StallWindow()


@given(waits_ns=st.lists(st.integers(0, 255), min_size=1), percent=st.integers(1, 100))
def test_small_waits_have_exact_quantiles(waits_ns: list[int], percent: int) -> None:
    histogram = WaitHistogram()

    for wait_ns in waits_ns:
        histogram.add(wait_ns)

    not_above = sum(wait_ns <= histogram.quantile_ns(percent / 100) for wait_ns in waits_ns)  # type: ignore[operator]  # it is not empty
    below = sum(wait_ns < histogram.quantile_ns(percent / 100) for wait_ns in waits_ns)  # type: ignore[operator]  # it is not empty
    assert below < percent / 100 * len(waits_ns) <= not_above or below == 0


@given(wait_ns=st.integers(0, 10**15))
def test_any_wait_is_kept_to_within_two_hundred_and_fiftieth(wait_ns: int) -> None:
    histogram = WaitHistogram()

    histogram.add(wait_ns)

    kept_ns = histogram.quantile_ns(0.5)
    assert kept_ns is not None
    assert 250 * abs(kept_ns - wait_ns) <= wait_ns


def test_no_wait_has_no_quantile() -> None:
    assert WaitHistogram().quantile_ns(0.5) is None


def tensors(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    return [torch.zeros(shape) for shape in shapes]


@pytest.mark.parametrize(
    ("make_batch", "samples"),
    [
        (lambda: tensors((8, 3), (8,)), 8),
        (lambda: {"x": torch.zeros(8, 3), "more": (torch.zeros(8), "text", torch.tensor(1.0))}, 8),
        (lambda: tensors((5, 3), (5,)), None),  # never a full batch before it
        (lambda: tensors((8, 3), (2, 8)), None),
        (lambda: ["text"], None),
        (lambda: None, None),
    ],
)
def test_samples_are_counted_only_where_they_are_clear(
    make_batch: Callable[[], object], samples: int | None
) -> None:
    assert SampleCounter(8).count(make_batch()) == samples


def test_a_smaller_last_batch_counts_after_a_full_one() -> None:
    counter = SampleCounter(8)

    assert [counter.count(torch.zeros(size)) for size in (8, 3)] == [8, 3]
