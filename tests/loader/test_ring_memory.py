"""The memory of rings: a budget that they share, batches that need more, and times of the work."""

import mmap
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ring_tools import answers, engine_of
from torch.utils.data import Dataset

from lightning_fastdata.errors import FastDataError
from lightning_fastdata.loader.engine import HostBatch
from lightning_fastdata.loader.ring.budget import MemoryBudget

MB = 1_000_000
BUDGET_BYTES = 20 * MB


class OfSize(Dataset[Any]):
    """Sample ``i`` is ``size_of(i)`` times the number ``i``, as bytes."""

    def __init__(self, length: int, size_of: Callable[[int], int]) -> None:
        self.length, self.size_of = length, size_of

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((self.size_of(index),), index % 251, dtype=torch.uint8)


def as_list(samples: list[Any]) -> list[Any]:
    return samples


def assert_right(answer: HostBatch, dataset: OfSize) -> None:
    (index,) = answer.request.indices
    (row,) = answer.data
    assert row.shape == (dataset.size_of(index),)
    assert bool((row == index % 251).all())


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.24])
def test_slots_take_at_most_one_batch_more_than_the_budget(share: float, depth: int) -> None:
    """The first batches too, which are asked for before anyone knows how large a batch is."""
    data, budget = OfSize(24, lambda index: int(share * BUDGET_BYTES)), MemoryBudget(BUDGET_BYTES)
    engine = engine_of(data, budget, depth=depth)
    most_bytes, seen = 0, 0

    try:
        for answer in answers(engine, 24):
            assert_right(answer, data)
            most_bytes, seen = max(most_bytes, budget.used_bytes), seen + 1
    finally:
        engine.close()

    assert seen == 24
    assert 0 < most_bytes <= BUDGET_BYTES + data.size_of(0) + mmap.PAGESIZE
    assert budget.used_bytes == 0


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
@pytest.mark.parametrize("most", [0.1, 0.24])
def test_batches_may_grow_up_to_a_quarter_of_the_budget(most: float, depth: int) -> None:
    """However many are in flight: slots for less are given up for one that is larger."""

    def size_of(index: int) -> int:
        return int((0.01 + (most - 0.01) * index / 39) * BUDGET_BYTES)

    data = OfSize(40, size_of)
    engine = engine_of(data, MemoryBudget(BUDGET_BYTES), depth=depth)
    seen = []

    try:
        for answer in answers(engine, 40):
            assert_right(answer, data)
            seen.append(int(answer.request.indices[0]))
    finally:
        engine.close()

    assert seen == list(range(40))


@pytest.mark.parametrize("collate_fn", [None, as_list], ids=["rows", "own collate_fn"])
def test_one_large_batch_among_small_ones_takes_the_place_of_free_slots(
    collate_fn: Callable[[Any], Any] | None,
) -> None:
    data = OfSize(30, lambda index: 11 * MB if index == 17 else MB)
    engine = engine_of(data, MemoryBudget(BUDGET_BYTES), collate_fn=collate_fn)

    try:
        for answer in answers(engine, 30):
            assert_right(answer, data)
    finally:
        engine.close()


@pytest.mark.parametrize("place", [0, 5])
def test_a_batch_larger_than_the_budget_is_refused_and_loses_nothing(place: int) -> None:
    data = OfSize(12, lambda index: 25 * MB if index == place else MB)
    budget = MemoryBudget(BUDGET_BYTES)
    engine = engine_of(data, budget)
    seen: list[int] = []

    def train() -> None:
        for answer in answers(engine, 12):
            assert_right(answer, data)
            seen.append(int(answer.request.indices[0]))

    with pytest.raises(FastDataError, match=r"^a batch takes 25 MB, but only "):
        train()
    engine.close()

    assert seen == list(range(place))
    assert budget.used_bytes == 0


def test_an_engine_serves_again_after_a_batch_that_was_too_large() -> None:
    sizes = {3: 25 * MB}
    data = OfSize(12, lambda index: sizes.get(index, MB))
    engine = engine_of(data, MemoryBudget(BUDGET_BYTES))
    with pytest.raises(FastDataError, match=r"^a batch takes 25 MB"):
        list(answers(engine, 12))
    engine.close()
    sizes.clear()

    try:
        for answer in answers(engine, 12):
            assert_right(answer, data)
    finally:
        engine.close()


@pytest.mark.parametrize("share", [0.02, 0.1, 0.24])
def test_two_rings_share_one_budget(share: float) -> None:
    """Validation in the middle of training, whose ring has all the slots that it could get."""
    data, budget = OfSize(30, lambda index: int(share * BUDGET_BYTES)), MemoryBudget(BUDGET_BYTES)
    train, validation = (engine_of(data, budget, depth=depth) for depth in (8, 4))
    seen = 0

    try:
        for number, answer in enumerate(answers(train, 30)):
            assert_right(answer, data)
            if number in (9, 20):
                for held_out in answers(validation, 8):
                    assert_right(held_out, data)
                    seen += 1
    finally:
        train.close()
        validation.close()

    assert seen == 16
    assert budget.used_bytes == 0


def test_two_rings_at_once_stay_within_their_budget() -> None:
    data, budget = OfSize(40, lambda index: MB), MemoryBudget(BUDGET_BYTES)
    first, second = engine_of(data, budget), engine_of(data, budget)
    most_bytes = 0

    try:
        for one, other in zip(answers(first, 40), answers(second, 40), strict=True):
            assert_right(one, data)
            assert_right(other, data)
            most_bytes = max(most_bytes, budget.used_bytes)
    finally:
        first.close()
        second.close()

    assert 8 * MB <= most_bytes <= BUDGET_BYTES


def test_a_closed_ring_leaves_its_share_to_the_others() -> None:
    data, budget = OfSize(20, lambda index: 4 * MB), MemoryBudget(BUDGET_BYTES)
    for _ in range(3):
        engine = engine_of(data, budget, depth=2)
        for answer in answers(engine, 20):
            assert_right(answer, data)
        engine.close()

    assert budget.used_bytes == 0


@pytest.mark.parametrize("collate_fn", [None, as_list], ids=["rows", "own collate_fn"])
@pytest.mark.parametrize("chunk_samples", [None, 1, 7])
@pytest.mark.parametrize("num_workers", [1, 3])
def test_the_times_of_a_batch_cover_each_of_its_samples_once(
    num_workers: int, chunk_samples: int | None, collate_fn: Callable[[Any], Any] | None
) -> None:
    engine = engine_of(
        OfSize(240, lambda index: 100),
        None,
        num_workers=num_workers,
        chunk_samples=chunk_samples,
        collate_fn=collate_fn,
    )
    began_ns = time.perf_counter_ns()

    try:
        for answer in answers(engine, 12, batch_size=20):
            arrived_ns = time.perf_counter_ns()

            assert sum(times.samples for times in answer.times) == 20
            for times in answer.times:
                assert began_ns <= times.began_ns <= times.ended_ns <= arrived_ns
                assert 0 <= times.worker < num_workers
                assert times.cpu_ns >= 0
                assert min(times.page_faults, times.read_bytes) >= 0
            if collate_fn is None and chunk_samples is not None:
                assert len(answer.times) == -(-20 // chunk_samples)
    finally:
        engine.close()


def test_the_times_of_a_batch_that_had_to_be_made_anew_are_those_of_its_last_making() -> None:
    data = OfSize(12, lambda index: 12 * MB if index == 2 else MB)
    engine = engine_of(data, MemoryBudget(BUDGET_BYTES))

    try:
        samples = [sum(times.samples for times in each.times) for each in answers(engine, 12)]
    finally:
        engine.close()

    assert samples == 12 * [1]
