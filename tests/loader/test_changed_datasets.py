"""What a user changes in a dataset between two passes reaches workers that live on."""

from collections.abc import Iterator
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch
from sample_sets import Numbers, loader_of
from torch.utils.data import IterableDataset


class Scaled(Numbers):
    def __init__(self) -> None:
        super().__init__(8)
        self.factor = 1

    def __getitem__(self, index: int) -> int:
        return self.factor * index


class ScaledStream(IterableDataset[int]):
    def __init__(self) -> None:
        self.factor = 1

    def __iter__(self) -> Iterator[int]:
        return (self.factor * index for index in range(8))


@pytest.mark.parametrize("engine", ["ring", "torch"])
@pytest.mark.parametrize("dataset", [Scaled(), ScaledStream()], ids=["map", "stream"])
def test_the_next_pass_has_the_dataset_as_it_is_now(dataset: Any, engine: str) -> None:
    dataset.factor = 1
    loader = loader_of(dataset, 4, num_workers=1, engine=engine)
    before = torch.cat(list(loader))

    dataset.factor = 10
    after = torch.cat(list(loader))
    loader.close()

    assert torch.equal(before, torch.arange(8))
    assert torch.equal(after, 10 * torch.arange(8))


def test_workers_live_on_where_nothing_was_changed() -> None:
    pids: list[int] = []
    loader = loader_of(Numbers(8), 4, num_workers=1)
    for _ in range(2):
        batches = iter(loader)
        next(batches)
        pids += [one.pid for child in psutil.Process().children() for one in child.children()]
        list(batches)
    loader.close()

    assert len(pids) == 2
    assert len(set(pids)) == 1
