"""An ``IterableDataset`` through a ring gives torch's batches in torch's order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_sets import Stream, loader_of, plain
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lightning_fastdata.loader.make import recipe_of
from lightning_fastdata.loader.ring.budget import MemoryBudget
from lightning_fastdata.loader.ring.ring_stream import RingStream
from lightning_fastdata.loader.ring.settings import RingSettings


class Unequal(IterableDataset[tuple[int, int]]):
    """Worker ``i`` gives ``lengths[i]`` samples: its number, and the sample's."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def __iter__(self) -> Iterator[tuple[int, int]]:
        info = get_worker_info()
        assert info is not None
        for number in range(self.lengths[info.id]):
            yield info.id, number


class ItsOwnIterator(IterableDataset[int]):
    """Begins anew each time that it is asked for an iterator, and is that itself."""

    def __init__(self, length: int) -> None:
        self.length, self.given = length, 0

    def __iter__(self) -> Iterator[int]:
        self.given = 0
        return self

    def __next__(self) -> int:
        if self.given == self.length:
            raise StopIteration
        self.given += 1
        return self.given


class OnlyNext:
    """As little of an iterator as ``next`` needs."""

    def __init__(self) -> None:
        self.given = 0

    def __next__(self) -> int:
        if self.given == 5:
            raise StopIteration
        self.given += 1
        return self.given


class OfOnlyNext(IterableDataset[int]):
    def __iter__(self) -> Any:
        return OnlyNext()


class OfSizes(IterableDataset[torch.Tensor]):
    """Sample ``i`` has ``sizes[i]`` bytes, all of them ``i``."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    def __iter__(self) -> Iterator[torch.Tensor]:
        for number, size in enumerate(self.sizes):
            yield torch.full((size,), number, dtype=torch.uint8)


class Arrays(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        for number in range(3):
            yield np.full(number, number), number, str(number)


def of_ring(dataset: Any, **how: Any) -> list[Any]:
    loader = loader_of(dataset, engine="ring", **how)
    try:
        return [plain(batch) for batch in loader]
    finally:
        loader.close()


def of_torch(dataset: Any, **how: Any) -> list[Any]:
    loader: Any = DataLoader(dataset, multiprocessing_context="fork", **how)
    return [plain(batch) for batch in loader]


LENGTHS = [[5], [0], [7, 2], [1, 8], [0, 4], [0, 0], [3, 9, 1], [1, 2, 6], [6, 0, 6], [8, 3, 4]]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("how", [(2, False), (3, True), (None, False)], ids=str)
@pytest.mark.parametrize("prefetch_factor", [1, 2])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_streams_of_unequal_lengths_come_in_torchs_order(
    lengths: list[int], how: tuple[int | None, bool], prefetch_factor: int
) -> None:
    settings: dict[str, Any] = {"batch_size": how[0], "drop_last": how[1]}
    settings |= {"num_workers": len(lengths), "prefetch_factor": prefetch_factor}

    assert of_ring(Unequal(lengths), **settings) == of_torch(Unequal(lengths), **settings)


@pytest.mark.parametrize("batch_size", [1, 2, 4, None])
def test_a_stream_that_is_its_own_iterator_is_gone_over_once(batch_size: int | None) -> None:
    how: dict[str, Any] = {"batch_size": batch_size, "num_workers": 1}
    loader = loader_of(ItsOwnIterator(6), engine="ring", **how)

    batches = [plain(batch) for batch, _ in zip(loader, range(9), strict=False)]
    loader.close()

    assert batches == of_torch(ItsOwnIterator(6), **how)


@pytest.mark.parametrize("batch_size", [2, None])
def test_an_iterator_needs_no_more_than_next(batch_size: int | None) -> None:
    how: dict[str, Any] = {"batch_size": batch_size, "num_workers": 1}

    assert of_ring(OfOnlyNext(), **how) == of_torch(OfOnlyNext(), **how)


def test_single_samples_are_converted_as_in_torch() -> None:
    how: dict[str, Any] = {"batch_size": None, "num_workers": 1}

    assert of_ring(Arrays(), **how) == of_torch(Arrays(), **how)


@pytest.mark.parametrize("persistent_workers", [False, True])
def test_a_stream_left_half_way_begins_again(persistent_workers: bool) -> None:
    how: dict[str, Any] = {"engine": "ring", "num_workers": 2, "batch_size": 2}
    loader = loader_of(Stream(22), persistent_workers=persistent_workers, **how)

    for taken in (1, 3, 0):
        batches = iter(loader)
        for _ in range(taken):
            next(batches)
        del batches
    values = [[int(value) for value in batch[0]] for batch in loader]
    loader.close()

    theirs = DataLoader(Stream(22), batch_size=2, num_workers=2, multiprocessing_context="fork")
    assert values == [batch[0].tolist() for batch in theirs]


def test_with_in_order_false_each_batch_of_a_stream_comes_once() -> None:
    how: dict[str, Any] = {"num_workers": 2, "batch_size": 1}

    batches = of_ring(Unequal([9, 4]), in_order=False, **how)

    assert sorted(batches) == sorted(of_torch(Unequal([9, 4]), **how))


@settings(max_examples=12)
@given(
    small=st.lists(st.integers(1, 20), max_size=4),
    large=st.lists(st.integers(100, 400), min_size=1, max_size=4),
    keeps=st.booleans(),
)
def test_a_stream_whose_batches_outgrow_their_memory_loses_none(
    small: list[int], large: list[int], keeps: bool
) -> None:
    sizes = [1000 * size for size in small + large + small]
    stream = RingStream(
        recipe_of(OfSizes(sizes), None, None, batched=True),
        RingSettings(num_workers=1, stream_batch_size=1),
        start_method="fork",
        prefetch=2,
        budget=MemoryBudget(4_000_000 if keeps else 1_000_000),
    )

    kept = []
    numbers = []
    for batch in stream.batches(0):
        numbers.append(int(batch[0, 0]))
        if keeps:
            kept.append(batch)
        del batch
    stream.close()

    assert numbers == list(range(len(sizes)))
    assert [int(batch[0, -1]) for batch in kept] == numbers[: len(kept)]
