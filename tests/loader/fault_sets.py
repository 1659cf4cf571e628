"""Datasets that do harm at one sample, some number of times, and the harm that they do."""

import ctypes
import mmap
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sample_sets import Numbers, drawn
from torch.utils.data import Dataset, IterableDataset, get_worker_info

ALWAYS = 1_000_000


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
        if index == self.at and self.tries.add() <= self.times:
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
            if number == self.at and self.tries.add() <= self.times:
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
