"""Whether a sample is the same whoever makes it, and whatever was made before it."""

import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from lightning_fastdata.checkup.sample import digest
from lightning_fastdata.checkup.subjects import Subject
from lightning_fastdata.checkup.walk import WalkSettings, values_of
from lightning_fastdata.loader.hazards.parts import nearest_first, parts_at_rest
from lightning_fastdata.order import EpochKey, permute

MOST_SAMPLES = 256
FEWEST_SAMPLES = 8
BUDGET_NS = 20 * 10**9  # guess: what people wait for the answer, on one core
_TIMES_MADE = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeats:
    """What making samples again came to."""

    samples: int
    """How many were made again."""
    at_once: tuple[int, ...]
    """Those that differed when made twice in a row from the same seeds."""
    elsewhere: tuple[int, ...]
    """Those that differed only in another process and order."""
    generators: tuple[str, ...]
    """Attributes of the dataset that are random generators of its own."""


class _Twice(Dataset[tuple[bytes, bytes | None]]):
    """Digests of samples, each made from seeds of its index alone.

    Args:
        dataset: Whose samples.
        indices: Which, in the order in which they are made; shape ``(N,)``.
        twice: Whether each is made a second time at once.
    """

    def __init__(self, dataset: Any, indices: NDArray[np.int64], *, twice: bool) -> None:
        self.dataset, self._indices, self._twice = dataset, indices, twice

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> tuple[bytes, bytes | None]:
        index = int(self._indices[position])
        first = self._digest_of(index)
        return first, self._digest_of(index) if self._twice else None

    def _digest_of(self, index: int) -> bytes:
        random.seed(index)
        torch.default_generator.manual_seed(index)
        np.random.seed(index & 0xFFFFFFFF)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they were told of at the first time
                return digest(self.dataset[index])
        except Exception as error:  # a sample that fails now and then is one that differs
            return f"{type(error).__name__}".encode()


def make_again(
    subject: Subject,
    settings: WalkSettings,
    *,
    bad: set[int],
    sample_ns: int | None,
    advance: Callable[[int], None],
) -> Repeats | None:
    """Make some samples three times: twice in a row, then in other processes and backwards.

    Args:
        subject: A map-style dataset.
        settings: How samples are gone over.
        bad: Indices that cannot be made.
        sample_ns: Time of a sample, where it is known; slow ones are compared in smaller numbers.
        advance: Told how many samples more are done.

    Returns:
        Which of them differed; ``None`` where there is no sample to compare.
    """
    assert subject.length is not None, "a stream cannot be asked for a sample again"
    indices = _indices(subject.length, bad, how_many(sample_ns, settings.max_samples))
    if not len(indices):
        return None
    backwards = indices[::-1].copy()
    one_way, other_way = [], []
    for pair in values_of(subject, _Twice(subject.dataset, indices, twice=True), settings, 1):
        one_way.append(pair)
        advance(2)
    for pair in values_of(subject, _Twice(subject.dataset, backwards, twice=False), settings, 2):
        other_way.append(pair[0])
        advance(1)
    both = list(zip(indices.tolist(), one_way, other_way[::-1], strict=True))
    at_once = tuple(index for index, (first, second), _ in both if first != second)
    differing = tuple(index for index, (first, _), third in both if first != third)
    return Repeats(
        samples=len(indices),
        at_once=at_once,
        elsewhere=tuple(index for index in differing if index not in at_once),
        generators=tuple(own_generators(subject.dataset)),
    )


def how_many(sample_ns: int | None, max_samples: int | None) -> int:
    """How many samples to make again, so that nobody waits long for it."""
    affordable = MOST_SAMPLES if not sample_ns else BUDGET_NS // (_TIMES_MADE * sample_ns)
    count = min(MOST_SAMPLES, max(FEWEST_SAMPLES, affordable))
    return count if max_samples is None else min(count, max_samples)


def own_generators(dataset: Any) -> list[str]:
    """Find random generators among what a dataset is made of: nobody seeds those."""
    parts = nearest_first(dataset, "dataset", parts_at_rest)
    return [path for path, part in parts if isinstance(part, _GENERATORS)]


_GENERATORS = (np.random.Generator, np.random.RandomState, torch.Generator, random.Random)


def _indices(length: int, bad: set[int], count: int) -> NDArray[np.int64]:
    candidates = permute(
        np.arange(min(length, count + len(bad))), length, EpochKey(seed=1, epoch=0)
    )
    good = [index for index in candidates.tolist() if index not in bad]
    return np.array(good[:count], dtype=np.int64)
