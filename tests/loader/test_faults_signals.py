"""A scheduler's signal to the whole job leaves the decision to the training process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from fault_passes import wait_until
from ring_tools import left_of

pytestmark = pytest.mark.slow  # a campaign: each waits for hangs or signals

PROGRAM = """
import os, signal, sys, warnings
from torch.utils.data import Dataset
from lightning_fastdata import FastDataLoader

warnings.simplefilter("error")


class Numbers(Dataset):
    def __len__(self):
        return 100_000

    def __getitem__(self, index):
        return index


stop_at = None


def at_signal(number, frame):
    global stop_at
    stop_at = came + 50


if sys.argv[1] == "handles":
    signal.signal(signal.SIGTERM, at_signal)
loader = FastDataLoader(
    Numbers(), 2, num_workers=2, engine="ring", multiprocessing_context=sys.argv[2]
)
came, wanted = 0, 0
for batch in loader:
    assert batch.tolist() == [wanted, wanted + 1]
    came, wanted = came + 1, wanted + 2
    if came == 5:
        print("running", flush=True)
    if came == stop_at:
        break
loader.close()
print("left after 50 more", flush=True)
"""


@contextmanager
def running(folder: Path, how: str, *before: str, context: str = "fork") -> Iterator["Job"]:
    program = folder / "train.py"
    program.write_text(PROGRAM)
    with subprocess.Popen(
        [*before, sys.executable, str(program), how, context],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=folder,
        start_new_session=True,
    ) as popen:
        job = Job(popen)
        try:
            yield job
        finally:
            for process in job.family:
                if process.is_running():
                    process.kill()


class Job:
    """A training program with its helpers, in a process group of its own."""

    def __init__(self, popen: "subprocess.Popen[str]") -> None:
        self.popen = popen
        assert popen.stdout is not None
        self.said = popen.stdout
        assert self.said.readline() == "running\n", popen.communicate()
        self.process = psutil.Process(popen.pid)
        self.family = [self.process, *self.process.children(recursive=True)]

    @property
    def helpers(self) -> list[psutil.Process]:
        return self.family[1:]

    def signal_all(self, number: int) -> None:
        os.killpg(self.popen.pid, number)


def has_caught_nothing(processes: list[psutil.Process]) -> bool:
    """Whether no signal waits for one of them any more."""
    return not any(
        int(line.split()[1], 16)
        for one in processes
        for line in Path(f"/proc/{one.pid}/status").read_text().splitlines()
        if line.startswith(("SigPnd", "ShdPnd"))
    )


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_sigterm_to_the_group_lets_the_training_process_finish_with_its_workers(
    context: str, tmp_path: Path
) -> None:
    with running(tmp_path, "handles", context=context) as job:
        job.signal_all(signal.SIGTERM)

        assert job.said.readline() == "left after 50 more\n"
        assert job.popen.wait(20) == 0
        assert len(job.helpers) >= 2
        assert left_of(job.helpers) == []


def test_sigterm_to_the_group_leaves_nothing_of_a_program_that_it_ends(tmp_path: Path) -> None:
    with running(tmp_path, "plain") as job:
        job.signal_all(signal.SIGTERM)

        assert job.popen.wait(20) == -signal.SIGTERM
        assert left_of(job.helpers) == []


def test_signals_to_the_helpers_alone_end_none_of_them(tmp_path: Path) -> None:
    with running(tmp_path, "plain") as job:
        for helper in job.helpers:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                helper.send_signal(number)
        wait_until(lambda: has_caught_nothing(job.helpers))

        assert all(one.is_running() for one in job.helpers)
        assert job.popen.poll() is None


def test_under_nohup_a_hangup_ends_nothing(tmp_path: Path) -> None:
    with running(tmp_path, "plain", "nohup") as job:
        job.signal_all(signal.SIGHUP)
        wait_until(lambda: has_caught_nothing(job.family))

        assert all(one.is_running() for one in job.family)
        assert job.popen.poll() is None
