"""Datasets whose samples are told apart, that draw, and that count what is asked of them."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from lightning_fastdata.loader.fast_data_loader import FastDataLoader

MORE_WORKERS_THAN_CORES = pytest.mark.filterwarnings("ignore:This DataLoader will create")
"""For tests with 5 workers, whatever the machine."""


class Numbers(Dataset[int]):
    """Sample ``i`` is the number ``i``; keeps what it was asked for, where that is this process."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.asked: list[Any] = []
        self.epochs: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        self.asked.append(index)
        return index


def drawn(source: str) -> float:
    """One number of one of the process's three generators, or of each."""
    if source == "torch":
        return float(torch.rand((), dtype=torch.float64))
    if source == "numpy":
        return float(np.random.rand())
    if source == "random":
        return random.random()
    return drawn("torch") + 2 * drawn("numpy") + 4 * drawn("random")


class Drawing(Dataset[Any]):
    """Sample ``i`` is ``(i, a random number)``, the latter only for indices from ``since`` on."""

    def __init__(self, source: str, *, length: int = 23, since: int = 0) -> None:
        self.source, self.length, self.since = source, length, since

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, drawn(self.source) if index >= self.since else -1.0


class DrawingWhole(Drawing):
    """The same, at one go for a whole batch."""

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[int, float]]:
        assert all(type(index) is int for index in indices)
        return [self[index] for index in indices]


class OfEpoch(Dataset[tuple[int, int]]):
    """Tells each sample's epoch."""

    def __init__(self) -> None:
        self.epoch = -1

    def __len__(self) -> int:
        return 6

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index, self.epoch


class Stream(IterableDataset[Any]):
    """Shares its numbers among workers; gives (number, worker, epoch told by ``set_epoch``)."""

    def __init__(self, length: int = 11, *, draws: bool = False) -> None:
        self.length, self.draws, self.epoch = length, draws, -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        number, of = (0, 1) if info is None else (info.id, info.num_workers)
        for value in range(number, self.length, of):
            yield value, number, self.epoch, drawn("torch") if self.draws else 0.0


def loader_of(dataset: Any, batch_size: int | None = 4, **how: Any) -> FastDataLoader:
    """A loader without workers unless they are asked for; forked, since that is quick."""
    how.setdefault("num_workers", 0)
    if how["num_workers"]:
        how.setdefault("multiprocessing_context", "fork")
    if "batch_sampler" not in how:
        how["batch_size"] = batch_size
    return FastDataLoader(dataset, **how)


def plain(batch: Any) -> Any:
    """A batch as plain values, exactly: floats by their bits."""
    if isinstance(batch, torch.Tensor):
        return str(batch.dtype), tuple(batch.shape), batch.tolist()
    if isinstance(batch, (list, tuple)):
        return [plain(part) for part in batch]
    return batch


def one_pass(dataset: Any, **how: Any) -> list[Any]:
    """All batches of one pass of a loader of its own, as plain values."""
    loader = loader_of(dataset, **how)
    try:
        return [plain(batch) for batch in loader]
    finally:
        loader.close()
