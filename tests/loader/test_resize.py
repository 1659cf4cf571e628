"""Workers come and go while a pass is under way, and not one byte of the batches changes."""

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch
from fault_passes import nursery, told_of, wait_until
from sample_sets import MORE_WORKERS_THAN_CORES, Drawing, Numbers, drawn, loader_of
from test_ring_identity import BATCH, Augmented, checksum
from torch.utils.data import Dataset, RandomSampler

from lightning_fastdata.errors import WorkerWarning
from lightning_fastdata.loader.fast_data_loader import FastDataLoader

pytestmark = MORE_WORKERS_THAN_CORES
LENGTH = 125  # 13 batches, the last of them half full


class Ragged(Dataset[torch.Tensor]):
    """Sample ``i`` has between one and nine random numbers: no rows of a batch."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((1 + index % 9,), drawn("each"), dtype=torch.float64)


class Keyed(Dataset[Any]):
    """Samples have names, which a sampler gives."""

    def __getitem__(self, key: str) -> tuple[str, float]:
        return key, drawn("each")

    def __len__(self) -> int:
        return LENGTH


class Names:
    """A sampler of names."""

    def __iter__(self) -> Iterator[str]:
        return iter(f"sample {number}" for number in range(LENGTH))

    def __len__(self) -> int:
        return LENGTH


def as_list(samples: list[Any]) -> list[Any]:
    return samples


KINDS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "rows": lambda: (Augmented(LENGTH), {"shuffle": True}),
    "own collate_fn": lambda: (Drawing("each", length=LENGTH), {"collate_fn": as_list}),
    "ragged": lambda: (Ragged(), {"collate_fn": as_list}),
    "keys": lambda: (Keyed(), {"sampler": Names()}),
    "with replacement": lambda: (
        Augmented(LENGTH),
        {
            "sampler": RandomSampler(
                range(LENGTH), replacement=True, generator=torch.Generator().manual_seed(3)
            )
        },
    ),
}


def loader_of_kind(kind: str, num_workers: int, **how: Any) -> FastDataLoader:
    dataset, arguments = KINDS[kind]()
    return loader_of(
        dataset,
        BATCH,
        num_workers=num_workers,
        # Asked for also without workers: some may come.
        multiprocessing_context="fork",
        **{**arguments, **how},
    )


def resized_at_random(
    loader: FastDataLoader, seed: int, also: Callable[[int], object] | None = None
) -> Iterator[Any]:
    draw = random.Random(seed)
    for number, batch in enumerate(loader):
        yield batch
        if draw.random() < 0.7:
            loader.resize(draw.randint(1, 6))
        if also is not None:
            also(number)


@pytest.mark.parametrize("before", [0, pytest.param(1, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("kind", KINDS)
def test_any_changes_between_any_two_batches_change_no_bit(kind: str, before: int) -> None:
    expected = checksum(loader_of_kind(kind, 0))

    with closing(loader_of_kind(kind, before)) as loader:
        found = checksum(resized_at_random(loader, seed=before))

    assert found == expected


def test_two_passes_with_changes_are_the_two_passes_without_workers() -> None:
    with closing(loader_of_kind("rows", 0)) as plain_loader:
        expected = [checksum(plain_loader) for _ in range(3)]

    with closing(loader_of_kind("rows", 2)) as loader:
        found = [checksum(resized_at_random(loader, seed)) for seed in range(3)]

    assert found == expected


def kill_a_worker(number: int) -> None:
    if number % 4 == 1:
        wait_until(lambda: bool(nursery().children()))
        nursery().children()[-1].send_signal(signal.SIGKILL)


def kill_the_nursery(number: int) -> None:
    if number in (2, 7):
        nursery().send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    "harm", [kill_a_worker, pytest.param(kill_the_nursery, marks=pytest.mark.slow)]
)
def test_deaths_among_changes_change_no_bit(harm: Callable[[int], None]) -> None:
    expected = checksum(loader_of_kind("rows", 0))

    with closing(loader_of_kind("rows", 3)) as loader, told_of(WorkerWarning):
        found = checksum(resized_at_random(loader, 5, also=harm))

    assert found == expected


def test_a_new_nursery_has_the_newest_number_of_workers() -> None:
    with closing(loader_of_kind("rows", 1)) as loader, told_of(WorkerWarning):
        for number, _ in enumerate(loader):
            if number == 2:
                loader.resize(3)
                nursery().send_signal(signal.SIGKILL)
        wait_until(lambda: len(nursery().children()) == 3)


def test_a_ring_that_was_stopped_in_a_pass_starts_with_the_newest_number() -> None:
    """Lightning stops the workers of a loader that it is done with."""
    expected = checksum(loader_of_kind("rows", 0))

    def stopping(number: int) -> None:
        if number == 4:
            loader.resize(3)
            loader._iterator = None
            loader.resize(2)

    with closing(loader_of_kind("rows", 1)) as loader:
        batches = []
        for number, batch in enumerate(loader):
            batches.append(batch)
            stopping(number)
        wait_until(lambda: len(nursery().children()) == 2)

    assert checksum(batches) == expected


@pytest.mark.parametrize("position", [1, 6])
@pytest.mark.parametrize("before", [0, 2])
def test_a_position_saved_among_changes_is_exact(before: int, position: int) -> None:
    with closing(loader_of_kind("rows", before)) as first:
        batches = resized_at_random(first, seed=1)
        for _ in range(position):
            next(batches)
        saved = first.state_dict()
        rest = checksum(batches)

    with closing(loader_of_kind("rows", 1)) as second:
        second.load_state_dict(saved)
        found = checksum(resized_at_random(second, seed=2))

    assert found == rest


def test_workers_start_and_end_in_the_middle_of_a_pass() -> None:
    seen: set[psutil.Process] = set()

    with closing(loader_of(Numbers(4000), 10, num_workers=1, engine="ring")) as loader:
        batches = iter(loader)
        for wanted in (1, 5, 2, 6, 1):
            loader.resize(wanted)
            for _ in range(10):
                next(batches)
            wait_until(lambda: len(nursery().children()) == wanted)  # noqa: B023
            seen |= set(nursery().children())
        del batches

    assert len(seen) == 1 + 4 + 4
    assert not [worker for worker in seen if worker.is_running()]


def test_the_workers_that_stay_are_those_with_the_lowest_numbers() -> None:
    """A worker's number is below ``num_workers`` for whoever takes it for its place."""
    with closing(loader_of(WorkerNumbers(), 1, num_workers=4, engine="ring")) as loader:
        batches = iter(loader)
        for _ in range(40):
            next(batches)
        wait_until(lambda: len(nursery().children()) == 4)
        nursery().children()[0].send_signal(signal.SIGKILL)
        with told_of(WorkerWarning):
            for _ in range(40):
                next(batches)
        loader.resize(2)
        wait_until(lambda: len(nursery().children()) == 2)
        for _ in range(20):
            next(batches)

        numbers = {int(number) for _ in range(100) for number in next(batches)}
        del batches

    assert numbers <= {0, 1}


class WorkerNumbers(Dataset[int]):
    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> int:
        info = torch.utils.data.get_worker_info()
        assert info is not None
        return info.id


def test_new_workers_are_told_how_many_there_are() -> None:
    with closing(loader_of(Tellers(), 1, num_workers=1, engine="ring")) as loader:
        batches = iter(loader)
        next(batches)
        loader.resize(3)
        told = {int(number) for _ in range(300) for number in next(batches)}
        del batches

    assert told == {1, 3}


class Tellers(Dataset[int]):
    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> int:
        info = torch.utils.data.get_worker_info()
        assert info is not None
        return info.num_workers


def test_a_batch_may_be_asked_for_while_two_passes_share_a_change() -> None:
    with closing(loader_of(Numbers(60), 5, num_workers=2, engine="ring")) as loader:
        first, second = iter(loader), iter(loader)
        found: list[list[int]] = [[], []]
        for number in range(12):
            found[0] += next(first).tolist()
            loader.resize(1 + number % 4)
            found[1] += next(second).tolist()

    assert found == [list(range(60))] * 2
