"""Parts of a dataset: seeded splits without lists, and the way back through them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset, Subset

from lightning_fastdata.dataset.views import SplitView, base_of, resolve_indices, split_dataset
from lightning_fastdata.errors import SettingsError


class Named(Dataset[int]):
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        return range(self.length)[index]

    def sample_path(self, index: int) -> str:
        return f"{index}.jpg"


def members(view: Any) -> list[int]:
    return [view[index] for index in range(len(view))]


@given(length=st.integers(2, 200), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_the_two_sides_hold_each_sample_exactly_once(
    length: int, fraction: float, seed: int
) -> None:
    if not 0 < round(length * fraction) < length:
        return

    train, val = split_dataset(Named(length), fraction, seed)

    assert sorted(members(train) + members(val)) == list(range(length))
    assert len(val) == round(length * fraction)


def test_the_split_is_the_same_in_every_run_and_another_for_another_seed() -> None:
    first, again, other = (split_dataset(Named(100), 0.2, seed)[1] for seed in (0, 0, 1))

    assert members(first) == members(again)
    assert set(members(first)) != set(members(other))


@pytest.mark.parametrize(("length", "fraction"), [(10, 0.0), (10, 1.0), (10, 0.01), (2, 0.1)])
def test_a_split_with_an_empty_side_is_refused(length: int, fraction: float) -> None:
    with pytest.raises(SettingsError, match=rf"^val_fraction={fraction} of {length} samples"):
        split_dataset(Named(length), fraction, 0)


def test_negative_indices_count_from_the_end_of_their_side() -> None:
    _, val = split_dataset(Named(10), 0.3, 0)

    assert [val[-1], val[-3]] == [val[2], val[0]]
    assert resolve_indices(val, np.array([-1, -3])).tolist() == [val[2], val[0]]


@pytest.mark.parametrize("index", [3, -4, 9, -11, 10])
def test_an_index_beyond_a_side_never_reaches_the_other(index: int) -> None:
    _, val = split_dataset(Named(10), 0.3, 0)

    with pytest.raises(IndexError, match=rf"^sample {index} of a split of 3 samples"):
        val[index]
    with pytest.raises(IndexError, match=rf"^sample {index} of a split of 3 samples"):
        resolve_indices(val, np.array([0, index]))


def test_iterating_over_a_side_ends() -> None:
    """Python's old protocol asks for 0, 1, 2, ... until an IndexError."""
    train, _ = split_dataset(Named(10), 0.3, 0)

    assert len(list(train)) == 7  # type: ignore[call-overload]  # a Dataset has no __iter__


def test_sample_path_names_the_file_of_the_sample() -> None:
    train, _ = split_dataset(Named(10), 0.3, 0)

    assert [train.sample_path(index) for index in (0, 6)] == [f"{train[0]}.jpg", f"{train[6]}.jpg"]


@st.composite
def chains(draw: Any) -> Any:
    """A dataset under one to three views."""
    data: Any = Named(draw(st.integers(4, 40)))
    for _ in range(draw(st.integers(1, 3))):
        length = len(data)
        if draw(st.booleans()) and length >= 2:
            data = SplitView(
                data, start=0, stop=draw(st.integers(1, length)), seed=draw(st.integers(0, 5))
            )
        else:
            indices = draw(st.lists(st.integers(-length, length - 1), min_size=1, max_size=9))
            data = Subset(data, np.array(indices) if draw(st.booleans()) else indices)  # type: ignore[arg-type]
    return data


@given(data=chains())
def test_resolved_indices_lead_to_the_same_samples(data: Any) -> None:
    places = np.arange(len(data))

    found = resolve_indices(data, places)

    base = base_of(data)
    assert type(base) is Named
    assert [base[index] for index in found.tolist()] == members(data)


def test_a_subclass_of_subset_is_asked_itself() -> None:
    class Doubled(Subset[int]):
        def __getitem__(self, index: Any) -> int:
            return 2 * int(self.dataset[self.indices[index]])

        def __getitems__(self, indices: list[int]) -> list[int]:
            return [self[index] for index in indices]

    data = Doubled(Named(5), [4, 3])

    assert base_of(data) is data
    assert resolve_indices(data, np.array([1])).tolist() == [1]
