"""Datasets with one thing wrong each, and how they are looked at in tests."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

from lightning_fastdata.checkup import Check, DoctorReport, doctor


class Plain(Dataset[Any]):
    """Sound: draws from all three seeded generators, and names its files."""

    def __init__(self, length: int = 40) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def sample_path(self, index: int) -> str:
        return f"/data/{index}.bin"

    def __getitem__(self, index: int) -> Any:
        return index, torch.rand(3) + np.random.rand() + random.random()


class Raising(Plain):
    """Samples 3 and 17 cannot be made."""

    def __getitem__(self, index: int) -> Any:
        if index in (3, 17):
            raise OSError(f"file {index} is broken\nand this is the second line")
        return super().__getitem__(index)


class Ragged(Plain):
    """Sample 5 is longer than the others, sample 6 has another dtype."""

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(4 if index == 5 else 3, dtype=torch.int16 if index == 6 else torch.int8)


class WithNone(Plain):
    """Sample 9 is None."""

    def __getitem__(self, index: int) -> Any:
        return None if index == 9 else index


class OwnGenerator(Plain):
    """Draws from a generator that nobody seeds."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng(0)

    def __getitem__(self, index: int) -> Any:
        return self.generator.random()


class Counting(Plain):
    """Each sample is how many were made before it."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    def __getitem__(self, index: int) -> Any:
        self.made += 1
        return self.made


class OfNeighbour(Plain):
    """Each sample is that which was asked for before: the same when asked twice."""

    def __init__(self) -> None:
        super().__init__()
        self.before = self.now = -1

    def __getitem__(self, index: int) -> Any:
        if index != self.now:
            self.before, self.now = self.now, index
        return self.before


class Letters(IterableDataset[str]):
    """A stream without end; with ``fails_at``, one that breaks there."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at

    def __iter__(self) -> Iterator[str]:
        number = 0
        while number != self.fails_at:
            yield "letter"
            number += 1
        raise ValueError(f"nothing at {number}")


def looked_at(source: Any, **how: Any) -> DoctorReport:
    """Look in this process, where no worker has to be started for it."""
    return doctor(source, **{"num_workers": 0, "progress": False, **how})


def check_of(report: DoctorReport, name: str) -> Check:
    """The first check of that name."""
    return next(check for check in report.checks if check.name == name)
