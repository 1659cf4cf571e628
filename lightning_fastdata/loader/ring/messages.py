"""What the processes of a ring say to each other.

Named tuples and bytes, because they are pickled for every batch, where dataclasses and arrays take
five times as long.
"""

from typing import Literal, NamedTuple

from lightning_fastdata.loader.ring.arena import PackedTree
from lightning_fastdata.loader.ring.rows import WrittenRows
from lightning_fastdata.trace.work import ChunkTimes

SEED_BYTES = 8  # of one sample; an index takes as much

Mode = Literal["rows", "whole", "stream", "new stream"]
"""``rows``: written in place, perhaps by several workers; ``whole``: made by one worker;
``stream``: the next of the worker's own iterator, which ``new stream`` begins."""


class NewSlot(NamedTuple):
    """A slot that batches will be asked for in; its descriptor travels with it."""

    slot: int


class DropSlot(NamedTuple):
    """A slot that will not be used again."""

    slot: int


class Resize(NamedTuple):
    """How many workers there are to be from now on."""

    num_workers: int


class Chunk(NamedTuple):
    """Some samples to make: a whole batch when the loop asks, a part of one for a worker."""

    number: int
    """The batch's."""
    mode: Mode
    epoch: int
    seeds: bytes
    """uint64 each; one for a new stream."""
    indices: bytes = b""
    """int64 each; or pickled keys, which only a worker looks at."""
    are_keys: bool = False
    batch_seed: int = 0
    batch_size: int = 1
    """Of the whole batch."""
    first_row: int = 0
    worker: int | None = None
    """Who has to make it; ``None`` is anyone."""
    slot: int = 0
    """Chosen by the ring, as is ``most_bytes``."""
    most_bytes: int = 0
    """What the batch may take of its slot."""
    singly: bool = False
    """Whether to ask the dataset for one sample first, then the next: many at once ended workers.
    """
    place: int = 0
    """Of a stream's batch: how many come before it in its worker's own stream."""
    watched: bool = False
    """Whether to measure closely."""


class NeedsWhole(NamedTuple):
    """The samples are no plain rows: one worker has to collate them all."""


class NeedsRoom(NamedTuple):
    """The batch takes more of the slot than it may."""

    size: int
    """Bytes."""


class StreamEnded(NamedTuple):
    """The worker's iterator has no further batch."""


class Failure(NamedTuple):
    """Making the samples raised."""

    pickled: bytes | None
    """The exception; ``None`` where it cannot be pickled."""
    kind: str
    """The name of its class."""
    text: str
    """Its traceback."""


class BadRow(NamedTuple):
    """A sample that could not be made."""

    row: int
    """Its place in the chunk, or in the batch where the whole batch is answered."""
    failure: Failure


class BadSamples(NamedTuple):
    """Single samples are to blame; the others could be made."""

    rows: tuple[BadRow, ...]


class OutOfMemory(NamedTuple):
    """The worker had no memory left; another one may have."""

    failure: Failure


Result = (
    WrittenRows
    | PackedTree
    | NeedsWhole
    | NeedsRoom
    | StreamEnded
    | Failure
    | BadSamples
    | OutOfMemory
)


class ChunkDone(NamedTuple):
    """A worker's answer to a chunk."""

    number: int
    first_row: int
    result: Result
    times: ChunkTimes
    copied_bytes: int | None
    """Memory inherited and copied since; ``None`` where it was not measured this time."""


class BatchDone(NamedTuple):
    """The answer to a batch."""

    number: int
    result: Result
    times: tuple[ChunkTimes, ...]
    arrived_ns: int
    """When the last chunk was done."""


class WorkerDied(NamedTuple):
    """A worker ended that was not told to. Its work is done by others."""

    words: str
    """How it ended and what it was at, for people; empty where its sample's error says it."""
    stacks: str
    """Its Python stacks, where it crashed; else empty."""
    deaths: int
    """How many workers of this nursery have ended so."""
    lost: tuple[int, ...]
    """Batches of its stream, which have to be asked for again."""


class Deadlocked(NamedTuple):
    """At the first batch no worker moves: a fork may have copied a lock that was held."""

    stacks: str
    """Of all workers, which have ended."""
    after_s: float


class GoOn(NamedTuple):
    """There will be no fresh start: the samples that workers are stuck at are to blame."""


class GaveUp(NamedTuple):
    """Workers end before they make anything, again and again."""

    words: str
    """How the last one ended."""
    stacks: str


class MemoryGrew(NamedTuple):
    """Workers make more and more of the dataset's memory their own copy."""

    bytes_each: int
    """Growth of one worker since it first looked."""
    num_workers: int
