"""Iterable datasets keep torch's meaning and order."""

from typing import Any

import pytest
from sample_sets import Stream, loader_of, one_pass, plain
from torch.utils.data import DataLoader

from lightning_fastdata.errors import FastDataError
from lightning_fastdata.loader.fast_data_loader import FastDataLoader


def plain_of_torch(**how: Any) -> list[Any]:
    found: Any = DataLoader(Stream(), **how)
    return [plain(batch) for batch in found]


def without_epoch(batches: list[Any]) -> list[Any]:
    return [batch[:2] for batch in batches]


@pytest.mark.parametrize("batch_size", [1, 3, None])
@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_batches_come_in_torchs_order(num_workers: int, batch_size: int | None) -> None:
    ours = one_pass(Stream(), num_workers=num_workers, batch_size=batch_size)
    theirs = plain_of_torch(
        num_workers=num_workers,
        batch_size=batch_size,
        multiprocessing_context="fork" if num_workers else None,
    )

    assert without_epoch(ours) == without_epoch(theirs)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_last_batch_of_each_worker_can_be_dropped(num_workers: int) -> None:
    ours = one_pass(Stream(), num_workers=num_workers, drop_last=True)

    assert {len(batch[0][2]) for batch in ours} == {4}


@pytest.mark.parametrize("persistent_workers", [True, False])
@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_a_stream_is_told_each_epoch(num_workers: int, persistent_workers: bool) -> None:
    loader = loader_of(Stream(), num_workers=num_workers, persistent_workers=persistent_workers)

    epochs = [{epoch for batch in loader for epoch in batch[2].tolist()} for _ in range(2)]
    loader.set_epoch(9)
    epochs.append({epoch for batch in loader for epoch in batch[2].tolist()})

    assert epochs == [{0}, {1}, {9}]


@pytest.mark.parametrize("persistent_workers", [True, False])
def test_workers_of_a_stream_draw_other_numbers_each_epoch(persistent_workers: bool) -> None:
    loader = loader_of(Stream(draws=True), num_workers=1, persistent_workers=persistent_workers)

    numbers = [number for _ in range(3) for batch in loader for number in batch[3].tolist()]

    assert len(set(numbers)) == 33


def test_workers_of_a_stream_draw_by_the_seed() -> None:
    first, again, other = (
        one_pass(Stream(draws=True), num_workers=2, seed=seed) for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_stream_that_is_closed_half_way_says_that_batches_are_lost(num_workers: int) -> None:
    loader = loader_of(Stream(), num_workers=num_workers)
    batches = iter(loader)
    next(batches)

    loader.close()

    with pytest.raises(FastDataError, match=r"^the loader was closed while a pass over its stream"):
        list(batches)


def test_a_stream_left_half_way_begins_again() -> None:
    loader = loader_of(Stream(), 2, num_workers=1)
    next(iter(loader))

    assert next(iter(loader))[0].tolist() == [0, 1]


def test_a_stream_is_loaded_by_at_most_one_worker_unless_more_are_asked_for() -> None:
    """Streams that do not share themselves out would come once from each."""
    assert FastDataLoader(Stream()).num_workers <= 1


def test_each_delivered_batch_of_a_stream_has_a_seed_of_its_own() -> None:
    def seeds_of(epoch: int) -> list[int]:
        loader = loader_of(Stream(), 1, deliver=lambda data, seed: seed)
        loader.set_epoch(epoch)
        return list(loader)

    assert seeds_of(0) == seeds_of(0)
    assert len({*seeds_of(0), *seeds_of(1)}) == 22


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batch_transform_works_on_the_batches_of_a_stream(num_workers: int) -> None:
    found = one_pass(Stream(), num_workers=num_workers, batch_transform=lambda batch: batch[0] * 2)

    assert [value for batch in found for value in batch[2]] == list(range(0, 22, 2))
