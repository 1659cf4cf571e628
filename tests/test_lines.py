"""Finding the lines at which a thread spends its time."""

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.trace.blame import Blame, Owner, owner_of
from lightning_fastdata.trace.lines import LineCounts, LineSampler, _Due
from lightning_fastdata.trace.work import LINES_KEPT, Line

PACKAGE = os.path.dirname(os.path.dirname(sys.modules[LineSampler.__module__].__file__ or ""))
PYTHON = os.path.dirname(threading.__file__)
SITE = "/home/me/.venv/lib/python3.11/site-packages"
FETCH = f"{SITE}/torch/utils/data/_utils/fetch.py"
LOOP = f"{SITE}/lightning/pytorch/loops/training_epoch_loop.py"
HANGS_S = 60.0


class Turns:
    """What a sampler waits for, and the clocks that it reads: it looks when told to."""

    def __init__(self) -> None:
        self.now_ns = self.spent_ns = 0
        self.waits_s: list[float] = []
        self._is_held = self._has_ended = False
        self._asleep, self._turn = threading.Semaphore(0), threading.Semaphore(0)

    def clock_ns(self) -> int:
        return self.now_ns

    def cpu_ns(self) -> int:
        return self.spent_ns

    def acquire(self, *, timeout: float = -1) -> bool:
        if not self._is_held:
            self._is_held = True
            return True
        self.waits_s.append(timeout)
        self._asleep.release()
        assert self._turn.acquire(timeout=HANGS_S)
        return self._has_ended

    def release(self) -> None:
        self._has_ended = True
        self._turn.release()

    def look(self, late_s: float = 0.0) -> None:
        """Let the sampler look once, and wait until it has."""
        assert self._asleep.acquire(timeout=HANGS_S)
        self.now_ns += round((self.waits_s[-1] + late_s) * 1e9) + 1
        self._turn.release()
        assert self._asleep.acquire(timeout=HANGS_S)
        self._asleep.release()


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def sampler_of(turns: Turns) -> Iterator[Callable[..., LineSampler]]:
    made: list[LineSampler] = []

    def make(**settings: Any) -> LineSampler:
        made.append(
            LineSampler(
                threading.get_ident(),
                clock_ns=turns.clock_ns,
                cpu_ns=turns.cpu_ns,
                make_lock=lambda: turns,
                **settings,
            )
        )
        made[-1].start()
        return made[-1]

    yield make
    for sampler in made:
        sampler.stop()


def blamed(*places: tuple[str, int, str]) -> Line:
    """The line to blame for a stack of files, lines and functions, the outermost first."""
    called: Callable[[], Line] = lambda: Blame().line_of(sys._getframe(1))  # noqa: E731
    for file, line, name in reversed(places):
        names: dict[str, Any] = {"inner": called}
        source = "\n" * (line - 1) + f"def {name}(): return inner()"
        exec(compile(source, file, "exec"), names)
        called = names[name]
    return called()


@pytest.mark.parametrize(
    ("file", "owner"),
    [
        ("/home/me/project/my_data.py", Owner.USER),
        ("/home/me/project/src/editable/data.py", Owner.USER),
        ("/tmp/ipykernel_4711/1234567.py", Owner.USER),
        ("<ipython-input-3-0123456789ab>", Owner.USER),
        ("<stdin>", Owner.USER),
        ("train.py", Owner.USER),
        ("<string>", Owner.MACHINERY),
        ("<frozen importlib._bootstrap>", Owner.MACHINERY),
        ("<eval_with_key>.7", Owner.MACHINERY),
        (f"{PYTHON}/json/decoder.py", Owner.MACHINERY),
        (f"{PYTHON}/site-packages/PIL/Image.py", Owner.LIBRARY),
        ("/usr/lib/python3/dist-packages/PIL/Image.py", Owner.LIBRARY),
        (f"{SITE}/torchvision/transforms/functional.py", Owner.LIBRARY),
        (f"{SITE}/torch/nn/modules/module.py", Owner.MACHINERY),
        (f"{SITE}/torch/utils/data/dataset.py", Owner.MACHINERY),
        (f"{SITE}/torch/utils/data/_utils/collate.py", Owner.MACHINERY),
        (FETCH, Owner.LOOP),
        (f"{SITE}/torch/utils/data/dataloader.py", Owner.LOOP),
        (LOOP, Owner.LOOP),
        (f"{SITE}/pytorch_lightning/loops/fetchers.py", Owner.LOOP),
        (f"{SITE}/lightning/pytorch/trainer/trainer.py", Owner.MACHINERY),
        (f"{SITE}/lightning/pytorch/callbacks/model_checkpoint.py", Owner.ADDON),
        (f"{SITE}/lightning/fabric/loggers/csv_logs.py", Owner.ADDON),
        (f"{PACKAGE}/dataset/image_decode.py", Owner.DATASET),
        (f"{PACKAGE}/loader/make.py", Owner.LOOP),
        (f"{PACKAGE}/trace/stages.py", Owner.MACHINERY),
        (f"{PACKAGE}_of_mine/data.py", Owner.USER),
    ],
)
def test_a_file_belongs_to(file: str, owner: Owner) -> None:
    assert owner_of(file) is owner


MAIN = ("/home/me/train.py", 90, "main")
TRAINING = [MAIN, (LOOP, 300, "advance")]
FETCHING = [MAIN, (FETCH, 54, "fetch")]


def test_the_users_innermost_line_is_to_blame_for_what_it_calls() -> None:
    line = blamed(
        *FETCHING,
        ("/home/me/my_data.py", 40, "__getitem__"),
        ("/home/me/my_data.py", 48, "load"),
        (f"{SITE}/PIL/Image.py", 900, "convert"),
        (f"{PYTHON}/io.py", 12, "read"),
    )

    assert line == Line("/home/me/my_data.py", 48, "load")


def test_the_script_that_started_the_loop_is_not_to_blame() -> None:
    line = blamed(*TRAINING, (f"{SITE}/torch/optim/adam.py", 7, "adam"))

    assert line == Line(f"{SITE}/torch/optim/adam.py", 7, "adam")


def test_without_the_users_code_the_innermost_line_of_a_library_is_to_blame() -> None:
    line = blamed(
        *FETCHING,
        (f"{SITE}/torch/utils/data/dataset.py", 400, "__getitem__"),
        (f"{SITE}/torchvision/datasets/folder.py", 245, "__getitem__"),
        (f"{SITE}/PIL/Image.py", 900, "convert"),
        (f"{PYTHON}/io.py", 12, "read"),
    )

    assert line == Line(f"{SITE}/PIL/Image.py", 900, "convert")


def test_a_callback_is_to_blame_for_the_libraries_that_it_uses() -> None:
    bar = f"{SITE}/lightning/pytorch/callbacks/progress/rich_progress.py"

    line = blamed(*TRAINING, (bar, 50, "refresh"), (f"{SITE}/rich/segment.py", 8, "split"))

    assert line == Line(bar, 50, "refresh")


def test_without_a_library_our_own_dataset_is_named() -> None:
    own = f"{PACKAGE}/dataset/image_decode.py"

    line = blamed(MAIN, (f"{PACKAGE}/loader/make.py", 9, "make"), (own, 30, "read_file"))

    assert line == Line(own, 30, "read_file")


@pytest.mark.parametrize(
    "inside",
    [
        f"{SITE}/lightning/pytorch/trainer/connectors/logger_connector/result.py",
        f"{SITE}/lightning/pytorch/strategies/strategy.py",
        f"{SITE}/torch/utils/data/_utils/collate.py",
        f"{PACKAGE}/trace/stages.py",
    ],
)
def test_a_line_of_the_user_is_to_blame_for_the_machinery_that_it_calls(inside: str) -> None:
    users = ("/home/me/model.py", 20, "training_step")

    line = blamed(*TRAINING, users, (inside, 5, "log"))

    assert line == Line(*users)


def test_where_only_a_loop_runs_its_own_line_is_named() -> None:
    assert blamed(*TRAINING) == Line(LOOP, 300, "advance")


def test_looks_between_begin_and_take_are_counted(
    turns: Turns, sampler_of: Callable[..., LineSampler]
) -> None:
    sampler = sampler_of()
    turns.look()
    sampler.begin()
    for _ in range(3):
        turns.look()

    lines, looks = sampler.take()
    turns.look()

    assert looks == 3
    assert [(line.function, count) for line, count in lines] == [("look", 3)]
    assert sampler.take() == ((), 0)


def test_each_thing_that_goes_on_has_its_own_counts(
    turns: Turns, sampler_of: Callable[..., LineSampler]
) -> None:
    counts = {"wait": LineCounts(), "compute": LineCounts()}
    going_on: list[str | None] = ["wait"]
    sampler_of(into=lambda: counts.get(str(going_on[0])))

    turns.look()
    going_on[0] = "compute"
    turns.look()
    turns.look()
    going_on[0] = None
    turns.look()

    assert {name: each.looks for name, each in counts.items()} == {"wait": 1, "compute": 2}


def test_a_look_that_comes_late_counts_for_all_that_were_due(
    turns: Turns, sampler_of: Callable[..., LineSampler]
) -> None:
    """C code that holds the interpreter's lock for a second fills 50 looks, not one."""
    sampler = sampler_of(per_s=50.0)
    sampler.begin()

    turns.look(late_s=1.0)

    assert 50 <= sampler.take()[1] <= 52


def test_a_process_that_was_stopped_for_an_hour_was_not_an_hour_at_its_line(
    turns: Turns, sampler_of: Callable[..., LineSampler]
) -> None:
    sampler = sampler_of()
    sampler.begin()

    turns.look(late_s=3600.0)
    turns.look()

    assert sampler.take()[1] == 3001


def test_looks_that_cost_much_become_rarer_and_count_for_more(
    turns: Turns, sampler_of: Callable[..., LineSampler]
) -> None:
    sampler = sampler_of(per_s=50.0)
    sampler.begin()
    for _ in range(20):
        turns.spent_ns += 4_000_000
        turns.look()

    assert sum(turns.waits_s[1:]) == pytest.approx(20 * 0.4, rel=0.1)
    assert sampler.take()[1] == pytest.approx(turns.now_ns / 1e9 * 50, abs=5)


@given(
    steps_ns=st.lists(st.integers(0, 100), max_size=50),
    interval_ns=st.integers(1, 30),
)
def test_how_many_looks_are_due_does_not_depend_on_when_one_asks(
    steps_ns: list[int], interval_ns: int
) -> None:
    often, once = _Due(interval_ns, 0), _Due(interval_ns, 0)
    counted = now_ns = 0
    for step_ns in steps_ns:
        now_ns += step_ns
        counted += often.passed(now_ns)

    assert counted == once.passed(now_ns)
    assert abs(counted - now_ns / interval_ns) <= 2


def test_looks_do_not_keep_time_with_what_repeats(
    turns: Turns, sampler_of: Callable[..., LineSampler]
) -> None:
    sampler_of(per_s=100.0)
    for _ in range(200):
        turns.look()

    assert len({round(wait_s, 4) for wait_s in turns.waits_s}) > 50
    assert min(turns.waits_s) >= 0.004
    assert sum(turns.waits_s) / len(turns.waits_s) == pytest.approx(0.01, rel=0.01)


def test_lines_are_bounded_and_looks_are_not() -> None:
    counts = LineCounts()

    for number in range(LINES_KEPT + 10):
        counts.add(Line("data.py", number, "load"), 1)
    counts.add(Line("data.py", 0, "load"), 1)

    assert len(counts.lines) == LINES_KEPT
    assert counts.looks == LINES_KEPT + 11
    assert counts.lines[Line("data.py", 0, "load")] == 2


def test_what_is_looked_at_is_not_kept_alive(
    turns: Turns, sampler_of: Callable[..., LineSampler]
) -> None:
    class Batch:
        pass

    def make() -> "weakref.ref[Batch]":
        batch = Batch()
        turns.look()
        return weakref.ref(batch)

    sampler_of().begin()

    assert make()() is None


def test_a_failure_ends_looking_and_is_kept() -> None:
    def refuse() -> dict[int, FrameType]:
        raise RuntimeError("no frames here")

    sampler = LineSampler(threading.get_ident(), per_s=100.0, frames=refuse)
    sampler.begin()
    sampler.start()
    deadline_s = time.monotonic() + HANGS_S
    while sampler.problem is None and time.monotonic() < deadline_s:
        pass
    sampler.stop()

    assert sampler.problem == "RuntimeError: no frames here"


def test_it_ends_as_often_as_it_is_told_to() -> None:
    sampler = LineSampler(threading.get_ident())
    sampler.stop()
    sampler.start()
    sampler.start()

    sampler.stop()
    sampler.stop()

    assert "LineSampler" not in {thread.name for thread in threading.enumerate()}


def test_threads_change_places_as_before_when_it_has_ended() -> None:
    before_s = sys.getswitchinterval()
    sampler = LineSampler(threading.get_ident())

    sampler.start()
    during_s = sys.getswitchinterval()
    sampler.stop()

    assert during_s == pytest.approx(1e-4)
    assert sys.getswitchinterval() == before_s


def spin_until_seen(sampler: LineSampler) -> list[str]:
    """Run Python until it has been looked at, and return the functions that were seen."""
    deadline_s = time.monotonic() + HANGS_S
    seen: list[str] = []
    sampler.begin()
    # Now and then a look comes while the counts are taken.
    while "spin_until_seen" not in seen and time.monotonic() < deadline_s:
        for _ in range(10_000):
            pass
        seen = [line.function for line, _ in sampler.take()[0]]
        sampler.begin()
    return seen


def test_a_busy_loop_is_found_by_its_function() -> None:
    sampler = LineSampler(threading.get_ident(), per_s=100.0)
    sampler.start()

    seen = spin_until_seen(sampler)
    sampler.stop()

    assert "spin_until_seen" in seen


def test_it_starts_afresh_in_a_forked_process() -> None:
    sampler = LineSampler(threading.get_ident(), per_s=100.0)
    sampler.start()

    child = os.fork()
    if child == 0:
        status = 1
        try:
            sampler.stop()
            sampler.start()
            status = 0 if spin_until_seen(sampler) else 2
            sampler.stop()
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    sampler.stop()

    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("per_s", [0.0, -1.0, 101.0, float("nan")])
def test_looks_that_are_too_many_or_none_are_refused(per_s: float) -> None:
    with pytest.raises(SettingsError, match=r"^per_s=.*, wanted looks a second"):
        LineSampler(threading.get_ident(), per_s=per_s)
