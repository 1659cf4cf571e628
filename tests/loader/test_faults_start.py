"""Workers that cannot start are an error with a reason, not a loop; a slow start is neither."""

from collections.abc import Callable
from typing import Any

import pytest
from fault_passes import go_over
from fault_sets import ALWAYS, Good, Harmful, SharedCount, crash, kill_itself, leave, sleep

from lightning_fastdata.errors import WorkerError
from lightning_fastdata.loader.ring import crew
from lightning_fastdata.loader.ring.crew import Crew
from lightning_fastdata.loader.ring.jobs import Jobs
from lightning_fastdata.loader.ring.messages import GaveUp
from lightning_fastdata.loader.ring.settings import RingSettings

LENGTH = 24


@pytest.mark.parametrize(
    ("harm", "how"),
    [(kill_itself, "SIGKILL"), (leave, "ended with status 7"), (crash, "in crash")],
)
def test_workers_that_always_end_in_worker_init_fn_are_an_error_that_says_how(
    harm: Callable[[], object], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "_MOST_BARREN", 3)  # else the pauses take ten seconds
    starts = SharedCount()

    def start(number: int) -> None:
        starts.add()
        harm()

    told = go_over(Good(LENGTH), num_workers=2, worker_init_fn=start)

    assert type(told.error) is WorkerError
    assert how in told.words
    assert "Look at worker_init_fn" in told.words
    assert int(starts) <= 6


def test_a_worker_init_fn_that_hangs_is_an_error_with_its_line() -> None:
    unpicklable = SharedCount()

    def start(number: int) -> None:
        assert unpicklable is not None
        sleep()

    told = go_over(Good(LENGTH), num_workers=2, worker_init_fn=start, sample_timeout_s=0.5)

    assert type(told.error) is WorkerError
    assert "in start" in told.words


def test_a_worker_init_fn_that_raises_is_told_with_its_own_error() -> None:
    def start(number: int) -> None:
        raise KeyError("no such licence")

    for policy in ("raise", "skip"):
        told = go_over(Good(LENGTH), num_workers=2, worker_init_fn=start, on_bad_sample=policy)

        assert type(told.error) is KeyError
        assert "no such licence" in told.words
        assert told.bad == {}


def test_a_hang_at_the_first_batch_that_no_fresh_start_can_mend_is_named() -> None:
    dataset = Harmful(sleep, at=0, times=ALWAYS, length=LENGTH)

    told = go_over(dataset, num_workers=2, sample_timeout_s=0.5)

    assert told.words.startswith("sample 0 was not made within ")
    assert "in sleep" in told.words


def test_a_hang_at_the_first_batch_is_skipped_and_nothing_else_is() -> None:
    dataset = Harmful(sleep, at=0, times=ALWAYS, length=LENGTH)

    told = go_over(dataset, num_workers=2, sample_timeout_s=0.5, on_bad_sample="skip")

    assert list(told.bad) == [0]
    assert set(told.numbers) == set(range(1, LENGTH))


class Clock:
    """A clock that a test sets, and workers of which none can be started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.tries = 100.0, 0
        monkeypatch.setattr(crew.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(crew, "Child", self._refuse)

    def _refuse(self, *_: Any) -> None:
        self.tries += 1
        raise BlockingIOError("no more processes")


def test_pauses_between_starts_that_fail_double_up_to_five_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    waiting: Any = Crew(None, RingSettings(num_workers=1), Jobs(None), lambda message: None)  # type: ignore[arg-type]  # no worker ever sees it
    pauses = []
    for _ in range(7):
        assert waiting.start_one() is None
        pauses.append(round(waiting.pause_s(), 6))
        clock.now_s = waiting._not_before_s

    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert clock.tries == 7


def test_nothing_is_started_before_its_pause_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    waiting: Any = Crew(None, RingSettings(num_workers=1), Jobs(None), lambda message: None)  # type: ignore[arg-type]  # no worker ever sees it

    for _ in range(5):
        waiting.start_one()

    assert clock.tries == 1


def test_starts_that_fail_again_and_again_are_given_up_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, told = Clock(monkeypatch), list[Any]()
    waiting: Any = Crew(None, RingSettings(num_workers=1), Jobs(None), told.append)  # type: ignore[arg-type]  # no worker ever sees it
    for _ in range(8):
        waiting.start_one()
        clock.now_s += 10

    (news,) = told
    assert isinstance(news, GaveUp)
    assert news.words == "no worker could be started (no more processes)"
