"""A sample that hangs is named within its limit with its line, and then the policy is followed."""

from collections.abc import Callable
from typing import Any

import pytest
from fault_passes import Pass, go_over
from fault_sets import (
    ALWAYS,
    Good,
    Harmful,
    HarmfulDraws,
    HarmfulWhole,
    search_for_ever,
    sleep,
    stop_itself,
    wait_for_a_lock,
)
from torch.utils.data import default_collate

from lightning_fastdata.errors import SampleError, WorkerError

pytestmark = pytest.mark.slow  # a campaign: each waits for hangs or signals

LIMIT_S = 0.5
LENGTH = 30
ALL = list(range(LENGTH))


def hung(harm: Callable[[], object], batch_size: int | None = 1, **how: Any) -> Pass:
    """In its second batch, since the first one has a watch of its own."""
    dataset = Harmful(harm, times=ALWAYS, length=LENGTH)
    return go_over(dataset, batch_size, num_workers=2, sample_timeout_s=LIMIT_S, **how)


@pytest.fixture(scope="module", params=[sleep, wait_for_a_lock, search_for_ever])
def stuck(request: pytest.FixtureRequest) -> tuple[str, Pass]:
    return request.param.__name__, hung(request.param)


def test_a_hung_sample_is_an_error_that_names_index_and_file(stuck: tuple[str, Pass]) -> None:
    _, told = stuck

    assert type(told.error) is SampleError
    assert told.words.startswith("sample 5 was not made within 0.")
    assert "/data/5.jpg" in told.words


def test_the_line_where_a_sample_hangs_is_shown(stuck: tuple[str, Pass]) -> None:
    name, told = stuck

    assert f"in {name}" in told.words
    assert 'fault_sets.py", line ' in told.words


def test_all_before_a_hung_sample_is_delivered(stuck: tuple[str, Pass]) -> None:
    _, told = stuck

    assert told.numbers == ALL[:5]


def test_what_a_worker_did_is_told_apart_from_waiting(stuck: tuple[str, Pass]) -> None:
    name, told = stuck
    is_busy = name == "search_for_ever"

    assert ("which was busy all the time" in told.words) == is_busy
    assert ("which slept or waited for something" in told.words) != is_busy


@pytest.mark.parametrize("batch_size", [4, None])
def test_a_hung_sample_is_skipped_where_that_is_asked_for(batch_size: int | None) -> None:
    told = hung(sleep, batch_size, on_bad_sample="skip")

    assert told.error is None
    assert list(told.bad) == [5]
    assert "was not made within 0." in told.bad[5]
    assert set(told.numbers) == set(ALL) - {5}
    assert len(told.numbers) == LENGTH


def test_a_sample_that_hangs_once_is_not_tried_again() -> None:
    """Unlike a death: each try takes the whole limit."""
    dataset = Harmful(sleep, length=LENGTH)

    go_over(dataset, num_workers=2, sample_timeout_s=LIMIT_S, on_bad_sample="skip")

    assert int(dataset.tries) == 1


def test_a_worker_stopped_by_somebody_changes_no_bit() -> None:
    told = go_over(
        HarmfulDraws(stop_itself, length=LENGTH), num_workers=2, sample_timeout_s=LIMIT_S
    )

    assert told.batches == go_over(Good(LENGTH)).batches
    assert "was stopped for 0." in told.warned[0]
    assert "sample 5" in told.warned[0]


def test_a_sample_that_always_stops_its_worker_is_named() -> None:
    dataset = Harmful(stop_itself, times=ALWAYS, length=LENGTH)

    told = go_over(dataset, 1, num_workers=2, sample_timeout_s=0.2)

    assert type(told.error) is WorkerError
    assert "while it made sample 5" in told.words


def collate_and_hang(samples: Any) -> Any:
    if 5 in samples:
        sleep()
    return default_collate(samples)


def test_a_collation_that_hangs_is_named_with_batch_and_line() -> None:
    dataset = Harmful(sleep, times=0, length=LENGTH)

    told = go_over(dataset, 2, num_workers=2, sample_timeout_s=LIMIT_S, collate_fn=collate_and_hang)

    assert told.words.startswith("batch 2, of 2 samples from 4 to 5 was not made within ")
    assert "in collate_and_hang" in told.words


def test_a_dataset_of_whole_batches_that_hangs_is_named_with_batch_and_line() -> None:
    dataset = HarmfulWhole(sleep, times=ALWAYS, length=LENGTH)

    told = go_over(dataset, 2, num_workers=2, sample_timeout_s=LIMIT_S)

    assert told.words.startswith("batch 2, of 2 samples from 4 to 5 was not made within ")
    assert "in __getitems__" in told.words


def test_a_batch_transform_that_hangs_is_named_with_its_batch() -> None:
    def transform(batch: Any) -> Any:
        if 5 in batch.tolist():
            sleep()
        return batch

    dataset = Harmful(sleep, times=0, length=LENGTH)
    told = go_over(dataset, 2, num_workers=2, sample_timeout_s=LIMIT_S, batch_transform=transform)

    assert told.words.startswith("batch 2, of 2 samples from 4 to 5 was not made within ")
    assert "in transform" in told.words


def test_two_hung_samples_with_in_order_false_are_both_skipped() -> None:
    class Two(Harmful):
        def __getitem__(self, index: int) -> int:
            if index in (5, 17):
                sleep()
            return index

    told = go_over(
        Two(sleep, length=LENGTH),
        num_workers=2,
        sample_timeout_s=LIMIT_S,
        in_order=False,
        on_bad_sample="leave_out",
        max_bad_fraction=0.1,
    )

    assert sorted(told.bad) == [5, 17]
    assert sorted(told.numbers) == sorted(set(ALL) - {5, 17})


def test_without_a_limit_no_sample_is_ever_ended() -> None:
    """Longer than the shortest look at the workers."""
    dataset = HarmfulDraws(lambda: __import__("time").sleep(1.2), length=LENGTH)

    told = go_over(dataset, num_workers=2, sample_timeout_s=None)

    assert told.warned == []
    assert told.error is None
