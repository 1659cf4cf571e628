"""A stream whose workers or nursery end is replayed, as if nothing had happened."""

from collections.abc import Callable
from typing import Any

import pytest
from fault_passes import (
    Pass,
    end,
    go_over,
    kill_nursery_after,
    nursery,
    told_of,
    wait_until,
    workers_at_rest,
)
from fault_sets import ALWAYS, HarmfulStream, kill_itself, leave, nothing, sleep
from sample_sets import loader_of, plain

from lightning_fastdata.errors import WorkerError, WorkerWarning

HARMS = pytest.mark.parametrize("harm", [kill_itself, leave])


def undisturbed(batch_size: int | None = 4, **how: Any) -> list[Any]:
    return go_over(HarmfulStream(nothing), batch_size, **how).batches


@HARMS
@pytest.mark.parametrize("batch_size", [3, None])
def test_a_stream_whose_worker_ends_is_replayed_to_the_bit(
    harm: Callable[[], object], batch_size: int | None
) -> None:
    told = go_over(HarmfulStream(harm, at=13), batch_size, num_workers=3)

    assert told.error is None
    assert told.batches == undisturbed(batch_size, num_workers=3)
    assert "of its stream" in told.warned[0]


def test_a_stream_whose_worker_ends_at_its_first_sample_is_replayed() -> None:
    told = go_over(HarmfulStream(kill_itself, at=0), num_workers=2)

    assert told.batches == undisturbed(num_workers=2)


def test_a_stream_whose_worker_ends_in_its_second_pass_is_replayed() -> None:
    class InSecond(HarmfulStream):
        def __iter__(self) -> Any:
            self.times = 2 if int(self.made) >= self.length else 0
            return super().__iter__()

    told = go_over(InSecond(leave, at=20), num_workers=2, passes=2)

    assert told.batches == undisturbed(num_workers=2, passes=2)
    assert len(told.warned) == 1


def test_a_stream_with_in_order_false_loses_and_repeats_nothing() -> None:
    told = go_over(HarmfulStream(leave, at=13), num_workers=2, in_order=False)

    assert sorted(told.numbers) == list(range(41))


def at_rest_after_the_first_batch(
    dataset: HarmfulStream, kill: Callable[[], object]
) -> tuple[list[Any], list[Any]]:
    """Kill when all that was asked for has been made, and nothing is under way."""
    loader = loader_of(dataset, 4, num_workers=2, engine="ring", prefetch_factor=2)
    batches = iter(loader)
    came = [plain(next(batches))]
    wait_until(lambda: int(dataset.made) == 4 * 4)
    with told_of(WorkerWarning):
        kill()
        came += [plain(batch) for batch in batches]
    loader.close()
    return came, undisturbed(num_workers=2, prefetch_factor=2)


def test_a_stream_whose_idle_workers_are_killed_is_whole() -> None:
    def kill() -> None:
        for worker in workers_at_rest():
            end(worker)

    came, wanted = at_rest_after_the_first_batch(HarmfulStream(nothing), kill)

    assert came == wanted


def test_a_stream_whose_nursery_is_killed_while_all_rest_is_whole() -> None:
    def kill() -> None:
        workers_at_rest()
        end(nursery())

    came, wanted = at_rest_after_the_first_batch(HarmfulStream(nothing), kill)

    assert came == wanted


@pytest.mark.parametrize("num_workers", [1, 3])
def test_a_stream_whose_nursery_is_killed_again_and_again_is_whole(num_workers: int) -> None:
    told = go_over(
        HarmfulStream(nothing), 2, num_workers=num_workers, during=kill_nursery_after(0, 3, 4, 9)
    )

    assert told.error is None
    assert told.batches == undisturbed(2, num_workers=num_workers)


@pytest.mark.parametrize("in_order", [True, False])
@HARMS
def test_a_stream_that_always_ends_its_worker_is_an_error_and_no_loop(
    harm: Callable[[], object], in_order: bool
) -> None:
    dataset = HarmfulStream(harm, at=13, times=ALWAYS)

    told = go_over(dataset, num_workers=2, in_order=in_order)

    assert type(told.error) is WorkerError
    assert int(dataset.tries) <= 6
    assert "of its stream" in told.words


@pytest.mark.slow
def test_a_stream_that_hangs_is_named_with_its_line() -> None:
    told: Pass = go_over(
        HarmfulStream(sleep, at=13, times=ALWAYS), 2, num_workers=2, sample_timeout_s=0.5
    )

    assert "of its stream was not made within " in told.words
    assert "in sleep" in told.words


def test_a_stream_that_raises_is_told_with_its_own_error() -> None:
    def harm() -> None:
        raise KeyError("record 13")

    told = go_over(HarmfulStream(harm, at=13, times=ALWAYS), num_workers=2)

    assert type(told.error) is KeyError
    assert "in harm" in told.words


def test_a_stream_goes_on_after_one_worker_had_no_memory() -> None:
    def harm() -> None:
        raise MemoryError

    told = go_over(HarmfulStream(harm, at=13), num_workers=2)

    assert told.batches == undisturbed(num_workers=2)
    assert "ran out of memory" in told.warned[0]
