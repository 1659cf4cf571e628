"""How much faster than torch's loader does the ring feed a loop, with the same workers?

Both get the same dataset, whose ``__getitem__`` gives one sample at a time, the same order and the
same number of workers, which are running already. ``drawing`` datasets draw one number from each of
the three generators for each sample; the ring seeds them for each sample, torch does not.

Run ``python tests/benchmarks/bench_feed.py``; it prints one JSON line a variant and a claim.
"""

import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Variant, arguments, report, take_turns
from torch.utils.data import DataLoader, Dataset

from lightning_fastdata.loader.fast_data_loader import FastDataLoader

WORKERS = 2
SAMPLES = 512


class Rows(Dataset[Any]):
    """Rows of one shared tensor, and their number."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.rows = torch.randint(0, 255, (SAMPLES, 3, 224, 224), dtype=torch.uint8).to(dtype)
        self.rows.share_memory_()  # type: ignore[no-untyped-call]  # torch left it untyped

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Any:
        return self.rows[index], index


class Tokens(Dataset[Any]):
    """2,048 int64 out of a memory-mapped array."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokens.npy"
        np.save(path, np.random.randint(0, 50_000, (8 * SAMPLES, 2048)))
        self.tokens = np.load(path, mmap_mode="r+")

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(self.tokens[index])


class Records(Dataset[Any]):
    """Six tensors and two strings in a nested dict, 20 KB together."""

    def __init__(self) -> None:
        self.values = torch.rand(4 * SAMPLES, 5120)

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


def take(loader: Any) -> int:
    """Do nothing with a batch: the feed alone."""
    for _ in loader:
        pass
    return len(loader.dataset)


def add_up(loader: Any) -> int:
    """Read every number of a batch once, as a consumer would."""
    for batch in loader:
        for tensor in tensors_of(batch):
            tensor.view(torch.uint8).sum() if tensor.dtype is torch.uint8 else tensor.sum()
    return len(loader.dataset)


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


def check_equal(ring: Any, stock: Any, *, draws: bool) -> None:
    """Refuse to time a wrong answer; what was drawn differs by design."""
    for one, other in zip(ring, stock, strict=True):
        if draws:
            one, other = one[0], other[0]
        assert same(one, other), "never time a wrong answer"


def loaders_of(dataset: Any, batch_size: int) -> tuple[Any, Any]:
    """The ring and torch's loader, alike but for who makes the batches."""
    how: Any = {"batch_size": batch_size, "num_workers": WORKERS, "persistent_workers": True}
    how["multiprocessing_context"] = "fork"
    return FastDataLoader(dataset, engine="ring", **how), DataLoader(dataset, **how)


def compare(name: str, dataset: Any, batch_size: int, wanted: float, options: Any) -> None:
    """Time one dataset with both loaders, fed alone and added up."""
    ring, stock = loaders_of(dataset, batch_size)
    check_equal(ring, stock, draws=isinstance(dataset, Drawing))
    variants: dict[str, Variant] = {}
    for use, consume in (("", take), (", added up", add_up)):
        variants[f"ring{use}"] = partial(consume, ring)
        variants[f"torch{use}"] = partial(consume, stock)
    rates = take_turns(variants, options.rounds)
    claims = {f"{name}: ring against torch": ("ring", "torch", wanted)}
    claims[f"{name}, added up"] = ("ring, added up", "torch, added up", 1.0)
    report("feed", rates, claims, options.json, work=name, batch_size=batch_size, workers=WORKERS)
    ring.close()


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", default="", help="part of the names of what is to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        makers: dict[str, tuple[Callable[[], Any], float, float]] = {
            "uint8 rows": (lambda: Rows(torch.uint8), 4.0, 3.0),
            "float32 rows": (lambda: Rows(torch.float32), 3.5, 3.0),
            "tokens": (lambda: Tokens(Path(folder)), 3.5, 1.6),
            "nested dict": (Records, 2.3, 1.8),
        }
        for name, (make, wanted, wanted_drawing) in makers.items():
            dataset = make()
            if options.only in name:
                compare(name, dataset, 64, wanted, options)
            if options.only in f"{name}, drawing":
                compare(f"{name}, drawing", Drawing(dataset), 64, wanted_drawing, options)


if __name__ == "__main__":
    main()
