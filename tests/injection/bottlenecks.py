"""Datasets, and parts of loaders, that take as long as they are told; workers can import them."""

import hashlib
import mmap
import os
import random
import resource
import time
from io import RawIOBase
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

PAGE = mmap.PAGESIZE
_BLOB = bytes(1 << 16)


def burn(cpu_s: float) -> None:
    """Compute for so much of this thread's own time, however many others want the core."""
    end_s = time.thread_time() + cpu_s
    # One line, so that there is one to blame.
    all(hashlib.sha256(_BLOB) and time.thread_time() < end_s for _ in count())


class Timed(Dataset[torch.Tensor]):
    """Samples that take a while: sleeping, or computing, and a few of them longer.

    Args:
        length: How many there are.
        sleep_s: How long each sleeps.
        cpu_s: How long each computes.
        slow: Which of them take how many times as long.
    """

    def __init__(
        self,
        length: int,
        *,
        sleep_s: float = 0.0,
        cpu_s: float = 0.0,
        slow: dict[int, float] | None = None,
    ) -> None:
        self.length, self.sleep_s, self.cpu_s, self.slow = length, sleep_s, cpu_s, slow or {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.cpu_s:
            burn(self.cpu_s)
        if self.sleep_s:
            time.sleep(self.sleep_s * self.slow.get(index, 1.0))
        return torch.zeros(4)


class ThrottledFile(RawIOBase):
    """A file whose bytes come at a limited rate, as over a slow network."""

    def __init__(self, path: str, bytes_per_s: float) -> None:
        self._file = open(path, "rb")  # noqa: SIM115  # closed by close()
        self._bytes_per_s = bytes_per_s

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        time.sleep(len(data) / self._bytes_per_s)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


class Throttled(Dataset[torch.Tensor]):
    """Samples of a file that is read through ``ThrottledFile``."""

    def __init__(self, length: int, path: Path, *, sample_bytes: int, bytes_per_s: float) -> None:
        path.write_bytes(bytes(sample_bytes))
        self.length, self.path = length, str(path)
        self.sample_bytes, self.bytes_per_s = sample_bytes, bytes_per_s

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        with ThrottledFile(self.path, self.bytes_per_s) as file:
            data = file.read(self.sample_bytes)
        return torch.zeros(4) + data[0]


class ColdAtFirst(Dataset[torch.Tensor]):
    """Samples that are read slowly the first time, by whichever process, and fast from then on."""

    def __init__(self, length: int, folder: Path, *, sample_bytes: int, cold_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data").write_bytes(bytes(sample_bytes))
        self.length, self.folder = length, str(folder)
        self.cold_bytes_per_s, self.sample_bytes = sample_bytes / cold_s, sample_bytes

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        touched = os.path.join(self.folder, f"touched{index}")
        bytes_per_s = 1e12 if os.path.exists(touched) else self.cold_bytes_per_s
        with ThrottledFile(os.path.join(self.folder, "data"), bytes_per_s) as file:
            data = file.read(self.sample_bytes)
        Path(touched).touch()
        return torch.zeros(4) + data[0]


class ColdMap(Dataset[torch.Tensor]):
    """Samples in a memory map of a file that is never in memory: it is dropped after each read.

    Args:
        length: How many there are.
        path: The file, written here.
        pages: Pages that each sample reads, far apart.
    """

    FILE_PAGES = 8192

    def __init__(self, length: int, path: Path, *, pages: int, seed: int = 0) -> None:
        if not path.exists():
            with path.open("wb") as file:
                file.write(os.urandom(PAGE) * self.FILE_PAGES)
                file.flush()
                os.fsync(file.fileno())
        self.length, self.path, self.pages, self.seed = length, str(path), pages, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        places = random.Random(self.seed + index).sample(range(self.FILE_PAGES), self.pages)
        with open(self.path, "rb") as file:
            # A page that is mapped cannot be dropped, so the map ends before that.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
                pages.madvise(mmap.MADV_RANDOM)
                total = sum(pages[place * PAGE] for place in places)
        return torch.zeros(4) + total


def drops_pages(folder: Path) -> bool:
    """Whether pages of files there can be dropped from memory, so that a map of them is cold."""
    samples = ColdMap(1, folder / "probe", pages=64)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    samples[0]
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before >= 32


class Large(Dataset[Any]):
    """Arrays that cost nothing to make."""

    def __init__(self, length: int, *, sample_bytes: int) -> None:
        self.length, self.sample_bytes = length, sample_bytes
        self._array: Any = None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if self._array is None:
            self._array = np.ones(self.sample_bytes // 4, dtype=np.float32)
        return self._array


def as_arrays(samples: list[Any]) -> list[Any]:
    """Collate without putting together: torch sends arrays through a pipe."""
    return samples


class BurningCollate:
    """A ``collate_fn`` that computes for a while."""

    def __init__(self, cpu_s: float) -> None:
        self.cpu_s = cpu_s

    def __call__(self, samples: list[Any]) -> Any:
        burn(self.cpu_s)
        return default_collate(samples)


class BurningTransform:
    """A ``batch_transform`` that computes for a while."""

    def __init__(self, cpu_s: float) -> None:
        self.cpu_s = cpu_s

    def __call__(self, batch: Any) -> Any:
        burn(self.cpu_s)
        return batch


def sleep_at_start(worker: int) -> None:
    """A ``worker_init_fn`` that opens something slow."""
    time.sleep(0.15)
