"""What an adapting engine measures, when it asks its controller, and what it does then."""

import gc
import weakref
from contextlib import closing, suppress
from dataclasses import replace

import pytest
from adapting_tools import (
    MS,
    PLAIN_WINDOW,
    Alone,
    FakeClock,
    FakeControls,
    FakeEngine,
    Loop,
    S,
    change_of,
    chunk,
    control_loaders,
)
from sample_sets import Numbers, loader_of, plain

from lightning_fastdata.loader.meter import Meter
from lightning_fastdata.trace.changes import PlanChange
from lightning_fastdata.tuning.control.window import Window


def test_the_first_window_of_a_run_ends_after_a_second() -> None:
    """A bad start is mended soon; later windows take three."""
    controls = FakeControls()
    loop = Loop(controls)

    loop.steps(101, step_ns=50 * MS, wait_ns=50 * MS)

    assert [window.ended_ns - window.began_ns for window in controls.windows] == [
        pytest.approx(1 * S, abs=300 * MS),
        pytest.approx(3 * S, abs=300 * MS),
        pytest.approx(3 * S, abs=300 * MS),
    ]


def test_a_window_has_twenty_batches_unless_they_take_ten_seconds() -> None:
    controls = FakeControls()
    slow_controls = FakeControls()

    Loop(controls).steps(60, step_ns=200 * MS)
    Loop(slow_controls).steps(12, step_ns=4 * S)

    # It looks every quarter of a second.
    assert [window.batches for window in controls.windows] == [8 + 1, 20 + 1, 20 + 1]
    assert [window.batches for window in slow_controls.windows] == [3, 3, 3]


def test_waits_and_steps_come_to_stall_and_busy_time() -> None:
    controls = FakeControls()
    loop = Loop(controls)

    loop.steps(40, step_ns=30 * MS, wait_ns=10 * MS)

    (window,) = controls.windows
    assert (window.stall_ns, window.busy_ns) == (window.batches * 10 * MS, window.batches * 30 * MS)
    assert (window.stall_fraction, window.step_ns) == (0.25, 30 * MS)
    assert (window.ready_fraction, window.num_workers, window.is_new_pass) == (0.0, 2, True)


def test_taking_a_batch_that_lay_ready_is_no_stall() -> None:
    """More workers could not make it shorter."""
    controls = FakeControls()
    loop = Loop(controls)

    loop.steps(40, step_ns=30 * MS, wait_ns=10 * MS, ready=True)

    (window,) = controls.windows
    assert (window.stall_ns, window.ready_fraction) == (0, 1.0)
    assert window.busy_ns == window.batches * 40 * MS


def test_the_first_batch_of_a_pass_says_nothing() -> None:
    """Workers were started for it, or the queues were empty."""
    controls = FakeControls()
    loop = Loop(controls)

    loop.steps(1, step_ns=30 * MS, wait_ns=900 * MS)
    loop.steps(60, step_ns=30 * MS)

    assert controls.windows[0].stall_ns == 0


def test_pauses_are_no_part_of_a_window() -> None:
    controls = FakeControls()
    loop = Loop(controls)

    loop.steps(20, step_ns=30 * MS, wait_ns=10 * MS)
    loop.clock.now_ns += 700 * MS  # validation
    loop.steps(20, step_ns=30 * MS, wait_ns=10 * MS)

    (window,) = controls.windows
    assert window.busy_ns == pytest.approx(window.batches * 30 * MS, abs=31 * MS)
    assert window.stall_ns == window.batches * 10 * MS


def test_a_window_is_not_due_for_the_length_of_a_pause() -> None:
    controls = FakeControls()
    loop = Loop(controls)

    loop.steps(10, step_ns=30 * MS, wait_ns=10 * MS)
    loop.clock.now_ns += 20 * S  # validation
    loop.steps(10, step_ns=30 * MS, wait_ns=10 * MS)

    assert controls.windows == []


def test_slow_steps_are_no_pauses() -> None:
    controls = FakeControls()
    loop = Loop(controls)

    loop.steps(12, step_ns=600 * MS)

    assert controls.windows[0].busy_ns == controls.windows[0].batches * 600 * MS


def test_long_steps_that_come_again_and_again_are_no_pauses() -> None:
    """As where gradients are accumulated."""
    controls = FakeControls()
    loop = Loop(controls)

    for _ in range(4):
        loop.steps(15, step_ns=20 * MS)
        loop.steps(1, step_ns=700 * MS)

    window = controls.windows[0]
    assert window.step_ns > 40 * MS


def test_work_of_workers_adds_up() -> None:
    controls = FakeControls()
    loop = Loop(controls)
    loop.engine.times = (
        chunk(0, 8 * MS, core_wait_ns=2 * MS, samples=3),
        chunk(0, 4 * MS, core_wait_ns=1 * MS, samples=1, first_row=3),
    )

    loop.steps(40, step_ns=30 * MS, wait_ns=10 * MS)

    (window,) = controls.windows
    assert window.work_ns == window.batches * 12 * MS
    assert window.cpu_ns == window.batches * 6 * MS
    assert window.core_wait_ns == window.batches * 3 * MS
    assert [cost.rows for cost in window.costs] == [4] * window.batches
    assert {cost.time_ns for cost in window.costs} == {12 * MS}


@pytest.mark.parametrize(("unknown_ns", "expected_ns"), [(4 * MS, 3 * MS), (9 * MS, None)])
def test_unknown_waits_for_a_core_are_taken_to_be_like_the_known(
    unknown_ns: int, expected_ns: int | None
) -> None:
    """Unless more is unknown than known."""
    controls = FakeControls()
    loop = Loop(controls)
    loop.engine.times = (
        chunk(0, 8 * MS, core_wait_ns=2 * MS),
        chunk(0, unknown_ns, core_wait_ns=None),
    )

    loop.steps(40, step_ns=30 * MS)

    (window,) = controls.windows
    expected = None if expected_ns is None else window.batches * expected_ns
    assert window.core_wait_ns == expected


def test_without_workers_the_wait_is_the_work() -> None:
    controls = FakeControls()
    loop = Loop(controls, num_workers=0)

    loop.steps(40, step_ns=30 * MS, wait_ns=10 * MS)

    (window,) = controls.windows
    assert (window.num_workers, window.work_ns) == (0, window.batches * 10 * MS)
    assert {(cost.rows, cost.time_ns) for cost in window.costs} == {(4, 10 * MS)}
    assert window.stall_fraction == 0.25


def test_what_the_training_process_computes_besides_is_told_in_cores() -> None:
    """Without workers it also makes the batches, which workers would do for it."""
    spent_ns = [0]
    told = []
    for num_workers in (0, 1):
        meter, engine = Meter(num_workers, lambda: spent_ns[0]), FakeEngine(FakeClock())
        for number in range(11):
            batch, taken_ns = engine.next(), number * 10 * MS
            meter.add(batch, taken_ns - 4 * MS, taken_ns, 0, is_ready=False, cpu_ns=3 * MS)
            spent_ns[0] += 8 * MS
        told.append(meter.window(11 * 10 * MS).host_cores)

    assert told == [pytest.approx((88 - 30) / 110), pytest.approx(88 / 110)]


def test_a_change_is_made_with_its_reason() -> None:
    controls = FakeControls(5, None, 3)
    loop = Loop(controls)

    loop.steps(300, step_ns=30 * MS, wait_ns=10 * MS)

    assert loop.resized == [(5, "because of 5"), (3, "because of 3")]
    assert [window.num_workers for window in controls.windows] == [2, 5, 5, 3]
    assert [window.is_new_pass for window in controls.windows] == [True, False, False, False]
    assert loop.adaptation.changes == controls.changes


def test_a_window_holds_nothing_of_before_the_change() -> None:
    controls = FakeControls(5)
    loop = Loop(controls)

    loop.steps(26, step_ns=30 * MS, wait_ns=10 * MS)
    assert len(controls.windows) == 1
    loop.steps(120, step_ns=30 * MS)

    assert controls.windows[1].stall_ns == 0
    assert controls.windows[1].began_ns >= controls.windows[0].ended_ns


def test_a_window_in_which_somebody_else_changed_the_number_is_dropped() -> None:
    controls = FakeControls()
    loop = Loop(controls)

    loop.steps(10, step_ns=30 * MS, wait_ns=10 * MS)
    loop.num_workers = 4
    loop.steps(100, step_ns=30 * MS, wait_ns=10 * MS)

    assert {window.num_workers for window in controls.windows} == {4}


def test_a_pass_that_cannot_follow_ends_its_windows() -> None:
    """Torch's workers: the next pass has the new number."""
    controls = FakeControls(5)
    loop = Loop(controls, follows=False)

    loop.steps(300, step_ns=30 * MS, wait_ns=10 * MS)
    assert len(controls.windows) == 1
    loop.adapting.end(failed=False)
    loop.begin_pass()
    loop.steps(100, step_ns=30 * MS, wait_ns=10 * MS)

    assert [window.num_workers for window in controls.windows] == [2, 5]


def test_short_passes_come_to_windows_together() -> None:
    controls = FakeControls()
    loop = Loop(controls)

    for _ in range(10):
        loop.steps(6, step_ns=30 * MS, wait_ns=10 * MS)
        loop.adapting.end(failed=False)
        loop.clock.now_ns += 7 * S  # validation between the passes
        loop.begin_pass()

    window = controls.windows[0]
    assert window.busy_ns + window.stall_ns < 1.5 * S
    assert (window.stall_fraction, window.is_new_pass) == (0.25, True)


def test_a_look_at_a_batch_long_before_training_is_no_part_of_a_window() -> None:
    """Nor of the time after the start of training in which anything may change."""
    controls = FakeControls()
    loop = Loop(controls)

    loop.steps(1, step_ns=3600 * S)
    loop.adapting.end(failed=False)
    loop.begin_pass()
    loop.steps(60, step_ns=30 * MS)

    assert controls.windows[0].began_ns > 3600 * S


def test_two_passes_at_a_time_share_no_window() -> None:
    controls = FakeControls()
    loop = Loop(controls)

    first = loop.adapting
    loop.steps(10, step_ns=30 * MS)
    look = loop.begin_pass()
    loop.steps(1, step_ns=0, wait_ns=400 * MS)
    look.end(failed=False)
    loop.adapting = first
    loop.steps(40, step_ns=30 * MS)

    assert [window.stall_ns for window in controls.windows] == [0]


def test_a_pass_that_failed_leaves_nothing_to_the_next() -> None:
    loop = Loop(FakeControls())

    loop.steps(10, step_ns=30 * MS)
    loop.engine.error = RuntimeError("no more")
    with suppress(RuntimeError):
        loop.adapting.next()
    loop.adapting.end(failed=True)

    assert loop.adaptation.rest is None


class Broken(FakeControls):
    def see(self, window: Window) -> PlanChange | None:
        super().see(window)
        raise ZeroDivisionError("of all things")


def test_a_controller_that_fails_is_told_once_and_ends_nothing() -> None:
    controls = Broken()
    loop = Loop(controls)

    with pytest.warns(RuntimeWarning, match="^the number of workers stays at 2") as told:
        loop.steps(400, step_ns=30 * MS)

    assert (len(told), len(controls.windows), loop.engine.number) == (1, 1, 400)


def test_batches_and_questions_pass_through() -> None:
    loop = Loop(FakeControls())

    loop.adapting.watched = True

    assert (loop.engine.watched, loop.adapting.watched) == (True, True)
    assert (loop.adapting.depth, loop.adapting.in_flight) == (4, 4)


class Others(Alone):
    """Other ranks want more."""

    def __init__(self, number: int, reason: str | None) -> None:
        self.number, self.reason, self.told = number, reason, []  # type: ignore[var-annotated]

    def propose(self, num_workers: int, stall_fraction: float) -> int:
        self.told.append((num_workers, stall_fraction))
        return self.number


def test_what_the_ranks_agree_on_is_used_and_noted() -> None:
    controls, others = FakeControls(3), Others(6, "rank 1 wants 6")
    loop = Loop(controls, agrees=others)

    loop.steps(200, step_ns=30 * MS, wait_ns=10 * MS)

    assert loop.resized == [(6, "rank 1 wants 6")]
    assert others.told[:2] == [(3, 0.25), (6, 0.25)]
    (change,) = loop.adaptation.changes
    assert (change.kind, change.before, change.after) == ("grow", 2, 6)


def test_what_is_agreed_already_is_no_change() -> None:
    loop = Loop(FakeControls(3), agrees=Others(2, "rank 1 wants 2"))

    loop.steps(200, step_ns=30 * MS, wait_ns=10 * MS)

    assert loop.resized == []
    assert loop.adaptation.changes == ()


class Growing(FakeControls):
    """Wants one more worker after each window."""

    def see(self, window: Window) -> PlanChange | None:
        self._answers.append(window.num_workers % 4 + 1)
        return super().see(window)


@pytest.fixture
def quick_windows(monkeypatch: pytest.MonkeyPatch) -> FakeControls:
    """Every batch after the first ends a window; gives the controller of all loaders."""
    controls = Growing()
    control_loaders(monkeypatch, lambda: controls)
    return controls


@pytest.mark.parametrize("before", [0, 2])
def test_a_loader_that_adapts_gives_the_same_batches(
    before: int, quick_windows: FakeControls
) -> None:
    with closing(loader_of(Numbers(200), 10, num_workers=before)) as loader:
        found = [plain(batch)[-1] for _ in range(2) for batch in loader]

        assert [number for batch in found for number in batch] == 2 * list(range(200))
        assert len(quick_windows.windows) > 20
        assert loader.changes == quick_windows.changes
        assert {change.after for change in loader.changes} == {1, 2, 3, 4}
        assert loader.plan.reasons["num_workers"].startswith("because of")


def test_a_loader_that_adapts_dies_with_its_last_reference(quick_windows: FakeControls) -> None:
    """Or its workers would live on: a cycle waits for the garbage collector."""
    loader = loader_of(Numbers(200), 5, num_workers=1)
    gc.collect()
    gc.disable()
    try:
        batches = iter(loader)
        for _ in range(6):
            next(batches)
        known = weakref.ref(loader)
        del loader, batches

        assert known() is None
    finally:
        gc.enable()


def test_a_number_that_the_user_gave_stays() -> None:
    with closing(loader_of(Numbers(20), 5, num_workers=1)) as loader:
        assert (loader.plan.max_workers, loader._adaptation) == (None, None)
        assert len(list(loader)) == 4
        assert loader.changes == ()


def test_a_plan_with_a_limit_is_adapted_within_it() -> None:
    plan = replace(loader_of(Numbers(20), 5, num_workers=1).plan, max_workers=3)

    with closing(loader_of(Numbers(20), 5, plan=plan)) as loader:
        assert loader._adaptation is not None
        batches = list(loader)

    assert len(batches) == 4
    assert loader.changes == ()


def test_only_the_newest_changes_are_kept() -> None:
    loop = Loop(FakeControls(), agrees=Others(9, "rank 1"))
    for number in range(300):
        loop.adaptation.see(replace(PLAIN_WINDOW, ended_ns=number))

    assert [change.at_ns for change in loop.adaptation.changes] == list(range(44, 300))
    assert change_of(PLAIN_WINDOW, 9).before == 1
