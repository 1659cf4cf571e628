"""Why a number of workers stays is told of the newest window, and only where the number stayed."""

from contextlib import closing

from adapting_tools import MS, Alone, FakeControls, Loop
from torch.utils.data import Dataset

from lightning_fastdata.loader.fast_data_loader import FastDataLoader

WHY = "of all workers there are too many"


class Numbers(Dataset[int]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> int:
        return index


class Others(Alone):
    """Other ranks have a wish."""

    def __init__(self, number: int) -> None:
        self.number, self.reason = number, f"rank 1 wants {number}"

    def propose(self, num_workers: int, stall_fraction: float) -> int:
        return self.number


def after_a_window(controls: FakeControls, agrees: Alone | None = None) -> Loop:
    loop = Loop(controls, agrees=agrees)
    while not controls.windows:
        loop.steps(1, step_ns=30 * MS, wait_ns=10 * MS)
    return loop


def test_what_the_controller_says_is_told() -> None:
    controls = FakeControls()
    controls.why_not = WHY

    assert after_a_window(controls).adaptation.why_no_change == WHY


def test_nothing_is_told_before_the_first_window() -> None:
    controls = FakeControls()
    controls.why_not = WHY

    assert Loop(controls).adaptation.why_no_change is None


def test_nothing_is_told_of_a_number_that_the_other_ranks_have_just_changed() -> None:
    controls = FakeControls()
    controls.why_not = WHY

    loop = after_a_window(controls, Others(6))

    assert loop.num_workers == 6
    assert loop.adaptation.why_no_change is None


def test_a_change_that_the_other_ranks_did_not_want_is_told_as_theirs() -> None:
    loop = after_a_window(FakeControls(3), Others(2))

    assert loop.num_workers == 2
    assert loop.adaptation.why_no_change == "rank 1 wants 2"


def test_nothing_is_told_once_nobody_looks_any_more() -> None:
    controls = FakeControls()
    controls.why_not = WHY
    loop = after_a_window(controls)

    loop.adaptation.give_up()

    assert loop.adaptation.why_no_change is None


def test_nothing_is_told_of_a_window_before_the_run() -> None:
    """A second fit may end before its first window."""
    controls = FakeControls()
    controls.why_not = WHY
    with closing(FastDataLoader(Numbers(), 5, num_workers=0)) as loader:
        assert loader.why_no_change() is None  # its number is the user's

        loader._adaptation = after_a_window(controls).adaptation

        ended_ns = controls.windows[-1].ended_ns
        assert loader.why_no_change(ended_ns) == loader.why_no_change() == WHY
        assert loader.why_no_change(ended_ns + 1) is None
