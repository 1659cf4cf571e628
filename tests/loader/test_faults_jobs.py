"""Work of workers that ended is made again: each row once, a suspect alone, the guilty named."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.loader.ring.jobs import OUTSIDE_BLAME, OWN_BLAME, Jobs
from lightning_fastdata.loader.ring.messages import (
    BadRow,
    BadSamples,
    BatchDone,
    Chunk,
    ChunkDone,
    Failure,
)
from lightning_fastdata.loader.ring.rows import WrittenRows
from lightning_fastdata.loader.ring.times import NO_TIMES

FAILURE = Failure(None, "WorkerError", "it ended")


def batch_of(size: int, *, mode: Any = "rows", number: int = 0) -> Chunk:
    return Chunk(
        number=number,
        mode=mode,
        epoch=0,
        seeds=np.arange(size, dtype=np.uint64).tobytes(),
        indices=np.arange(size, dtype=np.int64).tobytes(),
        batch_size=size,
    )


def indices_of(chunk: Chunk) -> list[int]:
    return list(np.frombuffer(chunk.indices, np.int64).tolist())


def jobs_with(batch: Chunk, *, chunk_samples: int | None = 3, finds_all_bad: bool = False) -> Jobs:
    jobs = Jobs(chunk_samples, finds_all_bad=finds_all_bad)
    jobs.add(batch, 2)
    return jobs


def settle(jobs: Jobs, chunk: Chunk, bad_rows: tuple[int, ...] = ()) -> BatchDone | None:
    result: Any = WrittenRows("layout", [])
    if bad_rows:
        result = BadSamples(tuple(BadRow(row, FAILURE) for row in bad_rows))
    times = NO_TIMES._replace(samples=len(indices_of(chunk)), ended_ns=1000)
    return jobs.settle(ChunkDone(chunk.number, chunk.first_row, result, times, None))


def all_made(jobs: Jobs) -> tuple[list[int], BatchDone | None]:
    """Make all that waits, and give the rows made and the batch's answer."""
    rows: list[int] = []
    answer = None
    while jobs.ready:
        chunk = jobs.ready.popleft()
        first = chunk.first_row
        assert indices_of(chunk) == list(range(first, first + len(indices_of(chunk))))
        assert len(chunk.seeds) == len(chunk.indices)
        rows += indices_of(chunk)
        assert answer is None, "a batch is answered once"
        answer = settle(jobs, chunk)
    return rows, answer


@given(
    size=st.integers(1, 20),
    chunk_samples=st.integers(1, 8),
    deaths=st.lists(st.tuples(st.integers(0, 30), st.integers(-1, 8)), max_size=8),
)
def test_whoever_ends_each_row_is_made_once_and_the_batch_answered_once(
    size: int, chunk_samples: int, deaths: list[tuple[int, int]]
) -> None:
    jobs = jobs_with(batch_of(size), chunk_samples=chunk_samples)
    blamed: set[int] = set()
    for place, row in deaths:
        chunk = jobs.ready[place % len(jobs.ready)]
        row %= len(indices_of(chunk))
        if chunk.first_row + row in blamed:
            continue
        blamed.add(chunk.first_row + row)
        jobs.ready.remove(chunk)
        assert jobs.retry(chunk, row, OWN_BLAME, FAILURE) is None

    rows, answer = all_made(jobs)

    assert sorted(rows) == list(range(size))
    assert answer is not None
    assert isinstance(answer.result, WrittenRows)


def test_a_suspect_is_cut_out_alone_and_is_among_the_next() -> None:
    jobs = jobs_with(batch_of(9))
    chunk = jobs.ready.popleft()

    jobs.retry(chunk, 1, OWN_BLAME, FAILURE)

    assert [indices_of(part) for part in jobs.ready] == [[0], [1], [2], [3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_what_one_worker_has_to_make_is_not_cut(mode: Any) -> None:
    jobs = jobs_with(batch_of(4, mode=mode), chunk_samples=None)
    chunk = jobs.ready.popleft()

    jobs.retry(chunk, 1, OWN_BLAME, FAILURE)

    assert list(jobs.ready) == [chunk]


def blamed(jobs: Jobs, blame: int, times: int) -> BatchDone | None:
    answer = None
    for _ in range(times):
        chunk = next(part for part in jobs.ready if 4 in indices_of(part))
        jobs.ready.remove(chunk)
        answer = jobs.retry(chunk, indices_of(chunk).index(4), blame, FAILURE)
    return answer


def test_a_sample_that_ended_two_workers_is_the_bad_one_of_its_batch() -> None:
    jobs = jobs_with(batch_of(9))

    answer = blamed(jobs, OWN_BLAME, 2)

    assert answer is not None
    assert answer.result == BadSamples((BadRow(4, FAILURE),))
    assert not jobs.ready


def test_a_sample_under_which_workers_were_killed_is_tried_five_times() -> None:
    assert blamed(jobs_with(batch_of(9)), OUTSIDE_BLAME, 4) is None
    assert blamed(jobs_with(batch_of(9)), OUTSIDE_BLAME, 5) is not None


def test_two_samples_that_ended_a_worker_each_are_not_held_against_each_other() -> None:
    jobs = jobs_with(batch_of(9))

    assert blamed(jobs, OWN_BLAME, 1) is None
    chunk = next(part for part in jobs.ready if 7 in indices_of(part))
    jobs.ready.remove(chunk)
    assert jobs.retry(chunk, 1, OWN_BLAME, FAILURE) is None


def test_where_all_bad_ones_are_wanted_the_rest_of_the_batch_is_made_first() -> None:
    jobs = jobs_with(batch_of(9), finds_all_bad=True)

    assert blamed(jobs, OWN_BLAME, 2) is None
    answers = [settle(jobs, chunk, (1,) if 6 in indices_of(chunk) else ()) for chunk in jobs.ready]

    assert next(answer for answer in answers if answer is not None).result == BadSamples(
        (BadRow(4, FAILURE), BadRow(7, FAILURE))
    )


def test_a_chunk_of_a_batch_that_was_given_up_is_made_by_nobody() -> None:
    jobs = jobs_with(batch_of(9))
    under_way = jobs.ready.popleft()
    blamed(jobs, OWN_BLAME, 2)

    assert jobs.retry(under_way, 0, OWN_BLAME, FAILURE) is None
    assert settle(jobs, under_way) is None
    assert not jobs.ready


def test_what_a_worker_had_not_begun_is_the_next_to_be_made() -> None:
    jobs = jobs_with(batch_of(9))
    first = jobs.ready.popleft()

    jobs.give_back(first)

    assert jobs.ready[0] is first
    assert all_made(jobs)[0] == list(range(9))


def test_a_forgotten_batch_leaves_nothing_and_can_be_asked_for_again() -> None:
    jobs = jobs_with(batch_of(9))
    late = jobs.ready[0]

    jobs.forget({0})
    assert not jobs.ready
    assert settle(jobs, late) is None
    jobs.add(batch_of(9), 2)

    assert all_made(jobs)[0] == list(range(9))
