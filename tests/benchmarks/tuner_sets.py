"""Workloads of ``bench_tuner``: datasets whose samples cost what they cost on every machine.

Each is a map-style dataset that can be pickled and is too long for a cell to reach its end; what
varies from sample to sample follows the index, so that every loader makes the same batches.
"""

import hashlib
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, TensorDataset

from lightning_fastdata import ImageFolder

PICTURES = Path(__file__).resolve().parents[2].parent / "shared/data/imagenet-sample"
LENGTH = 2**22
SCATTER = 2654435761  # Knuth's multiplicative hash: 2 ** 32 by the golden ratio
TINY_ROWS, TINY_WIDTH = 4096, 32
HEAVY_PICTURES, HEAVY_SIZE = 32, (512, 384)
IO_SLEEP_S = 0.004
TAIL_BYTES, TAIL_TIMES, TAIL_PER_MILLE = 1_500_000, 20, 15
TOKENS, TOKEN_FILE_LENGTH = 2048, 2**22
RAGGED_LENGTHS, RAGGED_WIDTH = (16, 512), 32


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A dataset with its batches, and the steps that it has to keep up with."""

    name: str
    make: Callable[[Path], Dataset[Any]]
    """Given a folder that lasts as long as the benchmark."""
    batch_size: int
    steps_ms: tuple[float, float, float]
    """Where two cores make one batch in a worker's time: long enough for one worker or none,
    about where one is too few, and too short for any number."""
    collate_fn: Callable[[Any], Any] | None = None
    draws: bool = False
    """Whether samples draw random numbers, which torch's loader seeds in another way."""
    missing: str | None = None
    """Why it cannot run here; ``None``: it can."""


def workloads() -> tuple[Workload, ...]:
    """All eight."""
    lacking = None if PICTURES.is_dir() else f"no pictures in {PICTURES.name} beside the project"
    return (
        Workload(name="tensors", make=tensors, batch_size=256, steps_ms=(20.0, 3.0, 1.0)),
        Workload(name="tiny", make=tiny, batch_size=256, steps_ms=(40.0, 2.0, 0.5)),
        Workload(
            name="jpeg",
            make=jpeg,
            batch_size=32,
            steps_ms=(200.0, 55.0, 15.0),
            draws=True,
            missing=lacking,
        ),
        Workload(name="heavy jpeg", make=heavy_jpeg, batch_size=8, steps_ms=(300.0, 110.0, 30.0)),
        Workload(name="io", make=slow_storage, batch_size=16, steps_ms=(100.0, 25.0, 10.0)),
        Workload(name="heavy tail", make=heavy_tail, batch_size=32, steps_ms=(80.0, 28.0, 8.0)),
        Workload(name="tokens", make=token_windows, batch_size=64, steps_ms=(40.0, 3.0, 1.0)),
        Workload(
            name="ragged", make=ragged, batch_size=64, steps_ms=(40.0, 6.0, 2.0), collate_fn=pad
        ),
    )


def pick(names: str, usual: Sequence[str]) -> list[Workload]:
    """Those that are named, with commas between; else the usual ones, all where none is usual."""
    known = workloads()
    wanted = names.split(",") if names else usual or [one.name for one in known]
    if unknown := set(wanted) - {one.name for one in known}:
        raise SystemExit(f"no such workload: {unknown}, wanted some of {[o.name for o in known]}")
    return [one for one in known if one.name in wanted]


def scattered(index: int, below: int) -> int:
    """A number from 0 to ``below`` that looks random and follows from the index alone."""
    return ((index * SCATTER) % 2**32 * below) >> 32


def tensors(folder: Path) -> Dataset[Any]:
    """Rows of 12 KB that overlap in memory, so that four million of them take 17 MB."""
    values = torch.rand(LENGTH + 3072, generator=torch.Generator().manual_seed(0))
    return TensorDataset(values.as_strided((LENGTH, 3072), (1, 1)), torch.arange(LENGTH))


def tiny(folder: Path) -> Dataset[Any]:
    return Tiny()


def jpeg(folder: Path) -> Dataset[Any]:
    for path in PICTURES.rglob("*.*"):
        path.read_bytes()  # so that no cell meets a cold page cache
    return Repeated(ImageFolder(PICTURES, train=True, cache_dir=folder))


def heavy_jpeg(folder: Path) -> Dataset[Any]:
    return HeavyPictures()


def slow_storage(folder: Path) -> Dataset[Any]:
    return SlowStorage()


def heavy_tail(folder: Path) -> Dataset[Any]:
    return HeavyTail()


def token_windows(folder: Path) -> Dataset[Any]:
    path = folder / "tokens.npy"
    if not path.exists():
        drawn = np.random.default_rng(0).integers(0, 50_000, TOKEN_FILE_LENGTH, dtype=np.int64)
        np.save(path, drawn)
    return Tokens(path)


def ragged(folder: Path) -> Dataset[Any]:
    return Ragged()


class Endless(Dataset[Any]):
    """What all of them are: a virtual length, and a sample by its index."""

    def __len__(self) -> int:
        return LENGTH


class Repeated(Endless):
    """Another dataset's samples, over and over."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index % len(self.dataset)]


class Tiny(Endless):
    """Samples of a few microseconds: a row and its number."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.rows = torch.rand(TINY_ROWS, TINY_WIDTH, generator=generator)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.rows[index % TINY_ROWS], index


class HeavyPictures(Endless):
    """JPEGs that lie in memory, through six of Pillow's slower operations."""

    def __init__(self) -> None:
        self.files = [encoded(number) for number in range(HEAVY_PICTURES)]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.open(io.BytesIO(self.files[index % HEAVY_PICTURES])).convert("RGB")
        picture = picture.rotate(scattered(index, 60) - 30, Image.Resampling.BICUBIC)
        picture = picture.resize((224, 224), Image.Resampling.LANCZOS)
        picture = ImageEnhance.Color(picture).enhance(0.5 + scattered(index, 100) / 100)
        picture = ImageEnhance.Contrast(picture).enhance(1.2)
        picture = picture.filter(ImageFilter.GaussianBlur(1.5))
        picture = picture.filter(ImageFilter.UnsharpMask(2))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous(), index


def encoded(number: int) -> bytes:
    """A picture of soft noise, about as hard to decode as a photograph."""
    noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize(HEAVY_SIZE, Image.Resampling.BICUBIC)
    with io.BytesIO() as file:
        picture.save(file, "JPEG", quality=90)
        return file.getvalue()


class SlowStorage(Endless):
    """Samples that mostly wait, as for a store over a network."""

    def __getitem__(self, index: int) -> Tensor:
        time.sleep(IO_SLEEP_S)
        return torch.full((1024,), index)


class HeavyTail(Endless):
    """Samples that compute; 15 in a thousand take 20 times as long."""

    def __init__(self) -> None:
        self.work = bytes(TAIL_BYTES)

    def __getitem__(self, index: int) -> Tensor:
        digest = hashlib.sha256(index.to_bytes(8, "big"))
        for _ in range(TAIL_TIMES if scattered(index, 1000) < TAIL_PER_MILLE else 1):
            digest.update(self.work)
        return torch.tensor(list(digest.digest()), dtype=torch.uint8)


class Tokens(Endless):
    """Windows of a long memory-mapped text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokens = np.load(path, mmap_mode="r")

    def __reduce__(self) -> tuple[type["Tokens"], tuple[Path]]:
        return Tokens, (self.path,)  # a pickled memmap would carry the whole file

    def __getitem__(self, index: int) -> Tensor:
        start = scattered(index, TOKEN_FILE_LENGTH - TOKENS)
        return torch.from_numpy(np.array(self.tokens[start : start + TOKENS]))


class Ragged(Endless):
    """Sequences of vectors, from 16 to 512 of them."""

    def __getitem__(self, index: int) -> Tensor:
        least, most = RAGGED_LENGTHS
        length = least + scattered(index, most - least + 1)
        drawn = np.random.default_rng(index).standard_normal((length, RAGGED_WIDTH), np.float32)
        return torch.from_numpy(drawn)


def pad(samples: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Batches as long as their longest sequence, and how long each is."""
    lengths = torch.tensor([len(sample) for sample in samples])
    return pad_sequence(list(samples), batch_first=True), lengths
