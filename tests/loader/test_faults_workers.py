"""A worker may be killed at any instant: nothing is lost, repeated or changed."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from fault_passes import KillsAWorker, go_over, told_of, workers_at_rest
from fault_sets import (
    ALWAYS,
    Good,
    Harmful,
    HarmfulDraws,
    HarmfulWhole,
    SharedCount,
    crash,
    kill_itself,
    leave,
)
from sample_sets import loader_of, plain
from torch.utils.data import BatchSampler, SequentialSampler, SubsetRandomSampler, default_collate

from lightning_fastdata.errors import WorkerError, WorkerWarning

LENGTH = 30
ALL = list(range(LENGTH))


def undisturbed(dataset: Any, **how: Any) -> list[Any]:
    return go_over(dataset, **how).batches


@pytest.mark.parametrize("harm", [kill_itself, leave, crash])
def test_a_worker_that_ends_in_a_sample_changes_no_bit_of_a_batch(
    harm: Callable[[], object],
) -> None:
    told = go_over(HarmfulDraws(harm, length=LENGTH), num_workers=2, shuffle=True)

    assert told.batches == undisturbed(Good(LENGTH), shuffle=True)
    assert told.error is None


def test_a_death_is_told_once_with_worker_signal_and_sample() -> None:
    told = go_over(Harmful(kill_itself, length=LENGTH), num_workers=2)

    (words,) = told.warned
    assert words.startswith("WorkerWarning: worker ")
    assert "was killed by SIGKILL while it made sample 5." in words
    assert "Its work is made again by another one." in words


def test_an_exit_is_told_with_its_status() -> None:
    (words,) = go_over(Harmful(leave, length=LENGTH), num_workers=2).warned

    assert "ended with status 7 while it made sample 5" in words


def test_workers_killed_one_after_the_other_change_no_bit_of_an_epoch() -> None:
    told = go_over(Good(200), num_workers=2, during=KillsAWorker(30))

    assert told.error is None
    assert told.batches == undisturbed(Good(200))


def test_workers_killed_while_idle_change_no_bit_of_an_epoch() -> None:
    loader = loader_of(Good(200), num_workers=2, engine="ring")
    batches = iter(loader)
    came = [plain(next(batches))]

    with told_of(WorkerWarning, match="while it made nothing yet"):
        for worker in workers_at_rest():
            worker.kill()
        came += [plain(batch) for batch in batches]

    loader.close()
    assert came == undisturbed(Good(200))


def test_workers_killed_between_two_passes_change_no_bit_of_the_next() -> None:
    loader = loader_of(Good(LENGTH), num_workers=2, engine="ring", shuffle=True)
    came = [plain(batch) for batch in loader]

    with told_of(WorkerWarning, match="SIGKILL"):
        for worker in workers_at_rest():
            worker.kill()
        came += [plain(batch) for batch in loader]

    loader.close()
    assert came == undisturbed(Good(LENGTH), shuffle=True, passes=2)


def test_a_worker_killed_while_it_starts_changes_no_bit_of_an_epoch() -> None:
    starts = SharedCount()

    def start(number: int) -> None:
        if starts.add() == 1:
            kill_itself()

    told = go_over(Good(LENGTH), num_workers=2, worker_init_fn=start)

    assert told.error is None
    assert told.batches == undisturbed(Good(LENGTH))
    assert int(starts) >= 2


ORDERS: dict[str, dict[str, Any]] = {
    "single samples": {"batch_size": None},
    "drop_last": {"drop_last": True, "batch_size": 7},
    "sampler": {"sampler": list(reversed(ALL))},
    "batch_sampler": {"batch_sampler": BatchSampler(SequentialSampler(ALL), 4, False)},
    "collate_fn": {"collate_fn": lambda samples: default_collate(samples[::-1])},
    "batch_transform": {"batch_transform": lambda batch: [batch[0] * 2, batch[1]]},
    "last of one": {"batch_size": 29},
}


@pytest.mark.parametrize("how", ORDERS.values(), ids=ORDERS.keys())
def test_a_death_changes_nothing_however_batches_are_made(how: dict[str, Any]) -> None:
    told = go_over(HarmfulDraws(kill_itself, length=LENGTH), num_workers=2, **how)

    assert told.error is None
    assert told.batches == undisturbed(Good(LENGTH), **how)
    assert len(told.warned) == 1


def test_a_death_with_in_order_false_loses_and_repeats_no_batch() -> None:
    told = go_over(HarmfulDraws(crash, length=LENGTH), num_workers=2, in_order=False)

    key = str
    assert sorted(told.batches, key=key) == sorted(undisturbed(Good(LENGTH)), key=key)


def test_a_sample_that_ends_its_worker_twice_is_named_with_path_signal_and_line() -> None:
    told = go_over(Harmful(crash, times=ALWAYS, length=LENGTH), num_workers=2)

    assert type(told.error) is WorkerError
    assert "was killed by SIGSEGV while it made sample 5" in told.words
    assert "/data/5.jpg" in told.words
    assert "in crash" in told.words


def test_batches_before_one_that_ends_its_worker_twice_are_delivered() -> None:
    told = go_over(Harmful(leave, at=9, times=ALWAYS, length=LENGTH), num_workers=2)

    assert told.numbers == ALL[:8]
    assert "ended with status 7" in told.words


@pytest.mark.parametrize(("times", "is_made"), [(4, True), (5, False)])
def test_a_sample_may_be_killed_from_outside_four_times_but_not_five(
    times: int, is_made: bool
) -> None:
    dataset = Harmful(kill_itself, times=times, length=LENGTH)

    told = go_over(dataset, num_workers=2)

    assert (told.error is None) is is_made
    assert int(dataset.tries) == 5


def test_a_sample_that_ends_its_worker_twice_is_skipped_where_that_is_asked_for() -> None:
    dataset = Harmful(leave, times=ALWAYS, length=LENGTH)

    told = go_over(dataset, num_workers=2, on_bad_sample="skip")

    assert told.error is None
    assert list(told.bad) == [5]
    assert "ended with status 7" in told.bad[5]
    assert set(told.numbers) == set(ALL) - {5}
    assert len(told.numbers) == LENGTH


def test_two_samples_of_a_batch_that_end_workers_are_both_skipped() -> None:
    class Two(Harmful):
        def __getitem__(self, index: int) -> int:
            if index in (5, 6):
                leave()
            return index

    told = go_over(Two(leave), 8, num_workers=2, on_bad_sample="skip")

    assert sorted(told.bad) == [5, 6]
    assert told.error is None


def test_one_sample_of_a_dataset_of_whole_batches_that_ends_workers_is_skipped() -> None:
    dataset = HarmfulWhole(leave, times=ALWAYS, length=LENGTH)

    told = go_over(dataset, num_workers=2, on_bad_sample="skip")

    assert list(told.bad) == [5]
    assert len(told.numbers) == LENGTH


def in_collation(harm: Callable[[], object], times: int) -> Callable[[Any], Any]:
    tries = SharedCount()

    def collate(samples: Any) -> Any:
        if 5 in samples and tries.add() <= times:
            harm()
        return default_collate(samples)

    return collate


def test_a_crash_in_collation_once_changes_nothing() -> None:
    told = go_over(Harmful(crash, times=0), num_workers=2, collate_fn=in_collation(crash, 1))

    assert told.numbers == list(range(400))


def test_a_crash_in_collation_twice_names_the_batch_and_its_line() -> None:
    told = go_over(Harmful(crash, times=0), num_workers=2, collate_fn=in_collation(crash, ALWAYS))

    assert "while it made batch 1, of 4 samples from 4 to 7" in told.words
    assert "in collate" in told.words


def test_a_dataset_of_whole_batches_loses_nothing_to_a_crash() -> None:
    told = go_over(HarmfulWhole(crash, length=LENGTH), num_workers=2)

    assert told.numbers == ALL


def test_a_dataset_of_whole_batches_that_crashes_twice_is_named_with_its_batch() -> None:
    told = go_over(HarmfulWhole(crash, times=ALWAYS, length=LENGTH), num_workers=2)

    assert "while it made batch 1, of 4 samples from 4 to 7" in told.words
    assert "in __getitems__" in told.words


def no_memory() -> None:
    raise MemoryError("42 GB for one picture")


def test_another_worker_makes_what_one_had_no_memory_for() -> None:
    told = go_over(HarmfulDraws(no_memory, length=LENGTH), num_workers=2)

    assert told.batches == undisturbed(Good(LENGTH))
    assert "ran out of memory while it made sample 5" in told.warned[0]


def test_a_sample_that_no_worker_has_memory_for_raises_its_own_error() -> None:
    told = go_over(Harmful(no_memory, times=ALWAYS, length=LENGTH), num_workers=2)

    assert type(told.error) is MemoryError
    assert "42 GB for one picture" in told.words
    assert "sample 5 of the Harmful, /data/5.jpg, made by worker" in told.words


WHOLE_OR_SINGLE = {"single": (Harmful, None), "at one go": (HarmfulWhole, 4)}


@pytest.mark.parametrize(("kind", "size"), WHOLE_OR_SINGLE.values(), ids=WHOLE_OR_SINGLE.keys())
def test_memory_that_ran_out_once_makes_no_sample_bad(kind: Any, size: Any, request: Any) -> None:
    told = go_over(kind(no_memory, length=LENGTH), size, num_workers=2, on_bad_sample="skip")

    assert told.bad == {}
    assert told.numbers == ALL


def test_a_resize_while_workers_die_changes_no_bit() -> None:
    kill = KillsAWorker(8)
    loader = loader_of(Good(80), num_workers=2, engine="ring")
    came = []

    with closing(loader), told_of(WorkerWarning):
        for number, batch in enumerate(loader):
            came.append(plain(batch))
            loader._shelf._lent[0].resize(1 + number % 3)
            kill(number)

    assert came == undisturbed(Good(80))


def test_a_subset_that_was_drawn_by_a_sampler_stays_whole_after_a_death() -> None:
    sampler = SubsetRandomSampler(range(10))

    told = go_over(Harmful(leave, length=LENGTH), num_workers=2, sampler=sampler)

    assert sorted(told.numbers) == ALL[:10]


def test_many_deaths_are_told_only_now_and_then() -> None:
    told = go_over(Good(120), num_workers=2, during=KillsAWorker(12))

    assert 1 <= len(told.warned) <= 4
