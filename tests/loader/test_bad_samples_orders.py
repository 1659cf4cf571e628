"""A stand-in is always one that the user's own order gives: never from outside a split."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fault_passes import go_over, told_of
from fault_sets import Good
from sample_sets import loader_of, plain
from torch.utils.data import (
    BatchSampler,
    Dataset,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    random_split,
)

from lightning_fastdata.errors import BadSampleWarning

LENGTH = 60
TRAIN = list(range(0, LENGTH, 3))
BAD = (0, 9, 30, 57)
SKIP: dict[str, Any] = {"on_bad_sample": "skip", "max_bad_fraction": 0.5}
ENGINES: dict[str, dict[str, Any]] = {
    "inline": {"num_workers": 0},
    "ring": {"num_workers": 2},
    "torch": {"num_workers": 2, "engine": "torch"},
}
EVERYWHERE = pytest.mark.parametrize(
    "engine", ["inline", "ring", pytest.param("torch", marks=pytest.mark.slow)]
)


@EVERYWHERE
@pytest.mark.parametrize("batch_size", [1, 4, 19])
def test_stand_ins_come_from_the_sampler_alone(batch_size: int, engine: str) -> None:
    sampler = SubsetRandomSampler(TRAIN, torch.Generator().manual_seed(2))

    told = go_over(Good(LENGTH, BAD), batch_size, sampler=sampler, **SKIP, **ENGINES[engine])

    assert told.error is None
    assert set(told.numbers) == set(TRAIN) - set(BAD)
    assert len(told.numbers) == len(TRAIN)


@EVERYWHERE
def test_stand_ins_come_from_a_subset_alone(engine: str) -> None:
    told = go_over(Subset(Good(LENGTH, BAD), TRAIN), shuffle=True, **SKIP, **ENGINES[engine])

    assert set(told.numbers) == set(TRAIN) - set(BAD)
    assert len(told.numbers) == len(TRAIN)
    assert sorted(told.bad) == sorted(BAD)


def test_stand_ins_come_from_a_split_of_a_split_alone() -> None:
    first, _ = random_split(Good(LENGTH, BAD), [40, 20], torch.Generator().manual_seed(1))
    second, _ = random_split(first, [20, 20], torch.Generator().manual_seed(1))
    inside = {first.indices[k] for k in second.indices}

    told = go_over(second, num_workers=2, shuffle=True, **SKIP)

    assert set(told.numbers) == inside - set(BAD)
    assert set(told.bad) == inside & set(BAD)


def sampler_orders() -> dict[str, dict[str, Any]]:
    indices = random.Random(1).sample(range(LENGTH), LENGTH)
    return {
        "sampler": {"sampler": indices},
        "batch_sampler": {"batch_sampler": BatchSampler(indices, 7, False)},
        "drop_last": {"sampler": indices, "drop_last": True, "batch_size": 7},
        "single": {"sampler": indices, "batch_size": None},
        "with replacement": {
            "sampler": WeightedRandomSampler(
                [1.0] * LENGTH, 40, generator=torch.Generator().manual_seed(4)
            )
        },
    }


@EVERYWHERE
@pytest.mark.parametrize("name", sampler_orders())
def test_with_a_sampler_the_same_comes_everywhere(name: str, engine: str) -> None:
    told = go_over(Good(LENGTH, BAD), **sampler_orders()[name], **SKIP, **ENGINES[engine])
    wanted = go_over(Good(LENGTH, BAD), **sampler_orders()[name], **SKIP)

    assert told.error is None
    assert told.batches == wanted.batches
    assert not set(told.numbers) & set(BAD)


@pytest.mark.parametrize("after", [1, 5, 12])
def test_with_a_sampler_a_resumed_pass_gives_the_rest_to_the_bit(after: int) -> None:
    indices = random.Random(1).sample(range(LENGTH), LENGTH)
    wanted = go_over(Good(LENGTH, BAD), sampler=indices, **SKIP).batches
    with told_of(BadSampleWarning):
        loader = loader_of(Good(LENGTH, BAD), sampler=indices, **SKIP)
        batches = iter(loader)
        for _ in range(after):
            next(batches)
        other = loader_of(Good(LENGTH, BAD), sampler=indices, **SKIP)
        other.load_state_dict(loader.state_dict())
        rest = [plain(batch) for batch in other]

    assert rest == wanted[after:]


class Lists(Dataset[Any]):
    """Takes a list of indices at a time, as torch allows without automatic batching."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, indices: list[int]) -> torch.Tensor:
        if 5 in indices:
            raise OSError("picture 5 is broken")
        return torch.tensor(indices)


@EVERYWHERE
def test_of_a_list_as_key_no_good_sample_is_blamed(engine: str) -> None:
    sampler = BatchSampler(SequentialSampler(range(16)), 4, False)

    told = go_over(Lists(), None, sampler=sampler, **SKIP, **ENGINES[engine])

    assert list(told.bad) == ["[4, 5, 6, 7]"]
    assert [batch[2] for batch in told.batches][1] == [0, 1, 2, 3]


class ByName(Dataset[Any]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, name: str) -> str:
        if name in "cf":
            raise OSError(f"{name} is broken")
        return name


@EVERYWHERE
def test_samples_with_names_are_replaced_by_others_of_the_sampler(engine: str) -> None:
    told = go_over(ByName(), sampler=list("abcdefghij"), **SKIP, **ENGINES[engine])
    came = [name for batch in told.batches for name in batch]

    assert sorted(told.bad) == ["c", "f"]
    assert set(came) == set("abdeghij")
    assert len(came) == 10


class Endless(SequentialSampler):
    """Gives a bad sample alone, before anything that could stand in for it."""

    def __iter__(self) -> Iterator[int]:
        yield from [0, 1, 2]


def test_a_first_batch_of_bad_samples_has_nothing_to_repeat_and_says_so() -> None:
    told = go_over(Good(LENGTH, [0]), 1, sampler=Endless(range(3)), **SKIP)

    assert "wanted a good one to repeat in its place" in told.words


def test_samples_are_never_replaced_by_those_of_another_rank_in_a_sampler() -> None:
    """Such a sampler says itself what this rank gets."""
    sampler = torch.utils.data.DistributedSampler(range(LENGTH), 2, 1, shuffle=False)

    told = go_over(Good(LENGTH, [1, 31]), sampler=sampler, **SKIP)

    assert set(told.numbers) == set(range(1, LENGTH, 2)) - {1, 31}
