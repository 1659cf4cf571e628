"""What a batch costs is measured on a few samples, and the measuring changes nothing."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, Dataset, Subset

from lightning_fastdata.dataset.views import split_dataset
from lightning_fastdata.loader.make import recipe_of
from lightning_fastdata.loader.measure import measure_and_choose
from lightning_fastdata.loader.probing import probe
from lightning_fastdata.tuning.choose import Wishes
from lightning_fastdata.tuning.probe import (
    FEW_SAMPLES,
    MAX_SAMPLES,
    MIN_SAMPLES,
    MOST_HICCUPS,
    TOGETHER,
    count_bytes,
    probe_batches,
)


@dataclass
class Boxes:
    corners: torch.Tensor
    names: list[str]


class Opening(Dataset[Any]):
    """Opens something at its first sample, and draws."""

    def __init__(self) -> None:
        self.handle: object | None = None
        self.epoch: int | None = None

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> torch.Tensor:
        self.handle = self.handle or object()
        return torch.rand(5) + np.random.rand() + random.random()


class OpeningWhole(Opening):
    def __getitems__(self, indices: Sequence[int]) -> list[torch.Tensor]:
        return [self[index] for index in indices]


class Wrapped(Dataset[Any]):
    """How users put transforms on top of a split."""

    def __init__(self, inner: Dataset[Any]) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return self.inner[index] * 2


WRAPPERS: dict[str, Any] = {
    "itself": lambda data: data,
    "subset": lambda data: Subset(data, range(6)),
    "split": lambda data: split_dataset(data, 0.5, 0)[0],
    "split of a subset": lambda data: split_dataset(Subset(data, range(6)), 0.5, 0)[1],
    "wrapper": Wrapped,
    "wrapped subset": lambda data: Wrapped(Subset(data, range(6))),
    "concatenation": lambda data: ConcatDataset([data, data]),
}


@pytest.mark.parametrize("kind", [Opening, OpeningWhole])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_measuring_opens_nothing_in_the_users_dataset(wrapper: str, kind: type[Opening]) -> None:
    data = kind()
    recipe = recipe_of(WRAPPERS[wrapper](data), None, None, batched=True)

    facts = probe(recipe, 2)

    assert facts.batch_bytes in (2 * 5 * 4, 2 * 5 * 8)
    assert data.handle is None
    assert data.epoch is None


def test_measuring_leaves_the_generators_of_the_process_alone() -> None:
    recipe = recipe_of(Opening(), None, None, batched=True)
    torch.manual_seed(99)  # none of the states that an earlier measurement could have left
    np.random.seed(99)
    random.seed(99)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]

    probe(recipe, 4)

    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert random.getstate() == before[2]


def test_nothing_is_measured_where_the_number_of_workers_is_given() -> None:
    def fail(*_: Any) -> Any:
        raise AssertionError("measured")

    recipe = recipe_of(Opening(), None, None, batched=True)
    for wishes in (Wishes(num_workers=3), Wishes(num_workers=0), Wishes(engine="inline")):
        plan = measure_and_choose(wishes, recipe, 4, read_samples=fail)

        assert plan.num_workers == (3 if wishes.num_workers == 3 else 0)


def test_bytes_of_nested_batches_are_added_up() -> None:
    batch = {
        "images": torch.zeros(4, 3, dtype=torch.bfloat16),
        "rest": [np.zeros((2, 2), np.int32), ("ab", b"cde", None, 7)],
        "boxes": Boxes(torch.zeros(4, dtype=torch.uint8), ["x"]),
    }

    assert count_bytes(batch) == 24 + 16 + 2 + 3 + 4 + 1


def made_of(length: int, asked: list[list[int]]) -> Any:
    def make(indices: Sequence[int]) -> torch.Tensor:
        assert all(0 <= index < length for index in indices)
        asked.append(list(indices))
        return torch.zeros(len(indices), 100, dtype=torch.uint8)

    return make


@given(length=st.integers(1, 200), batch_size=st.integers(1, 60), whole=st.booleans())
def test_costs_are_those_of_one_batch_whatever_was_read(
    length: int, batch_size: int, whole: bool
) -> None:
    asked: list[list[int]] = []

    facts = probe_batches(
        made_of(length, asked), length=length, batch_size=batch_size, reads_whole=whole
    )

    assert facts.batch_bytes == batch_size * 100
    assert facts.batch_wall_ns > 0
    assert facts.samples > 0
    batch = min(batch_size, length)
    once_more = FEW_SAMPLES + batch + TOGETHER + MOST_HICCUPS
    assert sum(map(len, asked)) <= MAX_SAMPLES + 3 * batch + 2 * MIN_SAMPLES + once_more


def test_a_dataset_that_reads_whole_batches_is_judged_by_whole_batches() -> None:
    asked: list[list[int]] = []

    facts = probe_batches(made_of(100, asked), length=100, batch_size=16, reads_whole=True)

    assert [len(indices) for indices in asked] == [3, 3, 16, 16, 16]
    assert asked[2] == asked[4]  # once more, when its files are in memory
    assert facts.samples == 32


def test_a_dataset_that_is_slow_to_read_whole_batches_is_not_asked_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lightning_fastdata.tuning.probe.BUDGET_NS", 0)
    asked: list[list[int]] = []

    facts = probe_batches(made_of(100, asked), length=100, batch_size=16, reads_whole=True)

    assert [len(indices) for indices in asked] == [3, 3, 3]
    assert asked[1] == asked[2]
    assert facts.batch_bytes == 1600


def test_a_dataset_that_cannot_be_copied_is_not_read_and_the_plan_says_so() -> None:
    class Single(Dataset[int]):
        def __copy__(self) -> "Single":
            raise TypeError("there is only one")

        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> int:
            raise AssertionError("it was read")

    recipe = recipe_of(Single(), None, None, batched=True)

    assert probe(recipe, 4) is None
    reasons = measure_and_choose(Wishes(engine="torch"), recipe, 4).reasons
    assert "no sample was measured" in reasons["num_workers"]


def test_slow_samples_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_fastdata.tuning.probe.BUDGET_NS", 0)
    monkeypatch.setattr("lightning_fastdata.tuning.probe.WHOLE_BATCH_NS", 0)
    asked: list[list[int]] = []

    facts = probe_batches(made_of(100, asked), length=100, batch_size=16, reads_whole=False)

    assert [len(indices) for indices in asked] == [1, 1, 1, 1, 1]
    assert asked[3:] == asked[1:3]  # once more, when their files are in memory
    assert facts.batch_bytes == 1600
