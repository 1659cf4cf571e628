"""Datasets of ``bench_feed``, and what is done with their batches."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

ROWS = 512


class Rows(Dataset[Any]):
    """Rows of one shared tensor, each given several times, and their number."""

    def __init__(self, dtype: torch.dtype, times: int) -> None:
        rows = torch.randint(0, 255, (ROWS, 3, 224, 224), dtype=torch.uint8)
        self.rows = rows.to(dtype).share_memory_()  # type: ignore[no-untyped-call]
        self.length = ROWS * times

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return self.rows[index % ROWS], index


class Tokens(Dataset[Any]):
    """2,048 int64 out of a memory-mapped array."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokens.npy"
        np.save(path, np.random.randint(0, 50_000, (16 * ROWS, 2048)))
        self.tokens = np.load(path, mmap_mode="r+")

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(self.tokens[index])


class Records(Dataset[Any]):
    """Six tensors and two strings in a nested dict, 20 KB together."""

    def __init__(self) -> None:
        self.values = torch.rand(8 * ROWS, 5120)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Any:
        values = self.values[index]
        return {
            "id": f"record-{index}",
            "image": {"left": values[:2048].view(32, 64), "right": values[2048:4096].view(32, 64)},
            "track": {"times": values[4096:4608], "path": values[4608:5118].view(-1, 2)},
            "label": values[5118],
            "weight": values[5119:],
            "source": "left" if index % 2 else "right",
        }


class Drawing(Dataset[Any]):
    """Another dataset's samples, each with a number drawn from all three generators."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        drawn = float(torch.rand(())) + float(np.random.rand()) + random.random()
        return self.dataset[index], drawn


def tensors_of(batch: Any) -> Iterator[torch.Tensor]:
    """All tensors of a nested batch."""
    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, dict):
        for value in batch.values():
            yield from tensors_of(value)
    elif isinstance(batch, (list, tuple)):
        for value in batch:
            yield from tensors_of(value)


def add_up(batch: Any) -> None:
    """Read every byte of a batch once, as a consumer would."""
    for tensor in tensors_of(batch):
        # Eight bytes at a time: torch's sum of uint8 is bound by its conversion, not by memory.
        (tensor.view(torch.int64) if tensor.dtype is torch.uint8 else tensor).sum()


def same(one: Any, other: Any) -> bool:
    """Whether two batches are equal in values, dtypes and structure."""
    if isinstance(one, torch.Tensor):
        return one.dtype is other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        pairs = zip(one, other, strict=True)
        return type(one) is type(other) and all(same(a, b) for a, b in pairs)
    return bool(one == other)
