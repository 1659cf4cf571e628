"""What loaders did, as numbers: where the time of each chunk and each batch went.

Moments are ``time.perf_counter_ns``, which all processes of a machine share on Linux.
"""

import heapq
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from lightning_fastdata.trace.record import WaitHistogram
from lightning_fastdata.trace.stages import OTHER_STAGES

FIRST_BATCHES, RECENT_BATCHES = 64, 2048  # guess: the start, and what fits into a replay and a page
SLOWEST_KEPT = 20
AT_ONCE = 32  # batches; one by one, each finds the processor's caches cold
LINES_KEPT = 2048  # guess: far more lines than any dataset runs through


class Line(NamedTuple):
    """A place in somebody's code."""

    file: str
    line: int
    function: str


class ChunkTimes(NamedTuple):
    """Where the time of one chunk went: some samples of one batch, made by one worker."""

    worker: int | None
    """The worker's number; ``None`` is the training process itself."""
    samples: int
    began_ns: int
    """When the worker took the chunk up."""
    ended_ns: int
    """When it lay in the slot. Much later than ``began_ns`` and little CPU time: it waited."""
    cpu_ns: int
    """CPU time in between. As much as the wall time: the samples are bound by the core."""
    page_faults: int
    """Pages that had to be provided without reading; high at a slot's first use only."""
    read_bytes: int
    """Read from storage, not from the page cache."""
    first_row: int = 0
    """The place in its batch of the first sample."""
    major_faults: int = 0
    """Pages of mapped files that had to be read from storage. High: a cold memory map."""
    cached_bytes: int | None = None
    """Read by system calls, but out of the page cache; ``None`` where the kernel does not say."""
    core_wait_ns: int | None = None
    """Time ready to run without a free core. High: too many processes for the cores. ``None`` where
    the kernel does not say."""
    collate_ns: int = 0
    """Putting samples together, where that is a step of its own. High: a costly ``collate_fn``."""
    transform_ns: int = 0
    """``batch_transform``. High: it belongs on the device."""
    pack_ns: int = 0
    """Copying the batch to where the loop reads it. High: large batches; send ``uint8``."""
    stages_ns: tuple[tuple[str, int], ...] = ()
    """Time in each named ``stage`` of the dataset's code."""
    slowest: tuple[tuple[int, Any, int], ...] = ()
    """Its slowest samples, at most three: row in the batch, index or key, nanoseconds."""
    lines: tuple[tuple[Line, int], ...] = ()
    """How often a look at the worker's stack found it at a line of the user's code."""
    looks: int = 0
    """How often its stack was looked at in all."""


class BatchTimes(NamedTuple):
    """The way of one batch through a loader."""

    number: int
    """Its place in its pass."""
    asked_ns: int
    """When the loader asked its engine for it."""
    sent_ns: int | None
    """When it went to the workers. Later than ``asked_ns``: no slot was free. ``None``: no workers,
    or not known."""
    arrived_ns: int | None
    """When it was ready for the training process; ``None`` where it is not known."""
    wanted_ns: int
    """When the loop wanted it."""
    taken_ns: int
    """When the loop had it."""
    size_bytes: int | None
    """Of its tensors; ``None`` where it was not counted."""
    chunks: tuple[ChunkTimes, ...]
    """What the workers did for it; empty where the engine does not know."""
    pin_ns: int | None = None
    """Copying it into pinned memory in a thread of the training process, before it arrived;
    ``None`` where that was not done or not measured."""


@dataclass(kw_only=True, slots=True)
class WorkTotals:
    """Running sums over all batches of a loader: the same size however long the run."""

    batches: int = 0
    samples: int = 0
    chunks: int = 0
    busy_ns: int = 0
    """Workers' time on chunks, all workers together."""
    cpu_ns: int = 0
    core_wait_ns: int | None = 0
    """``None`` as soon as one chunk did not know."""
    collate_ns: int = 0
    transform_ns: int = 0
    pack_ns: int = 0
    page_faults: int = 0
    major_faults: int = 0
    read_bytes: int = 0
    reading_ns: int = 0
    """Time in which workers neither computed nor waited for a core, of chunks for which something
    came from storage."""
    cached_bytes: int | None = 0
    stages_ns: Counter[str] = field(default_factory=Counter)
    lines: Counter[Line] = field(default_factory=Counter)
    looks: int = 0
    samples_ns: WaitHistogram = field(default_factory=WaitHistogram)
    """The mean time of a sample, one count a chunk."""

    def add(self, batch: BatchTimes) -> None:
        """Add one batch."""
        self.batches += 1
        for chunk in batch.chunks:
            self._add_chunk(chunk)

    def _add_chunk(self, chunk: ChunkTimes) -> None:
        self.chunks += 1
        self.samples += chunk.samples
        self.busy_ns += chunk.ended_ns - chunk.began_ns
        self.cpu_ns += chunk.cpu_ns
        self.collate_ns += chunk.collate_ns
        self.transform_ns += chunk.transform_ns
        self.pack_ns += chunk.pack_ns
        self.page_faults += chunk.page_faults
        self.major_faults += chunk.major_faults
        self.read_bytes += chunk.read_bytes
        if chunk.read_bytes or chunk.major_faults:
            wall_ns = chunk.ended_ns - chunk.began_ns
            self.reading_ns += max(0, wall_ns - chunk.cpu_ns - (chunk.core_wait_ns or 0))
        self.cached_bytes = _sum(self.cached_bytes, chunk.cached_bytes)
        self.core_wait_ns = _sum(self.core_wait_ns, chunk.core_wait_ns)
        for name, stage_ns in chunk.stages_ns:
            # Workers that start again each epoch may have new names each time.
            is_known = name in self.stages_ns or len(self.stages_ns) < LINES_KEPT
            self.stages_ns[name if is_known else OTHER_STAGES] += stage_ns
        self.looks += chunk.looks
        for line, looks in chunk.lines:
            if line in self.lines or len(self.lines) < LINES_KEPT:
                self.lines[line] += looks
        if chunk.samples:
            self.samples_ns.add((chunk.ended_ns - chunk.began_ns) // chunk.samples)


class WorkTrace:
    """Everything that was recorded of one loader, in bounded memory."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: what was recorded was another's, of a search for settings perhaps."""
        self._totals = WorkTotals()
        self._first: list[BatchTimes] = []
        self._recent: deque[BatchTimes] = deque(maxlen=RECENT_BATCHES)
        self._noted: list[BatchTimes] = []
        self._slowest: list[tuple[int, int, Any]] = []
        self._tie = count()  # keys of samples need not compare

    def add(self, batch: BatchTimes) -> None:
        """Record one batch that the loop has got."""
        self._noted.append(batch)
        if len(self._noted) >= AT_ONCE:
            self._settle()

    @property
    def totals(self) -> WorkTotals:
        """Sums over all batches."""
        self._settle()
        return self._totals

    @property
    def first(self) -> list[BatchTimes]:
        """The run's first batches."""
        self._settle()
        return self._first

    @property
    def recent(self) -> deque[BatchTimes]:
        """The newest batches, the first ones among them while the run is short."""
        self._settle()
        return self._recent

    def _settle(self) -> None:
        noted, self._noted = self._noted, []
        for batch in noted:
            self._take_in(batch)

    def _take_in(self, batch: BatchTimes) -> None:
        if len(self._first) < FIRST_BATCHES:
            self._first.append(batch)
        self._recent.append(batch)
        self._totals.add(batch)
        for chunk in batch.chunks:
            for _, key, sample_ns in chunk.slowest:
                if len(self._slowest) < SLOWEST_KEPT:
                    heapq.heappush(self._slowest, (sample_ns, next(self._tie), key))
                elif sample_ns > self._slowest[0][0]:
                    heapq.heapreplace(self._slowest, (sample_ns, next(self._tie), key))

    def slowest(self) -> list[tuple[Any, int]]:
        """The slowest samples of the run as index or key and nanoseconds, the slowest first.

        A sample that was slow several times is there once, with its longest time.
        """
        self._settle()
        longest: dict[Any, int] = {}
        names: dict[Any, Any] = {}
        for sample_ns, _, key in self._slowest:
            name = repr(key)
            names[name] = key
            longest[name] = max(sample_ns, longest.get(name, 0))
        ranked = sorted(longest.items(), key=lambda entry: -entry[1])
        return [(names[name], sample_ns) for name, sample_ns in ranked]


def _sum(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more
