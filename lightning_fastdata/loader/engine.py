"""What the loader asks of whatever makes its batches, and the two values that pass between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lightning_fastdata.order import UInt64s


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


@dataclass(frozen=True, kw_only=True, slots=True)
class HostBatch:
    """A finished batch on the host. Its tensors own their memory while anything reads it."""

    request: Request
    data: Any
    times: Sequence[Any] = ()
    """Where the time of each part of it went, where the engine knows."""
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

    def stop(self) -> None:
        """Stop every worker; what was asked for is still made, by new ones."""

    def close(self) -> None:
        """Stop every worker and forget what was asked for. May be called twice."""


class Stream(Protocol):
    """Makes the batches of an ``IterableDataset``; serves one pass at a time."""

    def batches(self, epoch: int, seed: int) -> Iterator[Any]:
        """Go over the stream once; ``seed`` is of the generators that its workers start with."""

    def close(self) -> None:
        """Stop the workers, if any."""


def plain_indices(indices: Any) -> Sequence[Any]:
    """The indices as the dataset gets them: plain ints, or the user's own keys."""
    listed: Sequence[Any] = indices if isinstance(indices, list) else indices.tolist()
    return listed
