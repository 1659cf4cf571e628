"""However a pass ends, nothing of its ring is left within 5 s: no process, memory, descriptor."""

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch
from fault_sets import Harmful, tell_and_sleep, told_pid
from ring_tools import Stuck, left_of
from sample_sets import Numbers, loader_of

from lightning_fastdata.errors import WorkerWarning
from lightning_fastdata.loader.ring import ring_engine


def holdings() -> set[str]:
    """This process's children, descriptors and shared memory."""
    found = {f"child {child.pid}" for child in psutil.Process().children(recursive=True)}
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number} -> {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:  # the listing's own
            continue
    maps = Path("/proc/self/maps").read_text().splitlines()
    return found | {line for line in maps if "memfd:" in line} | set(os.listdir("/dev/shm"))


def drop_half_way(loader: Any) -> None:
    next(iter(loader))


def divide_by_zero(_: Any) -> None:
    raise ZeroDivisionError


def interrupt(_: Any) -> None:
    raise KeyboardInterrupt


def fail_in_the_loop(loader: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        list(map(divide_by_zero, loader))


def interrupt_the_loop(loader: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(map(interrupt, loader))


def go_through(loader: Any) -> None:
    list(loader)


@pytest.mark.parametrize("use", [drop_half_way, fail_in_the_loop, interrupt_the_loop, go_through])
def test_dropping_the_loader_lets_go_of_everything(use: Callable[[Any], None]) -> None:
    before = holdings()

    loader = loader_of(Numbers(400), num_workers=2)
    use(loader)
    during = holdings()
    del loader

    assert len(during) > len(before)
    assert holdings() == before


def test_a_worker_that_never_ends_its_sample_is_ended() -> None:
    said, say = os.pipe()
    loader = loader_of(Stuck(say), num_workers=2)
    next(iter(loader))
    os.read(said, 1)
    ring = psutil.Process().children(recursive=True)

    loader.close()

    assert left_of(ring) == []
    os.close(said)
    os.close(say)


def nursery_and_workers() -> tuple[psutil.Process, list[psutil.Process]]:
    nursery = next(child for child in psutil.Process().children() if child.children())
    return nursery, nursery.children()


@pytest.mark.parametrize("when", ["in a pass", "between passes"])
def test_a_killed_nursery_takes_its_workers_along_and_is_replaced(when: str) -> None:
    loader = loader_of(Numbers(400), num_workers=2)
    batches = iter(loader)
    next(batches)
    if when == "between passes":
        list(batches)
    nursery, workers = nursery_and_workers()

    nursery.kill()

    assert left_of([nursery, *workers]) == []
    with pytest.warns(
        WorkerWarning, match=rf"^the process that runs the workers \({nursery.pid}\)"
    ):
        left = list(loader if when == "between passes" else batches)
    assert len(left) == (100 if when == "between passes" else 99)


def test_a_killed_nursery_takes_along_a_worker_that_never_ends_its_sample() -> None:
    said, say = os.pipe()
    loader = loader_of(Stuck(say), num_workers=2)
    batches = iter(loader)
    next(batches)
    os.read(said, 1)
    nursery, workers = nursery_and_workers()

    nursery.kill()

    assert left_of([nursery, *workers]) == []
    os.close(said)
    os.close(say)


def test_a_killed_worker_is_named_with_its_signal_and_its_work_is_made_by_another() -> None:
    said, say = os.pipe()
    loader = loader_of(Harmful(tell_and_sleep(say)), num_workers=2)
    batches = iter(loader)
    first = next(batches)
    stuck = told_pid(said)

    os.kill(stuck, signal.SIGKILL)

    wanted = rf"^worker \d \(process {stuck}\) was killed by SIGKILL while it made sample 5\."
    with pytest.warns(WorkerWarning, match=wanted):
        left = list(batches)
    assert torch.equal(torch.cat([first, *left]), torch.arange(400))
    os.close(said)
    os.close(say)


@contextmanager
def most_open_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_than_1024_open_files_do_not_matter() -> None:
    with most_open_files(4096):
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        try:
            loader = loader_of(Numbers(400), num_workers=2, timeout=60)

            batches = len(list(loader))
            loader.close()
        finally:
            for file in files:
                os.close(file)

    assert batches == 100


def test_more_batches_can_be_kept_than_files_can_be_open() -> None:
    with most_open_files(256):
        loader = loader_of(Numbers(2000), num_workers=2)

        kept = [number for batch in list(loader) for number in batch.tolist()]
        loader.close()

    assert kept == list(range(2000))


class InterruptAt:
    """Raises KeyboardInterrupt at the n-th line that runs in the ring engine."""

    def __init__(self, line: int) -> None:
        self._left = line

    def __call__(self, frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != ring_engine.__file__:
            return None
        self._left -= event == "line"
        if self._left == 0:
            sys.settrace(None)
            raise KeyboardInterrupt
        return self


@pytest.mark.timeout(10)  # where it fails it may wait for a batch that nobody was asked for
@pytest.mark.parametrize("line", range(1, 45))
def test_a_pass_after_ctrl_c_at_any_line_is_whole(line: int) -> None:
    """As in a notebook, where a cell is interrupted and run again."""
    loader = loader_of(Numbers(40), num_workers=1)
    batches = iter(loader)
    next(batches)

    tracer = sys.gettrace()
    try:
        sys.settrace(InterruptAt(line))
        with pytest.raises(KeyboardInterrupt):
            list(batches)
    finally:
        sys.settrace(tracer)

    assert [number for batch in loader for number in batch.tolist()] == list(range(40))
