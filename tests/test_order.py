"""Which sample comes when: any length, no list, the same on every machine."""

import itertools
import time
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch.distributed
from hypothesis import example, given
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.loader.requests import requests_of_order
from lightning_fastdata.order import EpochKey, EpochOrder, permute, seeds_at

LENGTHS = st.integers(1, 40)
RANKS = st.integers(1, 6)
KEYS = st.builds(
    EpochKey, seed=st.integers(0, 2**64), epoch=st.integers(0, 10**6), cycle=st.integers(0, 9)
)


def key_of(seed: int = 0, epoch: int = 0, cycle: int = 0) -> EpochKey:
    return EpochKey(seed=seed, epoch=epoch, cycle=cycle)


def whole_order(length: int, key: EpochKey) -> list[int]:
    return [int(sample) for sample in permute(np.arange(length), length, key)]


def shares(length: int, ranks: int, start: int = 0, **how: Any) -> list[list[int]]:
    """The positions of each rank, in order."""
    found = []
    for rank in range(ranks):
        order = EpochOrder(range(length), ranks, rank, **how)
        order.begin(key_of(), start)
        found.append(order.positions(0, len(order) + 1).tolist())
        assert len(order) == len(found[-1])
    return found


def chi_square(counts: list[int], expected: float) -> float:
    return sum(((count - expected) ** 2 / expected for count in counts), 0.0)


def five_sigma(freedom: int) -> float:
    """What a chi-square of so many degrees exceeds less than once in a million fair trials."""
    return float(freedom + 5 * (2 * freedom) ** 0.5 + 20)


def test_every_length_up_to_2000_gets_each_sample_exactly_once() -> None:
    for length in range(1, 2001):
        samples = permute(np.arange(length), length, key_of(seed=length))

        assert samples.min() >= 0
        assert samples.max() < length
        assert (np.bincount(samples, minlength=length) == 1).all()


@given(length=st.integers(4096, 10**12), key=KEYS)
@example(length=10**12, key=EpochKey(seed=0, epoch=0))
@example(length=2**40, key=EpochKey(seed=0, epoch=0))
@example(length=(2**20 - 1) ** 2 + 1, key=EpochKey(seed=0, epoch=0))
def test_distinct_positions_of_a_huge_dataset_stay_distinct_and_in_range(
    length: int, key: EpochKey
) -> None:
    drawn = np.random.default_rng(length).integers(0, length, 4096)
    ends = np.concatenate([np.arange(64), length - 1 - np.arange(64)])
    positions = np.unique(np.concatenate([drawn, ends]))

    samples = permute(positions, length, key)

    assert samples.min() >= 0
    assert samples.max() < length
    assert len(np.unique(samples)) == len(positions)


@given(length=st.integers(1, 5000), key=KEYS, data=st.data())
def test_a_sample_does_not_depend_on_which_positions_are_asked_for_together(
    length: int, key: EpochKey, data: st.DataObject
) -> None:
    positions = data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=20))

    together = permute(np.array(positions), length, key).tolist()

    assert together == [int(permute(np.array([one]), length, key)[0]) for one in positions]


@pytest.mark.parametrize("other", [key_of(seed=1), key_of(epoch=1), key_of(cycle=1)])
def test_another_seed_epoch_or_cycle_is_another_order(other: EpochKey) -> None:
    assert whole_order(100, key_of()) != whole_order(100, other)


def test_seed_and_epoch_are_not_added_up() -> None:
    """torch's sampler seeds with their sum, so that run 0's epoch 1 is run 1's epoch 0."""
    assert whole_order(100, key_of(seed=1)) != whole_order(100, key_of(epoch=1))


@pytest.mark.parametrize("length", [3, 4, 5])
def test_each_order_of_a_tiny_dataset_comes_equally_often(length: int) -> None:
    trials = 6000
    counts = Counter(tuple(whole_order(length, key_of(seed=seed))) for seed in range(trials))
    orders = [counts[order] for order in itertools.permutations(range(length))]

    assert chi_square(orders, trials / len(orders)) < five_sigma(len(orders) - 1)


@pytest.mark.parametrize("length", [7, 16, 50])
def test_each_sample_comes_equally_often_at_each_place_and_after_each_other(length: int) -> None:
    trials = 3000
    places = np.zeros((length, length), dtype=np.int64)
    followers = np.zeros((length, length), dtype=np.int64)
    for epoch in range(trials):
        order = permute(np.arange(length), length, key_of(epoch=epoch))
        places[np.arange(length), order] += 1
        followers[order[:-1], order[1:]] += 1

    off_diagonal = followers[~np.eye(length, dtype=bool)].tolist()

    assert (np.diag(followers) == 0).all()
    assert chi_square(places.ravel().tolist(), trials / length) < five_sigma((length - 1) ** 2)
    assert chi_square(off_diagonal, trials / length) < five_sigma(length * (length - 1))


@given(length=LENGTHS, ranks=RANKS, start=st.integers(0, 45))
def test_padded_ranks_are_of_equal_length_and_repeat_only_what_is_missing(
    length: int, ranks: int, start: int
) -> None:
    found = shares(length, ranks, start, pad=True)

    assert len({len(share) for share in found}) == 1
    taken = sorted(itertools.chain(*found))
    assert taken == list(range(start, start + len(taken)))
    assert max(0, length - start) <= len(taken) < max(0, length - start) + ranks


@given(length=LENGTHS, ranks=RANKS, start=st.integers(0, 45))
def test_ranks_that_drop_are_of_equal_length_and_repeat_nothing(
    length: int, ranks: int, start: int
) -> None:
    found = shares(length, ranks, start, drop_last=True)

    assert len({len(share) for share in found}) == 1
    taken = sorted(itertools.chain(*found))
    assert taken == list(range(start, start + len(taken)))
    assert max(0, length - start) - ranks < len(taken) <= max(0, length - start)


@given(length=LENGTHS, ranks=RANKS, start=st.integers(0, 45))
def test_ranks_that_neither_pad_nor_drop_share_each_position_exactly_once(
    length: int, ranks: int, start: int
) -> None:
    found = shares(length, ranks, start, pad=False)

    assert sorted(itertools.chain(*found)) == list(range(start, length))


@given(length=LENGTHS, ranks=RANKS, drop_last=st.booleans())
def test_share_lengths_are_those_of_the_sampler_of_torch(
    length: int, ranks: int, drop_last: bool
) -> None:
    samples: Any = range(length)
    torchs: Any = DistributedSampler(samples, ranks, 0, drop_last=drop_last)

    assert len(EpochOrder(range(length), ranks, 0, drop_last=drop_last)) == len(torchs)


@given(length=LENGTHS, ranks=RANKS, seed=st.integers(0, 3))
def test_a_repeat_is_one_of_the_first_samples_of_the_epoch(
    length: int, ranks: int, seed: int
) -> None:
    orders = [EpochOrder(range(length), ranks, rank, seed=seed) for rank in range(ranks)]
    counts = Counter(itertools.chain(*orders))
    repeats = len(orders[0]) * ranks - length
    first = whole_order(length, key_of(seed=seed))

    assert counts == Counter(range(length)) + Counter(first[k % length] for k in range(repeats))


@given(length=LENGTHS, ranks=RANKS, taken=st.integers(0, 10), then=RANKS)
def test_what_some_ranks_began_other_ranks_finish_without_loss(
    length: int, ranks: int, taken: int, then: int
) -> None:
    before = [share[:taken] for share in shares(length, ranks, pad=False)]
    consumed = min(taken * ranks, length)
    after = shares(length, then, consumed, pad=False)

    assert sorted(itertools.chain(*before, *after)) == list(range(length))


def test_a_billion_samples_start_with_less_than_20_megabytes() -> None:
    start_s = time.perf_counter()
    tracemalloc.start()
    order = EpochOrder(range(10**9), 8, 3)
    request = next(requests_of_order(order, 256, False, 0))
    first_sample = next(iter(order))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"first batch of 10^9 samples after {time.perf_counter() - start_s:.4f} s")

    assert len(request.indices) == 256
    assert request.indices[0] == first_sample
    assert peak_bytes < 20e6


def test_set_epoch_goes_to_the_beginning_of_another_epoch() -> None:
    order = EpochOrder(range(10), 1, 0)
    order.begin(key_of(epoch=0, cycle=2), 4)

    order.set_epoch(1)

    assert (order.epoch, order.cycle, order.start, order.epoch_was_set) == (1, 0, 0, True)
    assert list(order) == whole_order(10, key_of(epoch=1))


def test_set_epoch_to_the_resumed_epoch_keeps_its_position() -> None:
    order = EpochOrder(range(10), 1, 0)
    order.begin(key_of(epoch=3), 4)

    order.set_epoch(3)

    assert list(order) == whole_order(10, key_of(epoch=3))[4:]
    assert len(order) == 6


def test_a_pass_under_way_keeps_its_order_when_another_epoch_is_chosen() -> None:
    order = EpochOrder(range(10_000), 1, 0)
    expected = list(order)

    under_way = iter(order)
    first = next(under_way)
    order.set_epoch(1)

    assert [first, *under_way] == expected


@pytest.mark.parametrize("shuffle", [True, False])
def test_iterating_gives_plain_ints(shuffle: bool) -> None:
    assert {type(index) for index in EpochOrder(range(5000), 1, 0, shuffle=shuffle)} == {int}


def test_without_shuffling_samples_come_in_the_order_of_the_dataset() -> None:
    assert list(EpochOrder(range(7), 2, 1, shuffle=False)) == [1, 3, 5, 0]


def test_ranks_are_asked_for_only_when_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    order = EpochOrder(range(10), shuffle=False)
    assert len(order) == 10  # before the ranks are started, there is one

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 4)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 3)

    assert (order.num_replicas, order.rank) == (4, 3)
    assert list(order) == [3, 7, 1]


@pytest.mark.parametrize(
    ("ranks", "rank"), [(2, 2), (2, -1), (0, 0), (None, 0), (2, None)], ids=str
)
def test_a_rank_that_does_not_exist_is_refused(ranks: int | None, rank: int | None) -> None:
    with pytest.raises(SettingsError, match=rf"^num_replicas={ranks} with rank={rank}, wanted"):
        EpochOrder(range(10), ranks, rank)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^seed=-1, wanted 0 or more"):
        EpochOrder(range(10), seed=-1)


def test_seeds_differ_by_position_seed_epoch_cycle_and_purpose() -> None:
    positions = np.arange(1000)
    keys = [key_of(), key_of(seed=1), key_of(epoch=1), key_of(cycle=1)]

    found = [
        seeds_at(positions, key, of_batches=of_batches)
        for key in keys
        for of_batches in (False, True)
    ]

    assert len(np.unique(np.concatenate(found))) == 8 * 1000


def test_low_bits_of_seeds_differ_too() -> None:
    """NumPy's generator takes 32 of the 64 bits; about one in four billion may be alike."""
    low = seeds_at(np.arange(10_000), key_of()) & np.uint64(0xFFFFFFFF)

    assert len(np.unique(low)) >= 9_998


def test_a_request_can_be_made_alone_or_among_others() -> None:
    order = EpochOrder(range(10_000), 2, 1, seed=5)
    whole = list(requests_of_order(order, 7, False, 0))
    order.begin(order.key, 7 * 2 * 600)

    rest = list(requests_of_order(order, 7, False, 600))

    assert [request.number for request in rest] == list(range(600, len(whole)))
    for one, other in zip(whole[600:], rest, strict=True):
        assert one.indices.tolist() == other.indices.tolist()
        assert one.seeds.tolist() == other.seeds.tolist()
        assert one.batch_seed == other.batch_seed
