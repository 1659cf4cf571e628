"""What is said of a worker's death: how it ended, at what, whose doing it was, and what to do."""

import os
import signal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lightning_fastdata.errors import SampleError, WorkerError
from lightning_fastdata.loader.make import NO_ROW
from lightning_fastdata.loader.ring.child import Death, Stuck
from lightning_fastdata.loader.ring.failures import error_of, failure_of, nursery_words
from lightning_fastdata.loader.ring.inquest import Verdict, verdict_on
from lightning_fastdata.loader.ring.jobs import OUTSIDE_BLAME, OWN_BLAME, TOO_MUCH_BLAME
from lightning_fastdata.loader.ring.messages import Chunk


def chunk_of(*indices: int, **how: Any) -> Chunk:
    parts: dict[str, Any] = {
        "number": 7,
        "mode": "rows",
        "epoch": 0,
        "seeds": bytes(8 * len(indices)),
        "indices": np.array(indices, dtype=np.int64).tobytes(),
    }
    return Chunk(**parts | how)


def judged(
    chunk: Chunk | None = None,
    *,
    row: int = NO_ROW,
    status: int | None = None,
    oom_kills: int = 0,
    stacks: str = "",
    stuck: Stuck | None = None,
    no_memory: Any = None,
    next_chunk: Chunk | None = None,
) -> Verdict:
    child: Any = SimpleNamespace(
        number=3,
        pid=4711,
        current=chunk,
        queued=[chunk] if chunk else [] if next_chunk is None else [next_chunk],
        board=SimpleNamespace(row=row),
        stuck=stuck,
        no_memory=no_memory,
    )
    death = Death(status=status, peak_bytes=1_500_000_000, stacks=stacks)
    return verdict_on(child, death, oom_kills)


def exited(code: int) -> int:
    return code << 8


SAMPLE = chunk_of(10, 11, 12)
ENDS = {
    "SIGKILL": (signal.SIGKILL, "was killed by SIGKILL"),
    "SIGSEGV": (signal.SIGSEGV, "was killed by SIGSEGV"),
    "SIGBUS and a core": (signal.SIGBUS | 0x80, "was killed by SIGBUS"),
    "a real-time signal": (40, "was killed by signal 40"),
    "status 0": (exited(0), "ended with status 0"),
    "status 7": (exited(7), "ended with status 7"),
    "unknown": (None, "ended while"),
}


@pytest.mark.parametrize(("status", "words"), ENDS.values(), ids=ENDS.keys())
def test_how_a_worker_ended_is_said(status: int | None, words: str) -> None:
    verdict = judged(SAMPLE, row=1, status=status)

    assert verdict.words.startswith("worker 3 (process 4711) ")
    assert words in verdict.words
    assert "while it made sample 11" in verdict.words


WHERE = {
    "a sample": (SAMPLE, 2, "sample 12"),
    "many": (SAMPLE, NO_ROW, "batch 7, of 3 samples from 10 to 12"),
    "one": (chunk_of(10), NO_ROW, "batch 7, of sample 10"),
    "a negative index": (chunk_of(-1), 0, "sample -1"),
    "keys": (
        chunk_of(0, 0, are_keys=True, indices=b"pickled", first_row=4),
        1,
        "the sample in row 5 of batch 7",
    ),
    "all keys": (chunk_of(0, 0, are_keys=True), NO_ROW, "batch 7"),
    "a stream": (chunk_of(0, mode="stream", place=9), 1, "batch 9 of its stream"),
    "nothing": (None, 1, "nothing yet"),
}


@pytest.mark.parametrize(("chunk", "row", "words"), WHERE.values(), ids=WHERE.keys())
def test_what_a_worker_was_at_is_said(chunk: Chunk | None, row: int, words: str) -> None:
    assert f"while it made {words}" in judged(chunk, row=row, status=signal.SIGKILL).words


def test_what_a_worker_had_not_begun_is_told_but_not_blamed() -> None:
    verdict = judged(None, status=signal.SIGKILL, next_chunk=SAMPLE)

    assert "nothing yet, with batch 7, of 3 samples from 10 to 12 next" in verdict.words
    assert verdict.chunk is None


OUTSIDE = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
OWN = [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, exited(0), exited(1), None]


@pytest.mark.parametrize("status", OUTSIDE)
def test_signals_that_people_send_are_held_against_a_sample_less(status: int) -> None:
    verdict = judged(SAMPLE, row=1, status=status)

    assert verdict.blame == OUTSIDE_BLAME


@pytest.mark.parametrize("status", OWN)
def test_crashes_and_exits_are_a_samples_own_doing(status: int | None) -> None:
    verdict = judged(SAMPLE, row=1, status=status)

    assert verdict.blame == OWN_BLAME


def test_twice_its_own_doing_is_too_much_and_once_is_not() -> None:
    assert OWN_BLAME < TOO_MUCH_BLAME <= 2 * OWN_BLAME
    assert 3 * OUTSIDE_BLAME <= TOO_MUCH_BLAME


def test_a_kill_for_memory_is_named_and_a_samples_own_doing() -> None:
    verdict = judged(SAMPLE, row=1, status=signal.SIGKILL, oom_kills=2)

    assert "Memory had run out: the kernel killed 2 of this container's processes." in verdict.words
    assert "It had up to 1500 MB." in verdict.words
    assert verdict.blame == OWN_BLAME


def test_a_crash_is_told_with_its_stack() -> None:
    verdict = judged(SAMPLE, row=1, status=signal.SIGSEGV, stacks='  File "x.py", line 3 in f')

    assert 'Where it crashed:\n  File "x.py", line 3 in f' in str(error_of(verdict.failure))


def test_what_is_raised_says_what_was_found_and_wanted() -> None:
    error = error_of(judged(SAMPLE, row=1, status=exited(7)).failure)

    assert type(error) is WorkerError
    assert "ended with status 7 while it made sample 11, wanted a worker that goes on" in str(error)


STATES = {
    "S": "which slept or waited for something",
    "R": "which was busy all the time",
    "D": "which waited for a disk or a network file system",
    "?": "which did nothing",
}


@pytest.mark.parametrize(("state", "words"), STATES.items())
def test_a_hang_says_what_the_worker_did_meanwhile(state: str, words: str) -> None:
    verdict = judged(SAMPLE, row=1, stuck=Stuck(61.23, 0.0, state), stacks="a stack")
    error = error_of(verdict.failure)

    assert type(error) is SampleError
    assert str(error).startswith("sample 11 was not made within 61.2 s by worker 3 ")
    assert words in str(error)
    assert "The worker's stacks:\na stack" in str(error)
    assert verdict.blame >= TOO_MUCH_BLAME


def test_a_worker_that_only_waited_beside_others_is_not_blamed_at_once() -> None:
    stuck = Stuck(61.23, 0.0, "S", is_suspicion=True)

    assert judged(SAMPLE, row=1, stuck=stuck).blame == OUTSIDE_BLAME


@pytest.mark.parametrize("state", ["T", "t"])
def test_a_stopped_worker_is_not_blamed_on_its_sample_at_once(state: str) -> None:
    verdict = judged(SAMPLE, row=1, stuck=Stuck(61.23, 0.0, state))

    assert verdict.blame == OUTSIDE_BLAME
    assert "was stopped for 61.2 s while it made sample 11" in verdict.words


def test_a_worker_without_memory_is_told_and_its_own_error_kept() -> None:
    failure = failure_of(MemoryError("42 GB"))

    verdict = judged(SAMPLE, row=1, status=signal.SIGKILL, no_memory=failure)

    assert "ran out of memory while it made sample 11" in verdict.words
    assert verdict.failure is failure
    assert verdict.blame == OWN_BLAME


@pytest.mark.parametrize(
    ("status", "words"),
    [(-signal.SIGKILL, "was killed by SIGKILL"), (-40, "was killed by "), (3, "ended (3)")],
)
def test_how_a_nursery_ended_is_said(status: int, words: str) -> None:
    assert words in nursery_words(12, status)


def test_a_status_is_what_waitpid_gives() -> None:
    pid = os.fork()
    if not pid:
        os._exit(7)

    assert os.waitpid(pid, 0)[1] == exited(7)
