"""A loader's position: what was saved after any batch is gone on with, and nothing else happens."""

from collections import Counter
from itertools import islice
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_sets import Drawing, Numbers, Stream, loader_of, plain
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

from lightning_fastdata.errors import ResumeError
from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.order import EpochOrder


def take(loader: FastDataLoader, count: int) -> list[Any]:
    """The first batches of a pass that is then left."""
    return [plain(batch) for batch in islice(loader, count)]


def resumed(loader: FastDataLoader, state: Any) -> FastDataLoader:
    loader.load_state_dict(state)
    return loader


@pytest.mark.parametrize("batch_size", [4, None])
@pytest.mark.parametrize("shuffle", [True, False])
def test_after_every_batch_exactly_the_rest_is_to_come(
    shuffle: bool, batch_size: int | None
) -> None:
    def fresh() -> FastDataLoader:
        return loader_of(Drawing("each"), batch_size, shuffle=shuffle)

    whole = fresh()
    states = [whole.state_dict()]
    given = []
    for batch in whole:
        given.append(plain(batch))
        states.append(whole.state_dict())
    following = [plain(batch) for batch in whole]

    for k, state in enumerate(states):
        loader = resumed(fresh(), state)
        assert len(loader) == len(given)
        assert [plain(batch) for batch in loader] == given[k:]
        assert len(loader) == len(given)
        assert [plain(batch) for batch in loader] == following


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (1, 3)])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_another_number_of_workers_goes_on_with_the_same_batches(before: int, after: int) -> None:
    whole = [plain(batch) for batch in loader_of(Drawing("each"), shuffle=True)]
    first = loader_of(Drawing("each"), shuffle=True, num_workers=before)
    given = take(first, 3)

    second = loader_of(Drawing("each"), shuffle=True, num_workers=after)
    rest = [plain(batch) for batch in resumed(second, first.state_dict())]

    assert given + rest == whole


def test_a_run_can_be_resumed_twice_in_one_epoch() -> None:
    whole = [plain(batch) for batch in loader_of(Drawing("each"), shuffle=True)]
    first = loader_of(Drawing("each"), shuffle=True)
    given = take(first, 2)
    second = resumed(loader_of(Drawing("each"), shuffle=True), first.state_dict())
    given += take(second, 2)
    third = resumed(loader_of(Drawing("each"), shuffle=True), second.state_dict())

    assert given + [plain(batch) for batch in third] == whole


def test_a_position_that_was_loaded_can_be_saved_again_before_any_batch() -> None:
    first = loader_of(Numbers(20), shuffle=True)
    take(first, 2)

    second = resumed(loader_of(Numbers(20), shuffle=True), first.state_dict())

    assert second.state_dict() == first.state_dict()


def test_batches_that_workers_made_ahead_are_not_counted() -> None:
    loader = loader_of(Numbers(100), num_workers=2, prefetch_factor=5)

    take(loader, 3)

    assert loader.state_dict()["samples"] == 12
    assert loader.state_dict()["batches"] == 3


def test_a_look_at_a_batch_while_a_pass_goes_on_does_not_move_the_position() -> None:
    loader = loader_of(Drawing("each"), shuffle=True)
    untouched = [plain(batch) for batch in loader_of(Drawing("each"), shuffle=True)]
    given = []

    for batch in loader:
        given.append(plain(batch))
        before = loader.state_dict()
        next(iter(loader))
        assert loader.state_dict() == before

    assert given == untouched


def test_an_iterator_that_was_forgotten_does_not_hold_the_position() -> None:
    """In a notebook the name of the first look lives on."""
    loader = loader_of(Drawing("each"), shuffle=True)
    forgotten = iter(loader)
    next(forgotten)

    for _ in loader:
        state = loader.state_dict()

    assert state["batches"] == len(loader)
    assert loader.state_dict()["finished"]
    del forgotten


def test_a_finished_epoch_is_followed_by_the_next_one() -> None:
    loader = loader_of(Numbers(20), shuffle=True)
    list(loader)
    state = loader.state_dict()

    other = resumed(loader_of(Numbers(20), shuffle=True), state)

    assert state["finished"]
    assert [plain(batch) for batch in other] == [plain(batch) for batch in loader]
    assert other.state_dict()["epoch"] == 1


def test_setting_the_resumed_epoch_keeps_the_position_and_another_forgets_it() -> None:
    first = loader_of(Numbers(20), shuffle=True)
    whole = [plain(batch) for batch in loader_of(Numbers(20), shuffle=True)]
    take(first, 2)
    same, other = (
        resumed(loader_of(Numbers(20), shuffle=True), first.state_dict()) for _ in range(2)
    )

    same.set_epoch(0)
    other.set_epoch(1)

    assert [plain(batch) for batch in same] == whole[2:]
    assert len(list(other)) == 5


@given(
    length=st.integers(1, 30),
    batch_size=st.integers(1, 5),
    taken=st.integers(0, 4),
    ranks=st.sampled_from([(2, 1), (1, 2), (2, 3), (3, 2)]),
)
def test_another_number_of_ranks_loses_nothing_and_repeats_nothing(
    length: int, batch_size: int, taken: int, ranks: tuple[int, int]
) -> None:
    def loaders(count: int) -> list[FastDataLoader]:
        data = Numbers(length)
        return [
            loader_of(data, batch_size, sampler=EpochOrder(data, count, rank, pad=False))
            for rank in range(count)
        ]

    seen: Counter[int] = Counter()
    before = loaders(ranks[0])
    for loader in before:
        seen.update(index for batch in take(loader, taken) for index in batch[2])
    state = before[0].state_dict()
    for loader in loaders(ranks[1]) if not state["finished"] else []:
        loader.load_state_dict(state)
        seen.update(index for batch in loader for index in batch.tolist())

    assert seen == Counter(range(length))


def test_another_batch_size_goes_on_at_the_same_sample() -> None:
    whole = [index for batch in loader_of(Numbers(20), shuffle=True) for index in batch.tolist()]
    first = loader_of(Numbers(20), shuffle=True)
    take(first, 2)

    second = resumed(loader_of(Numbers(20), 3, shuffle=True), first.state_dict())

    assert [index for batch in second for index in batch.tolist()] == whole[8:]


def test_samplers_of_the_user_are_skipped_over_without_reading() -> None:
    data = Numbers(20)
    first = loader_of(data, sampler=SequentialSampler(data))
    take(first, 2)
    data.asked.clear()

    second = resumed(loader_of(data, sampler=SequentialSampler(data)), first.state_dict())
    batches = [batch.tolist() for batch in second]

    assert batches == [[8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19]]
    assert data.asked == list(range(8, 20))


def test_batch_samplers_of_the_user_go_on_with_the_same_draws() -> None:
    def fresh() -> FastDataLoader:
        batches = BatchSampler(SequentialSampler(range(23)), 4, drop_last=False)
        return loader_of(Drawing("torch"), batch_sampler=batches)

    whole, first = [plain(batch) for batch in fresh()], fresh()
    take(first, 3)

    assert [plain(batch) for batch in resumed(fresh(), first.state_dict())] == whole[3:]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_stream_is_replayed_up_to_its_position(num_workers: int) -> None:
    whole = [plain(batch) for batch in loader_of(Stream(), num_workers=num_workers)]
    first = loader_of(Stream(), num_workers=num_workers)
    take(first, 2)

    second = resumed(loader_of(Stream(), num_workers=num_workers), first.state_dict())

    assert [plain(batch) for batch in second] == whole[2:]


def test_resuming_reads_only_the_samples_that_remain() -> None:
    data = Numbers(1000)
    first = loader_of(data, 100, shuffle=True)
    take(first, 7)
    data.asked.clear()

    list(resumed(loader_of(data, 100, shuffle=True), first.state_dict()))

    assert len(data.asked) == 300


@pytest.mark.parametrize("num_workers", [0, 2])
def test_beginning_a_pass_reads_draws_and_starts_nothing(num_workers: int) -> None:
    data = Numbers(20)
    drawn: list[int] = []

    class Sampler:
        def __iter__(self) -> Any:
            drawn.append(1)
            return iter(range(20))

        def __len__(self) -> int:
            return 20

    loader = loader_of(data, num_workers=num_workers, sampler=Sampler())
    children = psutil.Process().children()

    passes = iter(loader), iter(loader)

    assert len(passes) == 2
    assert data.asked == drawn == []
    assert psutil.Process().children() == children


def test_the_epoch_chosen_after_beginning_a_pass_is_the_one_that_comes() -> None:
    """Lightning asks for the iterator before it calls ``set_epoch``."""
    loader, other = (loader_of(Numbers(20), shuffle=True) for _ in range(2))
    other.set_epoch(5)

    batches = iter(loader)
    loader.set_epoch(5)

    assert [plain(batch) for batch in batches] == [plain(batch) for batch in other]


def test_the_seed_of_an_order_of_the_users_own_is_kept() -> None:
    data = Numbers(20)
    loader = loader_of(data, sampler=EpochOrder(data, 1, 0, seed=5))

    found = [index for batch in loader for index in batch.tolist()]

    assert found == list(EpochOrder(data, 1, 0, seed=5))


def test_a_random_sampler_of_the_users_own_reshuffles() -> None:
    loader = loader_of(Numbers(20), sampler=RandomSampler(range(20)))

    assert [plain(batch) for batch in loader] != [plain(batch) for batch in loader]


def test_a_position_of_another_dataset_is_refused() -> None:
    first = loader_of(Numbers(20))
    take(first, 2)

    with pytest.raises(ResumeError, match=r"^the checkpoint was saved 8 samples into an epoch of"):
        loader_of(Numbers(21)).load_state_dict(first.state_dict())


def test_a_position_of_an_unknown_version_is_refused() -> None:
    state = {**loader_of(Numbers(20)).state_dict(), "version": 99}

    with pytest.raises(ResumeError, match=r"^the saved loader position has version 99, wanted"):
        loader_of(Numbers(20)).load_state_dict(state)
