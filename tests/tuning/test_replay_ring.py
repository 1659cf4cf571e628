"""The ring's dispatch in replay is the ring's: the loader's own rules, with made-up times."""

import itertools
from collections import deque
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from replay_tools import BATCHES, HOST_STEPS, whole

from lightning_fastdata.loader.ring import jobs, nursery
from lightning_fastdata.loader.ring.messages import SEED_BYTES, BatchDone, Chunk, ChunkDone
from lightning_fastdata.loader.ring.rows import WrittenRows
from lightning_fastdata.loader.ring.times import NO_TIMES
from lightning_fastdata.tuning.replay import BatchCost, RingDispatch, Span, Steps, replay, ring
from lightning_fastdata.tuning.replay.cost import chunk_times_ns
from lightning_fastdata.tuning.replay.ring import ChunkRule


def chunk_of(number: int, rows: int, *, is_cut: bool) -> Chunk:
    seeds = bytes(rows * SEED_BYTES)
    mode = "rows" if is_cut else "whole"
    return Chunk(number=number, mode=mode, epoch=0, seeds=seeds, indices=seeds, batch_size=rows)


def done_of(chunk: Chunk, time_ns: int) -> ChunkDone:
    rows = len(chunk.seeds) // SEED_BYTES
    times = NO_TIMES._replace(samples=rows, began_ns=0, ended_ns=time_ns)
    return ChunkDone(chunk.number, chunk.first_row, WrittenRows("", []), times, None)


def cost_of(chunk: Chunk, batch: BatchCost) -> int:
    """Row by row, with the fractions of a nanosecond that a cut drops."""
    rows = [(span.rows, span.time_ns) for span in batch.spans]
    starts = list(itertools.accumulate((count for count, _ in rows), initial=0))
    before = list(itertools.accumulate((time_ns for _, time_ns in rows), initial=0))

    def until(row: int) -> int:
        span = max(k for k, start in enumerate(starts) if start <= row)
        if span == len(rows):
            return before[-1]
        count, time_ns = rows[span]
        return before[span] + time_ns * (row - starts[span]) // count

    last = chunk.first_row + len(chunk.seeds) // SEED_BYTES
    return until(last) - until(chunk.first_row)


class Ring:
    """The loader's ``Jobs`` and the nursery's ``_hand_out``; processes and time are made up."""

    def __init__(self, batches: list[BatchCost], dispatch: RingDispatch) -> None:
        self._batches, self._dispatch = batches, dispatch
        self._jobs = jobs.Jobs(None)
        self._crew = SimpleNamespace(
            children=[
                SimpleNamespace(number=number, queued=deque(), retiring=False, ends_at=None)
                for number in range(dispatch.num_workers)
            ],
            at_work=lambda: self._crew.children,
        )
        self._next_for = lambda child: nursery.Nursery._next_for(self, child)  # type: ignore[arg-type]
        self.answers: deque[int] = deque()
        self.now = 0

    def _give(self, child: Any, chunk: Chunk) -> None:
        child.queued.append(chunk)

    def ask(self, number: int) -> None:
        batch = chunk_of(number, self._batches[number].rows, is_cut=self._dispatch.is_cut)
        self._jobs.add(batch, self._dispatch.num_workers)

    def turn(self) -> None:
        """One turn of the nursery, at which all that ended by now is heard first."""
        nursery.Nursery._hand_out(self)  # type: ignore[arg-type]
        for child in self._crew.children:
            if child.ends_at is None and child.queued:
                child.ends_at = self.now + self._time_of(child.queued[0])

    def _time_of(self, chunk: Chunk) -> int:
        return cost_of(chunk, self._batches[chunk.number]) + self._dispatch.handing_ns

    def pass_time_until(self, until: int | None) -> None:
        """Go on to a moment, or, with ``None``, to the next answer."""
        while until is not None or not self.answers:
            ends = [child.ends_at for child in self._crew.children if child.ends_at is not None]
            if until is not None and (not ends or min(ends) > until):
                self.now = until
                return
            self.now = min(ends)
            for child in self._crew.children:
                if child.ends_at == self.now:
                    self._hear(child)
            self.turn()

    def _hear(self, child: Any) -> None:
        chunk, child.ends_at = child.queued.popleft(), None
        time_ns = cost_of(chunk, self._batches[chunk.number])
        batch = self._jobs.settle(done_of(chunk, time_ns))
        if isinstance(batch, BatchDone):
            self.answers.append(batch.number)

    def run(self, host: list[int]) -> list[int]:
        asked, early = 0, set[int]()
        waits = []
        for step, host_time in enumerate(host):
            wanted = self.now
            while asked < min(len(host), step + self._dispatch.depth):
                self.ask(asked)
                asked += 1
            self.turn()
            while step not in early:
                self.pass_time_until(None)
                early.add(self.answers.popleft())
            waits.append(self.now - wanted)
            self.pass_time_until(self.now + host_time)
        return waits


RINGS = st.builds(
    RingDispatch,
    num_workers=st.integers(1, 4),
    depth=st.integers(1, 6),
    is_cut=st.booleans(),
    handing_ns=st.integers(1, 3),
)
LONG_SPANS = st.builds(Span, st.integers(1, 4), st.integers(0, 3 * ring.LEAST_CHUNK_NS))
LONG_BATCHES = st.lists(
    st.builds(BatchCost, spans=st.lists(LONG_SPANS, min_size=1, max_size=3).map(tuple)),
    min_size=1,
    max_size=8,
)


@given(BATCHES | LONG_BATCHES, HOST_STEPS, RINGS)
def test_waits_are_those_of_the_loaders_own_cutting_and_handing_out(
    batches: list[BatchCost], steps: Steps, dispatch: RingDispatch
) -> None:
    host = list(itertools.islice(itertools.cycle(steps.host_ns), len(batches)))

    result = replay(batches, steps, dispatch)

    assert result.waits_ns.tolist() == Ring(batches, dispatch).run(host)


@given(LONG_BATCHES, st.integers(1, 6))
def test_batches_are_cut_where_the_loader_cuts_them(
    batches: list[BatchCost], num_workers: int
) -> None:
    rule, real = ChunkRule(num_workers), jobs.Jobs(None)

    for number, batch in enumerate(batches):
        real.add(chunk_of(number, batch.rows, is_cut=True), num_workers)
        chunks = list(real.ready)
        real.ready.clear()
        assert chunk_times_ns(batch, rule.rows(batch.rows)) == [
            cost_of(chunk, batch) for chunk in chunks
        ]
        for chunk in chunks:
            real.settle(done_of(chunk, cost_of(chunk, batch)))
        rule.learn(batch.time_ns, batch.rows)


def test_the_loaders_constants_are_the_replays() -> None:
    assert (jobs.LEAST_CHUNK_NS, jobs.FIRST_CUTS) == (ring.LEAST_CHUNK_NS, ring.FIRST_CUTS)
    assert nursery.QUEUED == ring.QUEUED


def test_samples_that_are_known_to_be_quick_are_not_cut() -> None:
    """The first batch is four chunks for two workers; the next ones are whole."""
    dispatch = RingDispatch(num_workers=2, depth=1, handing_ns=10)

    result = replay(whole(80, 80, 80), Steps(host_ns=[0]), dispatch)

    assert result.waits_ns.tolist() == [2 * (20 + 10), 80 + 10, 80 + 10]


def test_samples_that_are_known_to_be_slow_are_shared_fairly() -> None:
    long = 4 * ring.LEAST_CHUNK_NS
    dispatch = RingDispatch(num_workers=2, depth=1, handing_ns=10)

    result = replay(whole(long, long), Steps(host_ns=[0]), dispatch)

    assert result.waits_ns.tolist() == [long // 2 + 2 * 10, long // 2 + 10]
