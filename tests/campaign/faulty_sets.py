"""Datasets with one fault each. Sample ``i`` of every one of them is the number ``i``.

They need torch and nothing of this package, can be sent to other processes by the name of this
module, and carry their fault in a worker only: to ask for the sample ``at`` sets it off.
"""

import contextlib
import ctypes
import multiprocessing
import os
import re
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset, get_worker_info

LENGTH, AT = 64, 21
RECORD_BYTES = 512
MUCH_BYTES = 2**32
FORK: Any = multiprocessing.get_context("fork")  # its locks have no name that could be left behind

LIBRARY_LOCK = threading.Lock()
"""Stands for a lock that some library keeps in its module."""


class Numbers(Dataset[Any]):
    """No fault: what the others are measured by."""

    def __init__(self, length: int = LENGTH, at: int = AT) -> None:
        self.length, self.at = length, at

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return index


class FaultAt(Numbers):
    """Does what its subclass says when sample ``at`` is asked for: each time, or only once.

    Args:
        length: Samples.
        at: The sample with the fault.
        once: A file that does not exist yet; whoever can make it has the fault.
    """

    def __init__(self, length: int = LENGTH, at: int = AT, once: str | None = None) -> None:
        super().__init__(length, at)
        self.once = once

    def __getitem__(self, index: int) -> Any:
        if index == self.at and get_worker_info() is not None and self._is_first():
            self.fault()
        return index

    def fault(self) -> None:
        raise NotImplementedError

    def _is_first(self) -> bool:
        try:
            if self.once is not None:
                os.close(os.open(self.once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


class Killed(FaultAt):
    def fault(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Segfaults(FaultAt):
    def fault(self) -> None:
        ctypes.memset(0, 0, 1)


class Exits(FaultAt):
    def fault(self) -> None:
        os._exit(3)


class Raises(FaultAt):
    def fault(self) -> None:
        raise ValueError("this record is no number")


class SleepsForEver(FaultAt):
    def fault(self) -> None:
        time.sleep(10**6)


class Stopped(FaultAt):
    def fault(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)


class EndlessRegex(FaultAt):
    """Keeps the interpreter lock all the while: no signal handler of Python runs."""

    def fault(self) -> None:
        re.match(r"(a+)+$", "a" * 40 + "b")


class TakesTooMuchMemory(FaultAt):
    """Asks for more than the worker's limit of addresses allows."""

    def fault(self) -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MUCH_BYTES // 4, resource.RLIM_INFINITY))
        bytearray(MUCH_BYTES)


class OtherShape(Numbers):
    """Sample ``at`` is a list of two numbers."""

    def __getitem__(self, index: int) -> Any:
        return [index, index] if index == self.at else index


class Pictures(Numbers):
    """A folder of pictures; each has the colour that its number is, and one file is cut short."""

    def __init__(self, folder: str, length: int = LENGTH, at: int = AT) -> None:
        super().__init__(length, at)
        self.folder = folder
        for number in range(length):
            Image.new("RGB", (64, 64), (number, 0, 0)).save(self.sample_path(number))
        broken = Path(self.sample_path(at))
        broken.write_bytes(broken.read_bytes()[:-100])

    def sample_path(self, index: int) -> str:
        return f"{self.folder}/{index}.bmp"

    def __getitem__(self, index: int) -> Any:
        with Image.open(self.sample_path(index)) as image:
            return image.convert("RGB").getpixel((0, 0))[0]


class BigSamples(Numbers):
    """Sample ``i`` is 1 MB of the number ``i``, more than a small /dev/shm holds."""

    def __getitem__(self, index: int) -> Any:
        return torch.full((2**18,), index, dtype=torch.int32)


class HoldsALambda(Numbers):
    """Cannot be sent to a fresh interpreter by pickle."""

    def __init__(self, length: int = LENGTH, at: int = AT) -> None:
        super().__init__(length, at)
        self.transform: Any = lambda value: value

    def __getitem__(self, index: int) -> Any:
        return self.transform(index)


class HoldsALock(Numbers):
    """Cannot be sent to a fresh interpreter by anything."""

    def __init__(self, length: int = LENGTH, at: int = AT) -> None:
        super().__init__(length, at)
        self.guard = threading.Lock()

    def __getitem__(self, index: int) -> Any:
        with self.guard:
            return index


class OneFileForAll(Numbers):
    """Opens its file in the training process: forked workers then share one place in it."""

    def __init__(self, path: str, length: int = LENGTH, at: int = AT) -> None:
        super().__init__(length, at)
        self.path = path
        write_records(path, length)
        self.file = open(path, "rb")  # noqa: SIM115  # the fault

    def __getitem__(self, index: int) -> Any:
        self.file.seek(index * RECORD_BYTES)
        return int(self.file.read(RECORD_BYTES) or -1)


class OwnFiles(Numbers):
    """The rewrite of all that share: what a sample needs is opened by the worker that reads it."""

    def __init__(self, path: str, length: int = LENGTH, at: int = AT) -> None:
        super().__init__(length, at)
        self.path = path
        self.file: Any = None
        write_records(path, length)

    def __getitem__(self, index: int) -> Any:
        if self.file is None:
            self.file = open(self.path, "rb")  # noqa: SIM115  # for all samples
        self.file.seek(index * RECORD_BYTES)
        return int(self.file.read(RECORD_BYTES))


def write_records(path: str, length: int) -> None:
    Path(path).write_text("".join(f"{number:{RECORD_BYTES}}" for number in range(length)))


class Shifted(Numbers):
    """Sample ``i`` is ``i + shift``, and the training process changes ``shift`` between epochs."""

    shift = 0

    def __getitem__(self, index: int) -> Any:
        return index + self.shift


class UsesTheLibrary(Numbers):
    """Takes the lock of another module, as a dataset that calls any library may."""

    def __getitem__(self, index: int) -> Any:
        with LIBRARY_LOCK:
            return index


class OwnLock(Numbers):
    """Has a lock of its own, which a copy of it in a fresh interpreter gets anew."""

    def __init__(self, length: int = LENGTH, at: int = AT) -> None:
        super().__init__(length, at)
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=threading.Lock())

    def __getitem__(self, index: int) -> Any:
        with self.lock:
            return index


@contextlib.contextmanager
def held_by_another_thread(lock: Any) -> Iterator[None]:
    """A thread of this process takes the lock, and lets go of it at the end of the block."""
    taken, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            let_go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    try:
        yield
    finally:
        let_go.set()
        thread.join()


class CrossedLocks(Numbers):
    """From sample ``at`` on, worker 0 takes lock A, then B; worker 1 takes B, then A."""

    def __init__(self, length: int = LENGTH, at: int = AT) -> None:
        super().__init__(length, at)
        self.locks = FORK.Lock(), FORK.Lock()
        self.is_taken = FORK.Event(), FORK.Event()

    def __getitem__(self, index: int) -> Any:
        worker = get_worker_info()
        if index < self.at or worker is None:
            return index
        mine, other = worker.id % 2, 1 - worker.id % 2
        with self.locks[mine]:
            self.is_taken[mine].set()
            self.is_taken[other].wait()  # the one unlucky moment in a thousand, each time
            with self.locks[other]:
                return index


class FullQueue(Numbers):
    """Reports samples on a queue for three that nobody reads."""

    def __init__(self, length: int = LENGTH, at: int = AT) -> None:
        super().__init__(length, at)
        self.reports = FORK.Queue(maxsize=3)

    def __getitem__(self, index: int) -> Any:
        if index >= self.at:
            self.reports.put(index)
        return index
