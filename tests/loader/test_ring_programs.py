"""However a program with an open ring ends, none of its processes is left within 5 s."""

import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch
from ring_tools import GONE_WITHIN_S, Stuck, left_of
from sample_sets import Numbers, loader_of
from torch.utils.data import DataLoader


class Program:
    """A training program in a process group of its own, and what it says on a pipe and stderr."""

    def __init__(self, run: Callable[[int], None]) -> None:
        self._said, said = os.pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by end()
        pid = os.fork()
        if not pid:
            self._be(run, said)
        os.close(said)
        self.process = psutil.Process(pid)

    def _be(self, run: Callable[[int], None], said: int) -> None:
        status = 1
        try:
            os.setpgid(0, 0)
            os.dup2(self._errors.fileno(), 2)
            sys.stderr = os.fdopen(2, "w")
            signal.signal(signal.SIGINT, signal.default_int_handler)
            torch.set_num_threads(1)
            run(said)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def wait_for_word(self) -> None:
        assert os.read(self._said, 1), self.errors()

    def family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode()

    def end(self) -> None:
        for process in self.family() if self.process.is_running() else []:
            process.kill()
        psutil.wait_procs([self.process], timeout=GONE_WITHIN_S)
        os.close(self._said)
        self._errors.close()


@contextmanager
def running(run: Callable[[int], None]) -> Iterator[Program]:
    program = Program(run)
    try:
        program.wait_for_word()
        yield program
    finally:
        program.end()


def fast_batches(said: int) -> None:
    while True:
        for number, _ in enumerate(loader_of(Numbers(4000), num_workers=2)):
            if number == 3:
                os.write(said, b"x")


def stuck_batches(said: int) -> None:
    list(loader_of(Stuck(said), num_workers=2))


def freshly_started_stuck_batches(said: int) -> None:
    list(loader_of(InheritsPipe(said), num_workers=2, multiprocessing_context="spawn"))


class InheritsPipe(Stuck):
    """Reaches the pipe by its path, from an interpreter that did not inherit it."""

    def __init__(self, reached: int) -> None:
        super().__init__(reached)
        self.path = f"/proc/{os.getpid()}/fd/{reached}"

    def __getitem__(self, index: int) -> int:
        self.reached = os.open(self.path, os.O_WRONLY)
        return super().__getitem__(index)


PROGRAMS = [
    fast_batches,
    stuck_batches,
    pytest.param(freshly_started_stuck_batches, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("run", PROGRAMS)
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_that_is_killed_leaves_no_process(
    by: signal.Signals, run: Callable[[int], None]
) -> None:
    with running(run) as program:
        family = program.family()

        program.process.send_signal(by)

        assert len(family) == 4
        assert left_of(family) == []
        assert program.errors() == ""


@pytest.mark.parametrize("run", PROGRAMS)
def test_ctrl_c_ends_the_whole_program_with_one_traceback(run: Callable[[int], None]) -> None:
    with running(run) as program:
        family = program.family()

        os.killpg(program.process.pid, signal.SIGINT)

        assert left_of(family) == []
        assert program.errors().count("Traceback") == 1
        assert program.errors().endswith("KeyboardInterrupt\n")


def test_strangers_forked_beside_an_open_ring_do_not_keep_it_alive() -> None:
    def run(said: int) -> None:
        batches = iter(loader_of(Stuck(os.open(os.devnull, os.O_WRONLY)), num_workers=2))
        next(batches)
        others = iter(DataLoader(Numbers(400), num_workers=1, multiprocessing_context="fork"))
        next(others)
        if os.fork():
            os.write(said, b"x")
        signal.pause()

    with running(run) as program:
        nursery = next(child for child in program.process.children() if child.children())
        ring = [program.process, nursery, *nursery.children()]
        strangers = [process for process in program.family() if process not in ring]

        program.process.kill()

        try:
            assert len(strangers) == 2
            assert left_of(ring) == []
        finally:
            for stranger in strangers:
                stranger.kill()


SCRIPT = """
import os, sys, psutil
from ring_tools import GONE_WITHIN_S, Stuck, left_of
from sample_sets import Numbers, loader_of
loader = loader_of(Numbers(400), num_workers=2)
batches = iter(loader)
batch = next(batches)
print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)
"""


@pytest.mark.parametrize(
    "end",
    [
        "pass",
        *(
            pytest.param(end, marks=pytest.mark.slow)
            for end in ("sys.exit(3)", "os._exit(3)", "del loader, batches")
        ),
    ],
)
def test_the_end_of_the_interpreter_is_quiet_and_leaves_no_process(end: str) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + end],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    numbers = [int(number) for number in done.stdout.split()]
    left = [psutil.Process(number) for number in numbers if psutil.pid_exists(number)]
    assert len(numbers) == 3
    assert left_of(left) == []
    assert (done.returncode, done.stderr) == (3 if "3" in end else 0, "")


def test_a_program_that_lets_the_system_forget_its_children_ends_quietly() -> None:
    def run(said: int) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        loader = loader_of(Numbers(400), num_workers=2)
        list(loader)
        loader.close()
        os.write(said, b"x")

    with running(run) as program:
        left = left_of(program.family())

        assert left == []
        assert program.errors() == ""
