"""Ranks of a machine come to one number of workers, and none ever waits for another."""

import logging
from datetime import timedelta
from typing import Any

import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.loader.agree import EXPIRES_WINDOWS, Agreement, agreement_for

MANY = 64


class StrictStore:
    """A store that fails where a real one would wait: for a key that is not there."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.calls = 0
        self.is_gone = False

    def _called(self) -> None:
        self.calls += 1
        if self.is_gone:
            raise dist.DistNetworkError("connection reset by peer")

    def add(self, key: str, amount: int) -> int:
        self._called()
        count = int(self.values.get(key, b"0")) + amount
        self.values[key] = str(count).encode()
        return count

    def set(self, key: str, value: bytes) -> None:
        self._called()
        self.values[key] = value

    def check(self, keys: list[str]) -> bool:
        self._called()
        return all(key in self.values for key in keys)

    def get(self, key: str) -> bytes:
        self._called()
        return self.values[key]

    def multi_get(self, keys: list[str]) -> list[bytes]:
        self._called()
        return [self.values[key] for key in keys]


def rank_of(
    store: Any,
    rank: int,
    *,
    has: int = 1,
    most: int = MANY,
    host: str = "one",
    name: str = "train",
) -> Agreement:
    return Agreement(store, name=name, rank=rank, host=host, num_workers=has, most_workers=most)


@given(
    wishes=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=4),
    data=st.data(),
)
def test_whoever_comes_first_all_ranks_end_with_the_largest_wish_in_the_smallest_budget(
    wishes: list[tuple[int, int]], data: st.DataObject
) -> None:
    store = StrictStore()
    ranks = [rank_of(store, rank, most=most) for rank, (_, most) in enumerate(wishes)]
    numbers = list(range(len(ranks)))

    for _ in range(2):
        order = data.draw(st.permutations(numbers))
        used = {rank: ranks[rank].propose(wishes[rank][0], 0.1) for rank in order}

    largest = max(wish for wish, _ in wishes)
    assert set(used.values()) == {min(largest, *(most for _, most in wishes))}


def test_a_rank_grows_to_what_another_wants_at_its_next_window() -> None:
    store = StrictStore()
    zero, one = rank_of(store, 0), rank_of(store, 1)
    zero.propose(2, 0.0)
    one.propose(2, 0.0)

    used = [one.propose(5, 0.3), zero.propose(2, 0.0)]

    assert used == [5, 5]


def test_it_shrinks_only_when_all_agree() -> None:
    store = StrictStore()
    zero, one = rank_of(store, 0, has=6), rank_of(store, 1, has=6)
    for each in (zero, one):
        each.propose(6, 0.0)

    alone = [zero.propose(4, 0.0), one.propose(6, 0.0), zero.propose(6, 0.0)]
    together = [one.propose(5, 0.0), zero.propose(6, 0.0), one.propose(5, 0.0)]

    assert alone == [6, 6, 6]
    assert together == [5, 5, 5]


def test_a_rank_that_was_given_more_than_it_wanted_does_not_hold_the_others_there() -> None:
    store = StrictStore()
    zero, one = rank_of(store, 0), rank_of(store, 1)
    one.propose(8, 0.5)
    in_use = zero.propose(2, 0.0)

    for _ in range(3):
        in_use = zero.propose(in_use, 0.0)  # its controller sees no need for a change
    one.propose(3, 0.0)

    assert in_use == 8
    assert zero.propose(in_use, 0.0) == 3


def test_a_rank_that_stopped_training_no_longer_counts_after_some_windows() -> None:
    store = StrictStore()
    zero, one = rank_of(store, 0), rank_of(store, 1)
    one.propose(7, 0.2)

    used = [zero.propose(2, 0.0) for _ in range(EXPIRES_WINDOWS + 1)]

    assert used == [7] * EXPIRES_WINDOWS + [2]


def test_a_rank_that_comes_back_counts_again() -> None:
    store = StrictStore()
    zero, one = rank_of(store, 0), rank_of(store, 1)
    one.propose(7, 0.2)
    for _ in range(EXPIRES_WINDOWS + 1):
        zero.propose(2, 0.0)

    one.propose(7, 0.2)

    assert zero.propose(2, 0.0) == 7


def test_a_slow_rank_counts_as_long_as_it_goes_on() -> None:
    store = StrictStore()
    zero, one = rank_of(store, 0), rank_of(store, 1)

    used = []
    for _ in range(4):
        one.propose(7, 0.2)
        used += [zero.propose(2, 0.0) for _ in range(EXPIRES_WINDOWS - 1)]

    assert set(used) == {7}


def test_ranks_of_another_machine_do_not_count() -> None:
    store = StrictStore()
    here, there = rank_of(store, 0), rank_of(store, 1, host="other")

    assert [there.propose(7, 0.0), here.propose(2, 0.0)] == [7, 2]


def test_two_loaders_do_not_count_for_each_other() -> None:
    store = StrictStore()
    train, validate = rank_of(store, 0), rank_of(store, 1, name="validate")

    assert [validate.propose(7, 0.0), train.propose(2, 0.0)] == [7, 2]


def test_what_was_shown_for_an_earlier_loader_is_forgotten() -> None:
    store = StrictStore()
    for wish in (7, 3):
        zero, one = rank_of(store, 0), rank_of(store, 1)
        used = [one.propose(wish, 0.0), zero.propose(2, 0.0)]

    assert used == [3, 3]


def test_a_rank_that_has_taken_its_seat_and_shown_nothing_is_not_asked() -> None:
    store = StrictStore()
    zero, _one = rank_of(store, 0), rank_of(store, 1)

    assert zero.propose(4, 0.0) == 4


def test_a_store_that_fails_leaves_each_to_itself_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = StrictStore()
    zero, one = rank_of(store, 0), rank_of(store, 1)
    one.propose(7, 0.0)
    zero.propose(2, 0.0)
    store.is_gone = True

    with caplog.at_level(logging.INFO):
        used = [zero.propose(3, 0.0), zero.propose(3, 0.0), zero.propose(4, 0.0)]

    assert used == [3, 3, 4]
    assert zero.reason is None
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("this rank chooses its number of workers without")


def test_a_store_that_fails_at_once_leaves_each_to_itself() -> None:
    store = StrictStore()
    store.is_gone = True

    assert rank_of(store, 0).propose(3, 0.0) == 3


def test_a_value_of_another_version_leaves_each_to_itself() -> None:
    store = StrictStore()
    zero, one = rank_of(store, 0), rank_of(store, 1)
    one.propose(7, 0.0)
    key = next(key for key in store.values if key.endswith("one/2"))
    store.values[key] = b"7 workers"

    assert zero.propose(3, 0.0) == 3


def test_alone_it_keeps_to_its_own_wish_and_budget() -> None:
    alone = rank_of(None, 0, most=4)

    assert [alone.propose(wish, 0.0) for wish in (2, 9, 3)] == [2, 4, 3]


def test_the_reason_names_the_rank_that_wants_most() -> None:
    store = StrictStore()
    zero, one = rank_of(store, 0), rank_of(store, 1)
    one.propose(7, 0.125)
    zero.propose(2, 0.0)

    assert one.reason is None
    assert zero.reason == (
        "rank 1 on this machine wants 7 workers and waits for 12.5 % of its time; "
        "all ranks of a machine use one number"
    )


def test_a_window_costs_two_calls_once_the_ranks_know_each_other() -> None:
    store = StrictStore()
    ranks = [rank_of(store, rank) for rank in range(8)]
    for _ in range(2):
        for each in ranks:
            each.propose(2, 0.0)
    store.calls = 0

    for each in ranks:
        each.propose(2, 0.0)

    assert store.calls == 2 * len(ranks)


def test_torchs_own_stores_answer_at_once() -> None:
    """Nothing is asked for that is not there: a store would wait for it, and then fail."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    client = dist.TCPStore("127.0.0.1", server.port, is_master=False)
    for stores in ((server, client), (dist.HashStore(),) * 2):
        for store in stores:
            store.set_timeout(timedelta(seconds=20))
        zero, one = rank_of(stores[0], 0), rank_of(stores[1], 1)

        used = [zero.propose(2, 0.0), one.propose(6, 0.1), zero.propose(2, 0.0)]

        assert used == [2, 6, 6]


def test_without_torch_distributed_a_process_is_alone_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        agreement = agreement_for("train", num_workers=2, most_workers=4)

    assert agreement.propose(5, 0.0) == 4
    assert caplog.messages == [
        "this process chooses its number of workers alone: no torch.distributed."
    ]
