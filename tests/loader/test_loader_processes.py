"""Worker processes: as many as asked for, kept as asked for, and none left behind."""

import os
from collections.abc import Callable
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch
from sample_sets import Numbers, Stream, loader_of
from torch.utils.data import Dataset, TensorDataset

from lightning_fastdata.loader.fast_data_loader import FastDataLoader


class Processes(Dataset[int]):
    """Each sample is the number of the process that made it."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> int:
        return os.getpid()


def workers_of(loader: Any) -> set[int]:
    return {number for batch in loader for number in batch.tolist()}


def alive(numbers: set[int]) -> set[int]:
    children = psutil.Process().children(recursive=True)
    return numbers & {child.pid for child in children if child.is_running()}


def drop(loader: FastDataLoader) -> None:
    """Do nothing: dropping its last name has to be enough."""


def by_closing(loader: FastDataLoader) -> None:
    loader.close()


def by_closing_twice(loader: FastDataLoader) -> None:
    loader.close()
    loader.close()


def as_lightning_does(loader: FastDataLoader) -> None:
    loader._iterator = None


@pytest.mark.parametrize("data", [Numbers(40), Stream(40)], ids=["map", "stream"])
@pytest.mark.parametrize("end", [drop, by_closing, by_closing_twice, as_lightning_does])
@pytest.mark.parametrize("when", ["before", "half way", "after"])
def test_no_process_outlives_its_loader(
    when: str, end: Callable[[FastDataLoader], None], data: Any
) -> None:
    loader = loader_of(data, num_workers=1)
    before = set(psutil.Process().children(recursive=True))

    batches = iter(loader)
    for _ in range({"before": 0, "half way": 2, "after": 10}[when]):
        next(batches)
    end(loader)
    del batches, loader

    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_pass_that_is_closed_half_way_leaves_no_process() -> None:
    loader = loader_of(Numbers(40), num_workers=2)
    batches: Any = iter(loader)
    next(batches)

    batches.close()
    loader.close()


def test_an_error_in_the_loop_leaves_no_process() -> None:
    def train() -> None:
        for _ in loader_of(Numbers(40), num_workers=2):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()


def test_workers_live_on_between_epochs() -> None:
    loader = loader_of(Processes(), 2, num_workers=2)

    first, second = workers_of(loader), workers_of(loader)

    assert first == second == alive(first)
    assert len(first) == 2


def test_workers_end_with_the_epoch_where_they_are_not_to_persist() -> None:
    loader = loader_of(Processes(), 2, num_workers=2, persistent_workers=False)

    first = workers_of(loader)
    left = alive(first)
    second = workers_of(loader)

    assert not left
    assert first.isdisjoint(second)


def test_a_pass_left_half_way_gives_its_workers_to_the_next() -> None:
    loader = loader_of(Processes(), 1, num_workers=2)
    first = {next(iter(loader)).item() for _ in range(3)}

    assert first <= workers_of(loader)
    assert len(alive(workers_of(loader))) == 2


@pytest.mark.parametrize("end", [by_closing, as_lightning_does])
def test_closing_ends_the_workers_of_a_loader_that_lives_on(
    end: Callable[[FastDataLoader], None],
) -> None:
    loader = loader_of(Processes(), 1, num_workers=2)
    numbers = workers_of(loader)

    end(loader)

    assert len(numbers) == 2
    assert not alive(numbers)


def test_a_closed_loader_starts_new_workers() -> None:
    loader = loader_of(Processes(), 1, num_workers=1)
    first = workers_of(loader)
    loader.close()

    second = workers_of(loader)

    assert not alive(first)
    assert second == alive(second)


def test_without_workers_this_process_makes_the_batches() -> None:
    loader = loader_of(Processes(), 1, num_workers=0)

    assert workers_of(loader) == {os.getpid()}
    assert (loader.plan.engine, loader.num_workers) == ("inline", 0)


def test_a_number_of_workers_is_kept() -> None:
    loader = FastDataLoader(TensorDataset(torch.arange(4)), num_workers=1)

    assert (loader.plan.engine, loader.num_workers) == ("ring", 1)
    assert loader.plan.reasons["num_workers"] == "fixed by the user"


def test_rows_in_memory_are_loaded_without_workers_unless_asked_for() -> None:
    assert FastDataLoader(TensorDataset(torch.arange(4)), batch_size=2).num_workers == 0
