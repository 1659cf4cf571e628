"""Datasets that do harm at one sample, some number of times, and what came of a pass over them."""

import ctypes
import mmap
import multiprocessing.resource_tracker
import os
import random
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]  # it ships no types
from sample_sets import Numbers, drawn, loader_of, plain
from torch.utils.data import Dataset, IterableDataset, get_worker_info

ALWAYS = 1_000_000
WITHIN_S = 20.0  # guess: whatever is waited for takes milliseconds


class SharedCount:
    """A number that forked processes share; it cannot be sent to a fresh interpreter."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, 8)).cast("q")

    def add(self) -> int:
        """Count one more, and say how many these are."""
        self._words[0] += 1
        return self._words[0]

    def __index__(self) -> int:
        return self._words[0]

    def __reduce__(self) -> Any:
        raise TypeError("a SharedCount is shared by forks alone")


class Harmful(Numbers):
    """Does ``harm`` at sample ``at`` in the first ``times`` tries over all forked processes."""

    def __init__(
        self, harm: Callable[[], object], *, at: int = 5, times: int = 1, length: int = 400
    ) -> None:
        super().__init__(length)
        self.harm, self.at, self.times = harm, at, times
        self.tries = SharedCount()

    def __getitem__(self, index: int) -> Any:
        if index == self.at:
            if self.tries.add() <= self.times:
                self.harm()
        return index

    def sample_path(self, index: int) -> str:
        return f"/data/{index}.jpg"


class HarmfulDraws(Harmful):
    """The same, and each sample has a random number, so that a repeated draw would show."""

    def __getitem__(self, index: int) -> tuple[int, float]:
        return super().__getitem__(index), drawn("all")


class HarmfulWhole(Harmful):
    """The same for whole batches at one go."""

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        return [self[index] for index in indices]


class HarmfulStream(IterableDataset[Any]):
    """Numbers shared among the workers, with random ones; does ``harm`` at the number ``at``."""

    def __init__(
        self, harm: Callable[[], object], *, at: int = 5, times: int = 1, length: int = 41
    ) -> None:
        self.harm, self.at, self.times, self.length = harm, at, times, length
        self.tries, self.made = SharedCount(), SharedCount()

    def __iter__(self) -> Iterator[tuple[int, float]]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for number in range(first, self.length, step):
            if number == self.at:
                if self.tries.add() <= self.times:
                    self.harm()
            self.made.add()
            yield number, drawn("all")


class Good(Dataset[tuple[int, float]]):
    """Numbers with random ones, which a fresh interpreter can have; fails at those in ``bad``."""

    def __init__(self, length: int = 60, bad: Sequence[int] = ()) -> None:
        self.length, self.bad = length, set(bad)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[int, float]:
        if index in self.bad:
            raise OSError(f"picture {index} is broken")
        return index, drawn("all")

    def sample_path(self, index: int) -> str:
        return f"/data/{index}.jpg"


def sleep() -> None:
    time.sleep(1000)


def wait_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def search_for_ever() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(7)


def nothing() -> None:
    pass


def tell_and_sleep(say: int) -> Callable[[], None]:
    """Write the process's id to a pipe, then never end."""

    def harm() -> None:
        os.write(say, os.getpid().to_bytes(8, "little"))
        sleep()

    return harm


def told_pid(said: int) -> int:
    return int.from_bytes(os.read(said, 8), "little")


class Pass(NamedTuple):
    """What came of going over a loader once."""

    batches: list[Any]
    warned: list[str]
    error: Exception | None
    bad: dict[Any, str]

    @property
    def words(self) -> str:
        """The error's, with its notes and the text of its cause."""
        assert self.error is not None
        notes = getattr(self.error, "__notes__", [])
        return "\n".join([str(self.error), *notes, str(self.error.__cause__)])

    @property
    def numbers(self) -> list[int]:
        """All samples that came."""
        return numbers_in(self.batches)


def numbers_in(batches: Sequence[Any]) -> list[int]:
    """The samples' numbers in batches as plain values, whatever else the samples hold."""
    numbers: list[int] = []
    for batch in batches:
        values = batch[0] if isinstance(batch, list) and len(batch) == 2 else batch
        values = values[-1] if isinstance(values, tuple) else values
        numbers += values if isinstance(values, list) else [values]
    return numbers


def go_over(
    dataset: Any,
    batch_size: int | None = 4,
    *,
    during: Callable[[int], object] | None = None,
    passes: int = 1,
    **how: Any,
) -> Pass:
    """Go over a dataset with a loader of its own.

    Args:
        dataset: Map-style or a stream.
        batch_size: Samples a batch.
        during: Called with the number of each batch once that has come.
        passes: How often to go over it; all batches are given together.
        how: The loader's arguments.
    """
    batches: list[Any] = []
    failed = None
    if how.setdefault("num_workers", 0):
        how.setdefault("engine", "ring")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more than cores
        loader = loader_of(dataset, batch_size, **how)
        try:
            for _ in range(passes):
                for number, batch in enumerate(loader):
                    batches.append(plain(batch))
                    del batch
                    if during is not None:
                        during(number)
        except Exception as error:
            failed = error
        finally:
            loader.close()
    warned = [f"{type(each.message).__name__}: {each.message}" for each in heard]
    bad = {one.index: one.error for one in loader.bad_samples()}
    return Pass(batches, warned, failed, bad)


def nursery() -> psutil.Process:
    """The nursery of the one open ring of this process."""
    tracker = getattr(multiprocessing.resource_tracker._resource_tracker, "_pid")  # noqa: B009
    (found,) = [child for child in psutil.Process().children() if child.pid != tracker]
    return found


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline_s, "it never happened"
        time.sleep(0.002)


def workers_at_rest() -> list[psutil.Process]:
    """The workers, once all of them sleep."""
    workers: list[psutil.Process] = nursery().children()
    wait_until(lambda: all(one.status() == psutil.STATUS_SLEEPING for one in workers))
    return workers


class KillsAWorker:
    """Kills a random worker after each batch but the last ones.

    Args:
        most: How many to kill.
    """

    def __init__(self, most: int) -> None:
        self._left, self._random = most, random.Random(5)

    def __call__(self, number: int) -> None:
        workers = nursery().children() if self._left else []
        if workers:
            self._left -= 1
            self._random.choice(workers).kill()


def kill_nursery_after(*numbers: int) -> Callable[[int], None]:
    """Give a function that kills the nursery after these batches."""

    def during(number: int) -> None:
        if number in numbers:
            end(nursery())

    return during


def end(process: psutil.Process) -> None:
    """Kill a process, and see that it is dead."""
    process.kill()
    wait_until(lambda: not is_alive(process))


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def a_file_below_a_file(folder: Path) -> Path:
    """A path that nobody can write to, not even root."""
    (folder / "file").write_text("in the way")
    return folder / "file" / "bad.jsonl"
