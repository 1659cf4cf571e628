"""The ring, simulated: how its nursery cuts batches, hands chunks out and takes answers in."""

import math
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

from lightning_fastdata.tuning.replay.cost import BatchCost, chunk_times_ns
from lightning_fastdata.tuning.replay.dispatch import RingDispatch
from lightning_fastdata.tuning.replay.inbox import Inbox, Taken

# What ``loader.ring.jobs`` and ``loader.ring.nursery`` have under these names: a loader may import
# this room, not the other way round. A test holds both to the same cuts.
LEAST_CHUNK_NS = 2_000_000
FIRST_CUTS = 4
QUEUED = 2


class ChunkRule:
    """How many rows a chunk has, by what samples were seen to cost."""

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._sample_ns: float | None = None

    def rows(self, batch_size: int) -> int:
        """Rows a chunk of a batch of this size; as many or more: it is not cut."""
        fair = math.ceil(batch_size / self._num_workers)
        if self._sample_ns is None:
            return math.ceil(fair / FIRST_CUTS)
        worth_it = math.ceil(LEAST_CHUNK_NS / self._sample_ns)
        return batch_size if 2 * worth_it > batch_size else max(fair, worth_it)

    def learn(self, spent_ns: int, samples: int) -> None:
        """Take in what a whole batch has cost."""
        latest = max(1.0, spent_ns / samples)
        self._sample_ns = latest if self._sample_ns is None else (self._sample_ns + latest) / 2


class RingSource:
    """Hands chunks out, two a worker and the oldest first.

    The loader asks for batches right before it waits for the next one. All workers are there from
    the start: how they come up one by one is no part of the steady state.
    """

    def __init__(
        self, batches: Sequence[BatchCost], dispatch: RingDispatch, transit_ns: int
    ) -> None:
        self._batches, self._dispatch = batches, dispatch
        self._rule = ChunkRule(dispatch.num_workers)
        self._asked = self._given = 0
        self._chunks_left: list[int] = []
        """Chunks that are not answered, by batch."""
        self._ready: deque[tuple[int, int]] = deque()
        """Chunks that wait for a worker, the oldest first: batch, time."""
        self._queued: list[tuple[int, int] | None] = [None] * dispatch.num_workers
        """The chunk behind the one that each worker is at."""
        self._is_idle = [True] * dispatch.num_workers
        self._places = QUEUED * dispatch.num_workers
        """Chunks that workers could still be given."""
        self._busy: list[tuple[int, int, int]] = []
        """What workers are at, the first to be done first: when, worker, batch."""
        self._answers: deque[tuple[int, int]] = deque()
        self._inbox = Inbox(
            self._next_answer,
            in_order=dispatch.in_order,
            next_ns=dispatch.next_ns,
            transit_ns=transit_ns,
        )

    def take(self, wanted_ns: int) -> Taken:
        """Ask for as many batches as may be in flight, then give the next one."""
        busy = self._busy
        while busy and busy[0][0] <= wanted_ns:
            self._finish_one()
        wanted = min(len(self._batches), self._given + self._dispatch.depth)
        if self._asked < wanted:
            for number in range(self._asked, wanted):
                self._add(number)
            self._asked = wanted
            if self._places:
                self._hand_out(wanted_ns)
        self._given += 1
        return self._inbox.take(wanted_ns)

    def _next_answer(self) -> tuple[int, int]:
        while not self._answers:
            self._finish_one()
        return self._answers.popleft()

    def _add(self, number: int) -> None:
        batch, handing_ns = self._batches[number], self._dispatch.handing_ns
        size = batch.rows
        rows = self._rule.rows(size) if self._dispatch.is_cut else size
        times_ns = chunk_times_ns(batch, rows)
        self._chunks_left.append(len(times_ns))
        self._ready.extend([(number, time_ns + handing_ns) for time_ns in times_ns])

    def _hand_out(self, now_ns: int) -> None:
        """One for each idle worker, then one behind what each is at."""
        ready = self._ready
        for worker, is_idle in enumerate(self._is_idle):
            if not ready:
                return
            if is_idle:
                number, time_ns = ready.popleft()
                heappush(self._busy, (now_ns + time_ns, worker, number))
                self._is_idle[worker] = False
                self._places -= 1
        for worker, queued in enumerate(self._queued):
            if not ready:
                return
            if queued is None:
                self._queued[worker] = ready.popleft()
                self._places -= 1

    def _finish_one(self) -> None:
        """Let the chunk end that ends first; its worker goes on with the one behind it."""
        now_ns, worker, number = heappop(self._busy)
        queued = self._queued[worker]
        if queued is None:
            self._is_idle[worker] = True
            self._places += 1  # nothing is ready either: it would have been queued
        else:
            heappush(self._busy, (now_ns + queued[1], worker, queued[0]))
            if self._ready:
                self._queued[worker] = self._ready.popleft()
            else:
                self._queued[worker] = None
                self._places += 1
        self._chunks_left[number] -= 1
        if not self._chunks_left[number]:
            self._answers.append((now_ns, number))
            batch = self._batches[number]
            if self._dispatch.is_cut:
                self._rule.learn(batch.time_ns, batch.rows)
