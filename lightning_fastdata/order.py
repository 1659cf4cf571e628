"""Which sample comes when: a seeded order of any length that takes no memory.

An epoch is a row of *positions* 0, 1, 2, ... over all ranks together. A position tells which sample
comes (``permute``), which random numbers it gets (``seeds_at``) and which rank it belongs to, each
in constant time and memory, so that a billion samples start at once and a run resumes anywhere.
"""

import copy
import math
from collections.abc import Iterator, Sized
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch.distributed
from torch.utils.data import DistributedSampler

from lightning_fastdata.errors import SettingsError

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

ROUNDS = 12
"""Half-rounds of the Feistel network, an even number. Luby and Rackoff (1988) need 4 with ideal
functions; chi-square tests on tiny lengths, where a weak network shows first, need 12."""
_CHUNK = 4096  # positions computed at once where a plain iterator is asked for; guess
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # SplitMix64
_HALF = np.uint64(32)
_ORDER, _SAMPLES, _BATCHES, _REPEATS = range(4)  # what a stream of random numbers is for


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochKey:
    """Names one pass over the data: everything random in it follows from these three numbers."""

    seed: int
    """The run's seed, 0 or more."""
    epoch: int
    """The epoch, 0 or more."""
    cycle: int = 0
    """How often this epoch's data had been used up before (a short loader beside a longer one)."""


def permute(positions: Int64s, length: int, key: EpochKey) -> Int64s:
    """Map positions to samples by a seeded one-to-one mapping of ``range(length)`` onto itself.

    A generalised Feistel network (Black and Rogaway 2002, "Ciphers with arbitrary finite domains")
    on an a-by-b grid with a * b just over ``length``; what falls outside is sent through again
    ("cycle walking"), which happens to about one position in ``sqrt(length)``.

    Args:
        positions: Shape ``(N,)``, each in ``[0, length)``.
        length: How many samples there are, 1 or more.
        key: Which order.

    Returns:
        Sample indices, shape ``(N,)``, each in ``[0, length)``.
    """
    columns = math.isqrt(length - 1) + 1
    rows = -(-length // columns)
    keys = _stream_key(key, _ORDER, ROUNDS)
    samples = _feistel(positions.astype(np.uint64), rows, columns, keys)
    outside = np.flatnonzero(samples >= length)
    while outside.size:
        samples[outside] = _feistel(samples[outside], rows, columns, keys)
        outside = outside[samples[outside] >= length]
    return samples.astype(np.int64)


def seeds_at(positions: Int64s, key: EpochKey, *, of_batches: bool = False) -> UInt64s:
    """Give each position a seed of 64 bits of its own.

    Args:
        positions: Shape ``(N,)``.
        key: Which pass over the data.
        of_batches: Whether the seeds are for work done once a batch, named by its first position.

    Returns:
        Seeds, shape ``(N,)``; the same for any number of workers, ranks or restarts.
    """
    stream = _stream_key(key, _BATCHES if of_batches else _SAMPLES, 1)[0]
    return _scramble(positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + stream)


def draw_repeat(key: EpochKey, index: int, attempt: int) -> int:
    """Draw 64 bits that choose which sample takes the place of a bad one.

    Args:
        key: The pass; its cycle has no say, so that a sample has one stand-in an epoch.
        index: The bad sample, 0 or more.
        attempt: How many stand-ins were bad themselves.
    """
    entropy = (key.seed, key.epoch, _REPEATS, index, attempt)
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


def _stream_key(key: EpochKey, stream: int, words: int) -> UInt64s:
    entropy = (key.seed, key.epoch, key.cycle, stream)
    return np.random.SeedSequence(entropy).generate_state(words, np.uint64).astype(np.uint64)


def _scramble(values: UInt64s) -> UInt64s:
    """Mix 64 bits thoroughly (the finaliser of SplitMix64, Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    values ^= values >> np.uint64(31)
    return values


def _feistel(values: UInt64s, rows: int, columns: int, keys: UInt64s) -> UInt64s:
    left, right = np.divmod(values, np.uint64(columns))
    sizes = (np.uint64(rows), np.uint64(columns))
    for turn, key in enumerate(keys):
        size = sizes[turn % 2]
        mixed = (right + key) * _MIX_1  # two multiplications mix a half of 32 bits well enough
        mixed ^= mixed >> _HALF
        mixed *= _MIX_2
        mixed >>= _HALF
        mixed *= size  # 32 random bits times a size below 2**32, shifted: a draw from [0, size)
        mixed >>= _HALF
        mixed += left
        np.subtract(mixed, size, out=mixed, where=mixed >= size)
        left, right = right, mixed  # ROUNDS is even, so they end in place
    left *= sizes[1]
    left += right
    return left


class EpochOrder(DistributedSampler[int]):
    """A sampler that gives each rank its share of a seeded order, from any position on.

    It is a ``DistributedSampler``, so Lightning leaves it in place and calls ``set_epoch``; unlike
    torch's it holds no list, so its size does not grow with the dataset, and it may be built before
    the ranks are known. Rank ``r`` of ``W`` takes positions ``start + r``, ``start + r + W``, ...

    Args:
        dataset: Anything with a length of 1 or more.
        num_replicas: Ranks that share the data; ``None`` asks ``torch.distributed`` when used.
        rank: This process's rank in ``[0, num_replicas)``; given exactly when ``num_replicas`` is.
        shuffle: Whether samples come in a new seeded order each epoch, or in the dataset's own.
        seed: Names the run's orders and random numbers, 0 or more.
        drop_last: Whether the positions that do not divide among the ranks are left out.
        pad: Whether, without ``drop_last``, ranks get equal lengths by repeating the epoch's first
            samples (training needs that), or each sample comes exactly once (evaluation does).
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        *,
        pad: bool = True,
    ) -> None:
        if (num_replicas is None) != (rank is None) or not _names_a_rank(num_replicas, rank):
            raise SettingsError(
                f"num_replicas={num_replicas} with rank={rank}, wanted both as None or a rank in "
                "[0, num_replicas). Pass the two numbers of torch.distributed, or neither."
            )
        if seed < 0:
            raise SettingsError(f"seed={seed}, wanted 0 or more. Pass a non-negative integer.")
        self.dataset = dataset  # type: ignore[assignment]  # only its length is used
        self.shuffle, self.seed, self.drop_last, self.pad = shuffle, seed, drop_last, pad
        self.length = len(dataset)
        self.epoch, self.cycle, self.start = 0, 0, 0
        self.epoch_was_set = False
        self._ranks = None if num_replicas is None or rank is None else (num_replicas, rank)

    @property
    def num_replicas(self) -> int:  # type: ignore[override]  # torch has an attribute
        """How many ranks share the data."""
        return self._known_ranks()[0]

    @property
    def rank(self) -> int:  # type: ignore[override]  # torch has an attribute
        """Which of them this process is."""
        return self._known_ranks()[1]

    @property
    def key(self) -> EpochKey:
        """The pass over the data that comes next, or that is under way."""
        return EpochKey(seed=self.seed, epoch=self.epoch, cycle=self.cycle)

    def set_epoch(self, epoch: int) -> None:
        """Choose the next pass's epoch, from its beginning unless it is the one already chosen."""
        self.epoch_was_set = True
        if epoch != self.epoch:
            self.epoch, self.cycle, self.start = epoch, 0, 0

    def begin(self, key: EpochKey, start: int) -> None:
        """Choose the pass, and how many positions over all ranks have been consumed of it."""
        self.epoch_was_set = False
        self.seed, self.epoch, self.cycle, self.start = key.seed, key.epoch, key.cycle, start

    def __len__(self) -> int:
        """Samples still to come for this rank, from ``start`` on."""
        return self.share_from(self.start)

    def share_from(self, start: int) -> int:
        """Samples of this rank among the positions from ``start`` on."""
        num_replicas, rank = self._known_ranks()
        remaining = max(0, self.length - start)
        if self.drop_last:
            return remaining // num_replicas
        if self.pad:
            return -(-remaining // num_replicas)
        return max(0, -(-(remaining - rank) // num_replicas))

    def positions(self, first: int, count: int) -> Int64s:
        """Positions of this rank's samples ``first`` to ``first + count`` from ``start`` on.

        Returns:
            Shape ``(M,)`` with ``M <= count``: fewer, or none, where the epoch ends. A position of
            ``length`` or more stands for a counted repeat.
        """
        num_replicas, rank = self._known_ranks()
        stop = min(first + count, len(self))
        return self.start + np.arange(first, stop, dtype=np.int64) * num_replicas + rank

    def samples_at(self, positions: Int64s) -> Int64s:
        """The sample index of each position, shape ``(N,)``."""
        positions = positions % self.length
        return permute(positions, self.length, self.key) if self.shuffle else positions

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's sample indices as plain ints, for whoever wants a plain sampler."""
        order = copy.copy(self)  # another pass may be chosen while this one is under way
        for first in range(0, len(order), _CHUNK):
            yield from order.samples_at(order.positions(first, _CHUNK)).tolist()

    def _known_ranks(self) -> tuple[int, int]:
        if self._ranks is None and _has_ranks():
            self._ranks = current_ranks()  # kept, for when the group is gone
        return self._ranks or (1, 0)


def current_ranks() -> tuple[int, int]:
    """World size and rank by ``torch.distributed``; ``(1, 0)`` where it has not been started."""
    if _has_ranks():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0


def _has_ranks() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _names_a_rank(num_replicas: int | None, rank: int | None) -> bool:
    return num_replicas is None or rank is None or 0 <= rank < num_replicas
