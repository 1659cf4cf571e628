"""What the recorder says beyond the parts: spans, asides, a drained device, epochs."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_loop import Loop, Step, small_ns, steps

from lightning_fastdata.trace import Part

ASIDES = (Part.CHECKPOINT, Part.LOGGING)
CALLS = {
    "epoch_started": (),
    "epoch_stopped": (),
    "fetch_started": (),
    "fetch_stopped": (),
    "transfer_started": (),
    "transfer_stopped": (),
    "step_started": (),
    "step_stopped": (),
    "validation_comes": (),
    "validation_started": (),
    "aside_stopped": (),
    "commit": (None,),
}
calls = st.one_of(
    st.sampled_from(list(CALLS.items())),
    st.sampled_from([("aside_started", (part,)) for part in ASIDES]),
)


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
@given(data=st.data())
def test_whatever_the_order_of_calls_the_parts_of_a_step_add_up_to_it(
    on_device: bool, data: st.DataObject
) -> None:
    loop = Loop(on_device=on_device)
    began_ns: list[int] = []  # the ends of steps, each the beginning of the next
    ended_ns: list[int] = []

    def now() -> int:
        return loop.clock.now_ns if loop.device is None else loop.device.record() or 0

    loop.start_epoch()
    last_ns = now()
    for name, arguments in data.draw(st.lists(calls, max_size=40)):
        loop.clock.now_ns += data.draw(small_ns)
        if loop.device:
            loop.device.queue(data.draw(small_ns))
        if name == "step_stopped":
            began_ns.append(last_ns)
            last_ns = now()
            ended_ns.append(last_ns)
        elif name == "epoch_started":
            last_ns = now()
        getattr(loop.recorder, name)(*arguments)
    loop.recorder.finish(wait=True)

    lengths = {end - begin for begin, end in zip(began_ns, ended_ns, strict=True)}
    for step in loop.added:
        assert sum(step.parts_ns) in lengths
        assert all(one[2] == other[1] for one, other in pairwise(step.spans))
        assert all(begin <= end for _, begin, end in step.spans)


@given(plan=st.lists(steps, max_size=8))
def test_spans_say_what_the_host_did_and_when(plan: list[Step]) -> None:
    loop = Loop()
    loop.start_epoch()
    began_ns = loop.clock.now_ns

    for step in plan:
        loop.run(step)

    spans = [span for each in loop.added for span in each.spans]
    for each in loop.added:
        for part in Part:
            lasted = sum(end - begin for kind, begin, end in each.spans if kind is part)
            assert lasted == each.parts_ns[part]
    assert [begin for _, begin, _ in spans] == [began_ns, *(end for *_, end in spans)][:-1]
    assert all(each.device_spans_ns == () for each in loop.added)


@given(plan=st.lists(steps, min_size=1, max_size=8))
def test_each_span_has_its_length_on_the_devices_clock(plan: list[Step]) -> None:
    loop = Loop(on_device=True)
    loop.start_epoch()

    for step in plan:
        loop.run(step)
    loop.recorder.finish(wait=True)

    for each in loop.added:
        parts_ns = [0] * len(Part)
        for (part, _, _), lasted_ns in zip(each.spans, each.device_spans_ns, strict=True):
            parts_ns[part] += lasted_ns
        assert tuple(parts_ns) == each.parts_ns


@given(plan=st.lists(steps, min_size=1, max_size=8))
def test_a_wait_is_never_exposed_for_longer_than_the_host_waited(plan: list[Step]) -> None:
    loop = Loop(on_device=True)
    loop.start_epoch()

    for step in plan:
        loop.run(step)
    loop.recorder.finish(wait=True)

    for each in loop.added:
        assert each.parts_ns[Part.WAIT] <= each.host_wait_ns
        if each.was_drained:
            assert each.parts_ns[Part.WAIT] == each.host_wait_ns


@pytest.mark.parametrize("aside", ASIDES)
@pytest.mark.parametrize("validates", [False, True])
def test_saving_and_logging_are_taken_out_of_what_goes_on_between_steps(
    aside: Part, validates: bool
) -> None:
    loop = Loop()
    loop.start_epoch()

    if validates:
        loop.recorder.validation_started()
    loop.clock.now_ns += 2
    loop.recorder.aside_started(aside)
    loop.clock.now_ns += 10
    loop.recorder.aside_stopped()
    loop.clock.now_ns += 3
    loop.run(Step(wait_ns=1))

    parts_ns = loop.added[0].parts_ns
    assert parts_ns[aside] == 10
    assert parts_ns[Part.VALIDATION if validates else Part.OTHER] == 5
    assert parts_ns[Part.WAIT] == 1


def test_logging_inside_the_step_is_not_computing() -> None:
    loop = Loop()
    loop.start_epoch()

    loop.fetch(1)
    loop.recorder.step_started()
    loop.clock.now_ns += 2
    loop.recorder.aside_started(Part.LOGGING)
    loop.clock.now_ns += 10
    loop.recorder.aside_stopped()
    loop.clock.now_ns += 3
    loop.recorder.step_stopped()
    loop.recorder.commit(None)

    parts_ns = loop.added[0].parts_ns
    assert (parts_ns[Part.COMPUTE], parts_ns[Part.LOGGING]) == (5, 10)


def test_logging_while_a_batch_is_asked_for_is_waiting() -> None:
    loop = Loop()
    loop.start_epoch()

    loop.recorder.fetch_started()
    loop.recorder.aside_started(Part.LOGGING)
    loop.clock.now_ns += 10
    loop.recorder.aside_stopped()
    loop.clock.now_ns += 1
    loop.recorder.fetch_stopped()
    loop.run(Step())

    assert loop.added[0].parts_ns[Part.WAIT] == 11
    assert loop.added[0].parts_ns[Part.LOGGING] == 0


def test_logging_while_a_checkpoint_is_saved_belongs_to_the_checkpoint() -> None:
    loop = Loop()
    loop.start_epoch()

    loop.recorder.aside_started(Part.CHECKPOINT)
    loop.clock.now_ns += 1
    loop.recorder.aside_started(Part.LOGGING)
    loop.clock.now_ns += 10
    loop.recorder.aside_stopped()
    loop.clock.now_ns += 100
    loop.recorder.aside_stopped()
    loop.run(Step())

    parts_ns = loop.added[0].parts_ns
    assert (parts_ns[Part.CHECKPOINT], parts_ns[Part.LOGGING]) == (111, 0)


def test_validation_after_logging_leaves_the_logging_alone() -> None:
    loop = Loop()
    loop.start_epoch()

    loop.clock.now_ns += 1
    loop.recorder.aside_started(Part.LOGGING)
    loop.clock.now_ns += 10
    loop.recorder.aside_stopped()
    loop.recorder.validation_started()
    loop.clock.now_ns += 100
    loop.run(Step())

    parts_ns = loop.added[0].parts_ns
    assert parts_ns[Part.OTHER] == 1
    assert (parts_ns[Part.LOGGING], parts_ns[Part.VALIDATION]) == (10, 100)


def test_what_came_before_validation_was_said_to_come_is_other_work() -> None:
    loop = Loop()
    loop.start_epoch()

    loop.clock.now_ns += 1
    loop.recorder.validation_comes()
    loop.clock.now_ns += 10
    loop.recorder.validation_started()
    loop.clock.now_ns += 100
    loop.run(Step())

    parts_ns = loop.added[0].parts_ns
    assert (parts_ns[Part.OTHER], parts_ns[Part.VALIDATION]) == (1, 110)


@pytest.mark.parametrize("waits_each_step", [False, True])
def test_a_loop_that_waits_for_the_device_each_step_is_seen_at_the_next_fetch(
    waits_each_step: bool,
) -> None:
    loop = Loop(on_device=True)
    assert loop.device is not None
    loop.start_epoch()

    for _ in range(4):
        loop.run(Step(wait_ns=1, device_ns=1000))
        if waits_each_step:
            loop.device.wait_for(loop.device.busy_until_ns)
    loop.recorder.finish(wait=True)

    looks = [each.was_drained for each in loop.added]
    # The step before the first of them asked the device for nothing.
    assert looks == [True, *[waits_each_step] * 3]
    totals = loop.trace.warmup
    assert (totals.looked_at, totals.drained) == (4, 4 if waits_each_step else 1)


def test_a_device_that_validation_kept_waiting_is_not_asked() -> None:
    loop = Loop(on_device=True)
    loop.start_epoch()

    loop.run(Step(wait_ns=1, validates=True))
    loop.run(Step(wait_ns=1))
    loop.recorder.finish(wait=True)

    assert [each.was_drained for each in loop.added] == [None, True]


def test_without_a_device_nothing_is_said_of_draining() -> None:
    loop = Loop()
    loop.start_epoch()

    loop.run(Step())

    assert loop.added[0].was_drained is None


def test_what_goes_on_now_is_told_only_of_steps_that_are_recorded() -> None:
    loop = Loop()
    recorder = loop.recorder
    seen: list[Part | None] = [recorder.part_now]

    recorder.epoch_started()
    recorder.fetch_started()
    seen.append(recorder.part_now)
    recorder.fetch_stopped()
    recorder.step_started()
    recorder.step_stopped()
    seen.append(recorder.part_now)
    recorder.validation_started()
    seen.append(recorder.part_now)
    recorder.fetch_started()
    seen.append(recorder.part_now)
    recorder.epoch_stopped()
    seen.append(recorder.part_now)

    assert seen == [None, None, Part.OTHER, Part.VALIDATION, Part.WAIT, None]


def test_steps_count_for_the_epoch_that_they_ran_in_however_late_they_are_read() -> None:
    loop = Loop(on_device=True)
    loop.start_epoch()
    for _ in range(3):
        loop.run(Step(wait_ns=1, device_ns=1000))

    loop.start_epoch()
    loop.run(Step(wait_ns=1))
    loop.recorder.finish(wait=True)

    assert [(each.epoch, each.steps) for each in loop.trace.epochs] == [(0, 3), (1, 1)]


def test_an_epoch_in_which_no_step_of_ours_ran_is_no_epoch() -> None:
    """A learning rate search in the middle of a run has epochs too, and takes no time of ours."""
    loop = Loop()
    loop.recorder.loader_opened(100)
    loop.start_epoch(Step(wait_ns=5))
    loop.recorder.loader_opened(20)

    loop.recorder.epoch_started()
    loop.run(Step(wait_ns=50), is_ours=False)
    loop.run(Step(wait_ns=50), is_ours=False)
    loop.start_epoch(Step(wait_ns=5))

    assert [(each.epoch, each.start_ns) for each in loop.trace.epochs] == [(0, 105), (1, 25)]
    assert list(loop.trace.epoch_start_ns) == [25]


def test_a_loader_without_a_length_has_opened_an_epoch_once_training_has_its_batch() -> None:
    """It is asked for the batch after as well, before the first is trained on."""
    loop = Loop()
    loop.recorder.loader_opened(0)
    loop.recorder.epoch_started()

    loop.fetch(30)
    loop.run(Step(wait_ns=40))

    assert loop.trace.epochs[0].start_ns == 70


def test_a_wall_of_an_epoch_is_that_of_its_steps_without_validation() -> None:
    loop = Loop()
    loop.start_epoch()

    loop.run(Step(before_ns=100, wait_ns=2, launch_ns=3, validates=True))
    loop.run(Step(before_ns=1, wait_ns=2, launch_ns=3))

    (epoch,) = loop.trace.epochs
    assert (epoch.steps, epoch.wall_ns, epoch.stall_ns) == (2, 11, 4)
