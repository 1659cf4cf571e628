"""What holds for the controller whatever the windows are."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fastdata.tuning.control.controller import Controller, ControlLimits
from lightning_fastdata.tuning.control.window import Window
from lightning_fastdata.tuning.replay import BatchCost, Span

SECOND_NS = 1_000_000_000
TIMES = st.sampled_from([0, 1, 50_000, 10**7, 10**9, 10**11])
COSTS = st.builds(
    BatchCost,
    spans=st.lists(st.builds(Span, st.integers(1, 40), TIMES), min_size=1, max_size=3).map(tuple),
)
WINDOWS = st.builds(
    Window,
    began_ns=st.just(0),
    ended_ns=st.sampled_from([SECOND_NS, 3 * SECOND_NS, 10 * SECOND_NS]),
    num_workers=st.integers(0, 6),
    batches=st.sampled_from([1, 3, 20, 300]),
    busy_ns=TIMES,
    stall_ns=TIMES,
    ready_fraction=st.sampled_from([0.0, 0.5, 1.0]),
    costs=st.lists(COSTS, max_size=4).map(tuple),
    work_ns=TIMES,
    cpu_ns=TIMES,
    core_wait_ns=st.none() | TIMES,
    host_cores=st.sampled_from([0.0, 0.5, 1.0, 9.0]),
    is_new_pass=st.booleans(),
)
LIMITS = st.builds(
    ControlLimits,
    most_workers=st.integers(1, 6),
    least_workers=st.integers(0, 1),
    cores=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    max_stall_fraction=st.sampled_from([0.0, 0.02, 1.0]),
    is_cut=st.booleans(),
    engine=st.sampled_from(["ring", "torch"]),
)


def one_after_the_other(windows: list[Window], pause_ns: int) -> list[Window]:
    """Put windows into time, with pauses between them."""
    placed, now_ns = [], 5 * SECOND_NS
    for window in windows:
        length_ns = window.ended_ns - window.began_ns
        placed.append(replace(window, began_ns=now_ns, ended_ns=now_ns + length_ns))
        now_ns += length_ns + pause_ns
    return placed


@settings(max_examples=60, deadline=None)
@given(LIMITS, st.lists(WINDOWS, max_size=30), st.booleans(), st.sampled_from([0, SECOND_NS]))
def test_any_windows_get_an_answer_within_the_limits(
    limits: ControlLimits, windows: list[Window], is_obeyed: bool, pause_ns: int
) -> None:
    """The caller may do what it is told or not, and other ranks may ask for any number."""
    start = limits.least_workers
    controller, number, made = Controller(limits, num_workers=start), start, []

    for window in one_after_the_other(windows, pause_ns):
        change = controller.see(replace(window, num_workers=number) if is_obeyed else window)
        if change is not None:
            made.append(change)
            number = change.after
            assert 1 <= change.after <= limits.most_workers
            assert change.after == controller.num_workers != change.before or not is_obeyed
            assert change.reason

    assert [replace(change, measured_stall_fraction=None) for change in controller.changes] == made
    began_ns = 35 * SECOND_NS
    at_ns = [change.at_ns for change in made if change.at_ns >= began_ns]
    for first_ns in at_ns:
        assert sum(first_ns <= one_ns < first_ns + 60 * SECOND_NS for one_ns in at_ns) <= 2


@settings(max_examples=60, deadline=None)
@given(LIMITS, st.lists(WINDOWS, max_size=12))
def test_equal_windows_lead_to_equal_changes(limits: ControlLimits, windows: list[Window]) -> None:
    placed = one_after_the_other(windows, 0)
    first, second = [Controller(limits, num_workers=limits.least_workers) for _ in range(2)]

    assert [first.see(window) for window in placed] == [second.see(window) for window in placed]


@settings(max_examples=60, deadline=None)
@given(LIMITS, st.lists(WINDOWS, max_size=12))
def test_without_stall_there_are_never_more_workers(
    limits: ControlLimits, windows: list[Window]
) -> None:
    controller, number = Controller(limits, num_workers=1), 1

    for window in one_after_the_other(windows, 0):
        change = controller.see(replace(window, stall_ns=0, num_workers=number))
        assert change is None or change.after < number
        number = controller.num_workers
