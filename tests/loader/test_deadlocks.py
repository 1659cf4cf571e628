"""The classic deadlocks of worker processes end: in all samples, or in words that name the place.

Each dataset hangs for ever under torch's loader; ``tests/campaign/compare_torch.py`` shows it.
"""

import multiprocessing
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from sample_sets import loader_of
from torch.utils.data import DataLoader

sys.path.append(str(Path(__file__).parents[1] / "campaign"))

import faulty_sets
from faulty_sets import CrossedLocks, FullQueue, OwnFiles, OwnLock, UsesTheLibrary

pytestmark = pytest.mark.slow  # a campaign: each waits for hangs or signals

LIMIT_S = 1.0
SAMPLES = 24
ALL = list(range(SAMPLES))


class Pass(NamedTuple):
    """What became of a pass."""

    numbers: list[int]
    error: Exception | None
    warnings: list[str]


def go_through(dataset: Any, batch_size: int = 4, limit_s: Any = LIMIT_S) -> Pass:
    numbers: list[int] = []
    failed = None
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        loader = loader_of(dataset, batch_size, num_workers=2, sample_timeout_s=limit_s)
        try:
            for batch in loader:
                numbers += batch.tolist()
        except Exception as error:
            failed = error
        loader.close()
    told = [f"{type(each.message).__name__}: {each.message}" for each in heard]
    return Pass(numbers, failed, told)


def words_of(error: Exception | None) -> str:
    assert error is not None
    return "\n".join([type(error).__name__, str(error), *getattr(error, "__notes__", [])])


def test_torch_waits_for_a_lock_that_was_held_at_the_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """To see that the dataset does what the tests below are about."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    fork = multiprocessing.get_context("fork")
    loader: Any = DataLoader(
        UsesTheLibrary(SAMPLES), num_workers=1, timeout=1, multiprocessing_context=fork
    )

    with (
        faulty_sets.held_by_another_thread(faulty_sets.LIBRARY_LOCK),
        pytest.raises(RuntimeError, match=r"^DataLoader timed out after 1 seconds"),
    ):
        list(loader)


@pytest.fixture(scope="module")
def forked_beside_a_held_lock() -> Pass:
    with faulty_sets.held_by_another_thread(faulty_sets.LIBRARY_LOCK):
        return go_through(UsesTheLibrary(SAMPLES))


def test_an_epoch_forked_while_another_thread_held_a_lock_is_whole(
    forked_beside_a_held_lock: Pass,
) -> None:
    assert forked_beside_a_held_lock.error is None
    assert forked_beside_a_held_lock.numbers == ALL


def test_a_fresh_start_is_said_once_and_shows_where_the_workers_waited(
    forked_beside_a_held_lock: Pass,
) -> None:
    (told,) = forked_beside_a_held_lock.warnings

    assert told.startswith("WorkerWarning: ")
    assert "fresh interpreter" in told
    assert "faulty_sets.py" in told


def test_a_lock_of_the_dataset_that_its_copies_get_anew_does_not_hold_up_an_epoch() -> None:
    dataset = OwnLock(SAMPLES)

    with faulty_sets.held_by_another_thread(dataset.lock):
        told = go_through(dataset)

    assert told.error is None
    assert told.numbers == ALL


@pytest.fixture(scope="module", params=[CrossedLocks, FullQueue], ids=lambda kind: kind.__name__)
def deadlocked_later(request: pytest.FixtureRequest) -> Pass:
    return go_through(request.param(SAMPLES, at=10), batch_size=1)


def test_workers_that_wait_for_each_other_are_named_with_a_sample(deadlocked_later: Pass) -> None:
    assert words_of(deadlocked_later.error).startswith("SampleError\nsample 1")


def test_the_line_where_a_worker_waits_is_shown(deadlocked_later: Pass) -> None:
    assert 'faulty_sets.py", line ' in words_of(deadlocked_later.error)
    assert "in __getitem__" in words_of(deadlocked_later.error)


def test_what_was_made_before_a_deadlock_is_delivered(deadlocked_later: Pass) -> None:
    assert deadlocked_later.numbers[:10] == ALL[:10]


def test_a_deadlock_at_the_first_batch_that_no_fresh_start_can_solve_is_named() -> None:
    """Locks of multiprocessing cannot be sent to a fresh interpreter."""
    told = go_through(CrossedLocks(SAMPLES, at=0), batch_size=1)

    assert words_of(told.error).startswith("SampleError\nsample ")
    assert "in __getitem__" in words_of(told.error)


def test_the_rewrite_with_files_of_each_worker_is_whole(tmp_path: Path) -> None:
    told = go_through(OwnFiles(str(tmp_path / "records"), SAMPLES), limit_s="auto")

    assert told == Pass(ALL, None, [])
