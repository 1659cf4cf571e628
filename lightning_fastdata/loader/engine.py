"""What the loader asks of whatever makes its batches, and the two values that pass between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from lightning_fastdata.order import EpochKey, UInt64s
from lightning_fastdata.trace.work import ChunkTimes


class Change(NamedTuple):
    """Something else in the place of a sample that cannot be made."""

    row: int
    skipped: Any
    """The sample's index or key."""
    repeated: Any
    """That of the sample in its place; ``None`` where the batch has one sample fewer."""


NOTHING = object()
"""The data of a batch all of whose samples were left out."""

_NO_PASS = EpochKey(seed=0, epoch=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One batch to make."""

    number: int
    """Its place in this pass over the data, from 0 on; no two requests in flight share one."""
    epoch: int
    """Told to the dataset's ``set_epoch`` before its samples are read."""
    indices: Any
    """Sample indices, ``(B,)`` int64, or a list of keys; one key alone without batching."""
    seeds: UInt64s
    """A seed for each sample, ``(B,)``."""
    batch_seed: int
    """The seed of what is done once a batch."""
    key: EpochKey = _NO_PASS
    """The pass that it is of."""
    batched: bool = True
    """Whether ``indices`` are of a batch; False is one key alone."""
    spare: tuple[Any, ...] = ()
    """Keys that the user's sampler gave before, to repeat in the place of bad ones."""
    order_length: int | None = None
    """How many samples the order is of; ``None`` where a sampler of the user's decides."""
    changes: tuple[Change, ...] = ()
    """What differs from what the order asked for."""
    original: "Request | None" = None
    """What the order asked for; ``None`` where this is it."""

    @property
    def keys(self) -> Sequence[Any]:
        """The samples' indices or keys, one a row, also without batching."""
        if self._is_batch:
            return plain_indices(self.indices)
        return [self.indices]

    @property
    def _is_batch(self) -> bool:
        # A single key may be a list itself: several samples for a dataset without batching.
        indices = self.indices
        return isinstance(indices, np.ndarray) or (self.batched and isinstance(indices, list))

    def _like(self, keys: list[Any]) -> Any:
        """The keys in the form that ``indices`` have."""
        if isinstance(self.indices, np.ndarray):
            return np.array(keys, dtype=np.int64)
        return keys if self._is_batch or not keys else keys[0]

    @property
    def positions(self) -> int:
        """How many positions of the order it stands for."""
        return len(self.unchanged().seeds)

    @property
    def is_void(self) -> bool:
        """Whether all its samples were left out; a sampler may also ask for none at all."""
        return self.original is not None and not len(self.seeds)

    def with_changes(self, changes: Sequence[Change]) -> "Request":
        """Ask for other samples in some rows; their seeds stay those of the rows."""
        keys = list(self.keys)
        for change in changes:
            keys[change.row] = change.repeated
        return replace(self, indices=self._like(keys), changes=tuple(changes), original=self)

    def without(self, rows: Sequence[int]) -> "Request":
        """Ask for the other rows only."""
        keys, stay = self.keys, [row for row in range(len(self.seeds)) if row not in set(rows)]
        return replace(
            self,
            indices=self._like([keys[row] for row in stay]),
            seeds=self.seeds[stay],
            changes=tuple(Change(row, keys[row], None) for row in rows),
            original=self,
        )

    def unchanged(self) -> "Request":
        """What the order asked for."""
        return self if self.original is None else self.original


@dataclass(frozen=True, kw_only=True, slots=True)
class HostBatch:
    """A finished batch on the host. Its tensors own their memory while anything reads it."""

    request: Request
    data: Any
    times: Sequence[ChunkTimes] = ()
    """Where the time of each part of it went, where the engine knows."""
    sent_ns: int | None = None
    """When it was asked of the workers, by ``time.perf_counter_ns``; ``None`` without them."""
    arrived_ns: int | None = None
    """When its last part was there, by ``time.perf_counter_ns``; ``None`` where it is not known."""


class Consumer(Protocol):
    """Who takes a loader's batches, where that is not a plain loop."""

    def epoch(self) -> int:
        """The epoch of the pass whose first batch is being asked for."""

    def unused_batches(self) -> int:
        """How many batches it holds that it has not trained on yet."""

    def resume(self, saved_batches: int, batches: int) -> None:
        """Learn that a position saved after ``saved_batches`` now counts as after ``batches``."""


class Engine(Protocol):
    """Makes the requested batches, in order. One engine serves one pass at a time."""

    watched: bool
    """Whether what is asked for from now on is measured closely."""

    @property
    def depth(self) -> int:
        """Requests that should be in flight so that no worker is idle; 1 or more."""

    @property
    def in_flight(self) -> int:
        """Requests submitted and not yet answered."""

    def submit(self, request: Request) -> None:
        """Ask for one more batch; starts workers where there are any and none yet."""

    def next(self) -> HostBatch:
        """Wait for the oldest batch asked for and not yet given."""

    def resize(self, num_workers: int, depth: int) -> bool:
        """Have so many workers and batches in flight from now on; ``False`` where it cannot."""

    def stop(self) -> None:
        """Stop every worker; what was asked for is still made, by new ones."""

    def close(self) -> None:
        """Stop every worker and forget what was asked for. May be called twice."""


class StreamTimes(NamedTuple):
    """The way of one batch of a stream."""

    asked_ns: int
    arrived_ns: int
    times: Sequence[ChunkTimes]


class Stream(Protocol):
    """Makes the batches of an ``IterableDataset``; serves one pass at a time."""

    watched: bool
    """Whether what is asked for from now on is measured closely."""
    latest: StreamTimes | None
    """How the batch that was given last came about; ``None`` where it is not known."""

    def batches(self, epoch: int, seed: int) -> Iterator[Any]:
        """Go over the stream once; ``seed`` is of the generators that its workers start with."""

    def close(self) -> None:
        """Stop the workers, if any."""


def plain_indices(indices: Any) -> Sequence[Any]:
    """The indices as the dataset gets them: plain ints, or the user's own keys."""
    listed: Sequence[Any] = indices if isinstance(indices, list) else indices.tolist()
    return listed
