"""Datasets and loaders of a user's, for watching; workers of all start methods can import them."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    get_worker_info,
)

from lightning_fastdata.trace.stages import stage

SLOW_S = 0.03


class Drawn(Dataset[Any]):
    """Samples that depend on all three generators of the process that makes them."""

    def __len__(self) -> int:
        return 22

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return torch.rand(3), index, float(np.random.rand()), random.random()


class DrawnWhole(Drawn):
    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        shared = torch.rand(1)
        return [(shared, self[index]) for index in indices]


class Shards(IterableDataset[Any]):
    """Each worker gives its own part; the first one ends sooner."""

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for number in range(first, 19, step):
            if first == 0 and number > 12:
                return
            yield number, torch.rand(2)


class Told(Dataset[int]):
    """Says what ``worker_init_fn`` has put into it."""

    offset = 0

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> int:
        return index + self.offset


class Slow(Dataset[int]):
    """Sample 13 takes much longer than the others."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> int:
        if index == 13:
            time.sleep(SLOW_S)
        return index


class SlowStream(IterableDataset[int]):
    """The seventh sample takes much longer than the others."""

    def __iter__(self) -> Iterator[int]:
        yield from (Slow()[index + 7] for index in range(10))


class Staged(Dataset[int]):
    """Names what it does."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        with stage("wait"):
            time.sleep(SLOW_S)
        return index


class Faulty(Dataset[int]):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index == 5:
            raise self.error
        return index


class OwnLoader(DataLoader[Any]):
    """A user's subclass, with an argument of its own and another batch than its parent's."""

    def __init__(self, dataset: Any, *, name: str = "mine", **others: Any) -> None:
        super().__init__(dataset, **others)
        self.name = name

    def __iter__(self) -> Any:
        return ((self.name, batch) for batch in super().__iter__())


class Batch:
    """A batch of a user's own class."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples
        self.is_pinned = False

    def pin_memory(self) -> "Batch":
        self.is_pinned = True
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Batch) and repr(self.samples) == repr(other.samples)

    __hash__ = None  # type: ignore[assignment]


def by_name(samples: Sequence[Any]) -> dict[str, Any]:
    return {"values": torch.stack([sample[0] for sample in samples]), "noise": torch.rand(1)}


def slowly(samples: Sequence[Any]) -> list[Any]:
    time.sleep(SLOW_S)
    return list(samples)


def tell(worker_id: int) -> None:
    """What users do in ``worker_init_fn``."""
    info: Any = get_worker_info()
    assert type(info.dataset) is Told
    info.dataset.offset = 100 * (worker_id + 1)


LOADERS: dict[str, Callable[[], DataLoader[Any]]] = {
    "inline": lambda: DataLoader(Drawn(), 4, shuffle=True),
    "inline, one by one": lambda: DataLoader(Drawn(), None),
    "workers": lambda: DataLoader(Drawn(), 4, shuffle=True, num_workers=2, drop_last=True),
    "own generator": lambda: DataLoader(
        Drawn(), 4, shuffle=True, num_workers=1, generator=torch.Generator().manual_seed(3)
    ),
    "batch sampler": lambda: DataLoader(
        Drawn(), batch_sampler=BatchSampler(RandomSampler(Drawn()), 5, True), num_workers=2
    ),
    "sampler of lists": lambda: DataLoader(
        torch.arange(30.0).reshape(10, 3),  # type: ignore[arg-type]
        None,
        sampler=BatchSampler(SequentialSampler(range(10)), 3, False),
    ),
    "whole batches": lambda: DataLoader(DrawnWhole(), 4, num_workers=1),
    "subset": lambda: DataLoader(Subset(Subset(Drawn(), [7, 3, 5, 1, 2]), [4, 0, 2]), 2),
    "subset, whole": lambda: DataLoader(Subset(DrawnWhole(), [7, 3, 5]), 2),
    "stream": lambda: DataLoader(Shards(), 4),
    "stream, workers": lambda: DataLoader(Shards(), 4, num_workers=2, drop_last=True),
    "stream, one by one": lambda: DataLoader(Shards(), None, num_workers=2),
    "collate_fn": lambda: DataLoader(Drawn(), 4, collate_fn=by_name, num_workers=2),
    "own batch": lambda: DataLoader(Drawn(), 4, collate_fn=Batch, num_workers=1),
    "own loader": lambda: OwnLoader(Drawn(), name="his", batch_size=4, num_workers=1),
    "worker_init_fn": lambda: DataLoader(Told(), 2, num_workers=2, worker_init_fn=tell),
    "persistent": lambda: DataLoader(
        Drawn(), 4, shuffle=True, num_workers=2, persistent_workers=True, timeout=60
    ),
}
