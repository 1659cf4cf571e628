"""Bad samples that are left out make batches smaller, or leave none, and nothing else."""

from typing import Any

import pytest
from fault_passes import go_over, numbers_in
from fault_sets import Good

LENGTH = 60
BAD = (3, 21, 22, 50, 59)
GOOD = set(range(LENGTH)) - set(BAD)
SKIP: dict[str, Any] = {"on_bad_sample": "skip", "max_bad_fraction": 0.2}
LEAVE: dict[str, Any] = {"on_bad_sample": "leave_out", "max_bad_fraction": 0.2}
ENGINES: dict[str, dict[str, Any]] = {
    "inline": {"num_workers": 0},
    "ring of 1": {"num_workers": 1},
    "ring of 2": {"num_workers": 2},
    "ring of 3": {"num_workers": 3},
    "torch": {"num_workers": 2, "engine": "torch"},
}
EVERYWHERE = pytest.mark.parametrize(
    "engine", ["inline", "ring of 2", pytest.param("torch", marks=pytest.mark.slow)]
)


@EVERYWHERE
def test_a_whole_batch_may_be_left_out(engine: str) -> None:
    told = go_over(Good(16, [4, 5, 6, 7]), **ENGINES[engine], **LEAVE | {"max_bad_fraction": 1})

    assert [len(part) for part in map(numbers_in, ([one] for one in told.batches))] == [4, 4, 4]
    assert told.numbers == [0, 1, 2, 3, *range(8, 16)]


@EVERYWHERE
def test_the_last_and_the_first_batch_may_be_left_out(engine: str) -> None:
    told = go_over(
        Good(10, [0, 1, 2, 3, 8, 9]), **ENGINES[engine], **LEAVE | {"max_bad_fraction": 1}
    )

    assert told.numbers == [4, 5, 6, 7]
    assert told.error is None


@EVERYWHERE
def test_all_samples_may_be_left_out(engine: str) -> None:
    told = go_over(Good(6, range(6)), **ENGINES[engine], **LEAVE | {"max_bad_fraction": 1})

    assert told.batches == []
    assert told.error is None


@EVERYWHERE
def test_single_samples_may_be_left_out(engine: str) -> None:
    told = go_over(Good(LENGTH, BAD), None, **ENGINES[engine], **LEAVE)

    assert told.numbers == sorted(GOOD)
