"""An engine whose every batch is noted in a trace; nothing of the batch or its way changes."""

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

from lightning_fastdata.loader.engine import Engine, HostBatch, Request, Stream
from lightning_fastdata.trace.samples import size_bytes_of
from lightning_fastdata.trace.work import BatchTimes, WorkTrace

_SIZED_EVERY = 32  # batches of one loader are alike; looking into a nested one takes microseconds


class ObservedEngine:
    """Stands before an engine for one pass.

    Args:
        engine: Makes the batches.
        work: Where each is noted.
    """

    def __init__(self, engine: Engine, work: WorkTrace) -> None:
        self._engine, self._work = engine, work
        self._asked_ns: dict[int, int] = {}
        engine.watched = True

    @property
    def depth(self) -> int:
        """As the engine's."""
        return self._engine.depth

    @property
    def in_flight(self) -> int:
        """As the engine's."""
        return self._engine.in_flight

    def submit(self, request: Request) -> None:
        """Ask the engine, and note when."""
        self._asked_ns[request.number] = time.perf_counter_ns()
        self._engine.submit(request)

    def next(self) -> HostBatch:
        """Wait for the engine, and note how long, and what went before."""
        wanted_ns = time.perf_counter_ns()
        batch = self._engine.next()
        taken_ns = time.perf_counter_ns()
        number = batch.request.number
        self._work.add(
            BatchTimes(
                number=number,
                asked_ns=self._asked_ns.pop(number, wanted_ns),
                sent_ns=batch.sent_ns,
                arrived_ns=batch.arrived_ns,
                wanted_ns=wanted_ns,
                taken_ns=taken_ns,
                size_bytes=None if number % _SIZED_EVERY else size_bytes_of(batch.data),
                chunks=tuple(batch.times),
            )
        )
        return batch


def observed(engine: Engine, work: WorkTrace | None) -> "Engine | ObservedEngine":
    """The engine itself, or one before it that notes every batch in ``work``."""
    return engine if work is None else ObservedEngine(engine, work)


def observed_stream(stream: Stream, epoch: int, seed: int, work: WorkTrace | None) -> Iterator[Any]:
    """The batches of a pass over a stream, the way of each noted in ``work``."""
    if work is None:
        return stream.batches(epoch, seed)
    stream.watched = True
    return _noted(stream, stream.batches(epoch, seed), work)


def _noted(stream: Stream, batches: Iterator[Any], work: WorkTrace) -> Iterator[Any]:
    for number in count():
        wanted_ns = time.perf_counter_ns()
        # A list, so that no name holds the batch here: its memory would stay in use for longer.
        given = [next(batches, _END)]
        taken_ns = time.perf_counter_ns()
        if given[0] is _END:
            return
        latest = stream.latest
        work.add(
            BatchTimes(
                number=number,
                asked_ns=wanted_ns if latest is None else latest.asked_ns,
                sent_ns=None,
                arrived_ns=None if latest is None else latest.arrived_ns,
                wanted_ns=wanted_ns,
                taken_ns=taken_ns,
                size_bytes=None if number % _SIZED_EVERY else size_bytes_of(given[0]),
                chunks=() if latest is None else tuple(latest.times),
            )
        )
        yield given.pop()


_END: Any = object()
