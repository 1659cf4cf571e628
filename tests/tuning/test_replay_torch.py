"""torch's dispatch in replay is torch's: against a slow simulator, and against torch's own code."""

import heapq
from collections import deque
from itertools import cycle, islice
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from replay_tools import BATCHES, HOST_STEPS, SMALL, TORCHES
from torch.utils.data import dataloader

from lightning_fastdata.tuning.replay import BatchCost, Steps, TorchDispatch, replay

KNOWS_ORDER = hasattr(dataloader._MultiProcessingDataLoaderIter, "_try_put_index") and (
    "in_order" in dataloader.DataLoader.__init__.__annotations__
)


class Ticks:
    """A loader in which nothing is worked out beforehand: all that happens, tick by tick."""

    def __init__(self, costs: list[int], dispatch: TorchDispatch, transit: int) -> None:
        self.costs, self.dispatch, self.transit = costs, dispatch, transit
        self.now = 0
        workers = range(dispatch.num_workers)
        self.queues: list[deque[int]] = [deque() for _ in workers]
        self.at: list[tuple[int, int] | None] = [None for _ in workers]
        self.on_the_way: list[tuple[int, int]] = []
        self.owners: dict[int, int] = {}
        self.turn = cycle(workers)
        self.taken: list[int] = []

    def deal(self) -> None:
        if len(self.owners) == len(self.costs):
            return
        for worker in self.turn:
            held = [
                n for n, owner in self.owners.items() if owner == worker and n not in self.taken
            ]
            if self.dispatch.in_order or len(held) < self.dispatch.prefetch_factor:
                break
        self.queues[worker].append(len(self.owners))
        self.owners[len(self.owners)] = worker

    def work(self) -> None:
        """Let workers do all that ends and begins at this tick."""
        moved = True
        while moved:
            moved = False
            for worker, queue in enumerate(self.queues):
                at = self.at[worker]
                if at is not None and at[1] <= self.now:
                    heapq.heappush(self.on_the_way, (at[1], at[0]))
                    self.at[worker], moved = None, True
                if self.at[worker] is None and queue:
                    number = queue.popleft()
                    self.at[worker], moved = (number, self.now + self.costs[number]), True

    def pass_time(self, ticks: int) -> None:
        for _ in range(ticks):
            self.work()
            self.now += 1
        self.work()

    def read(self) -> int:
        while not self.on_the_way or self.on_the_way[0][0] + self.transit > self.now:
            self.pass_time(1)
        number = heapq.heappop(self.on_the_way)[1]
        self.pass_time(self.dispatch.next_ns)
        return number

    def run(self, host: list[int]) -> list[int]:
        for _ in range(self.dispatch.num_workers * self.dispatch.prefetch_factor):
            self.deal()
        self.work()
        kept: set[int] = set()
        waits = []
        for step, host_ticks in enumerate(host):
            wanted = self.now
            number = step if step in kept else self.read()
            while self.dispatch.in_order and number != step:
                kept.add(number)
                number = step if step in kept else self.read()
            self.taken.append(number)
            self.deal()
            waits.append(self.now - wanted)
            self.pass_time(host_ticks)
        return waits


@given(BATCHES, HOST_STEPS, TORCHES, SMALL)
def test_waits_are_those_of_a_simulator_that_goes_tick_by_tick(
    batches: list[BatchCost], steps: Steps, dispatch: TorchDispatch, transit: int
) -> None:
    host = list(islice(cycle(steps.host_ns), len(batches)))
    costs = [batch.time_ns + dispatch.handing_ns for batch in batches]
    ticks = Ticks(costs, dispatch, transit)

    result = replay(batches, steps, dispatch, transit_ns=transit)

    assert result.waits_ns.tolist() == ticks.run(host)


def torchs_own(costs: list[int], host: list[int], dispatch: TorchDispatch) -> list[int]:
    """torch's iterator itself, its queues replaced by ones that know when things happen."""
    workers = range(dispatch.num_workers)
    time = SimpleNamespace(now=0)
    free_at = [0 for _ in workers]
    answers: list[tuple[int, int]] = []

    class Queue:
        def __init__(self, worker: int) -> None:
            self.worker = worker

        def put(self, task: Any) -> None:
            number, cost = task
            free_at[self.worker] = max(time.now, free_at[self.worker]) + cost
            heapq.heappush(answers, (free_at[self.worker], number))

    class Iterator(dataloader._MultiProcessingDataLoaderIter):
        def __init__(self) -> None:
            self._prefetch_factor, self._num_workers = dispatch.prefetch_factor, len(workers)
            self._in_order, self._persistent_workers = dispatch.in_order, True
            self._tasks_outstanding = self._send_idx = self._rcvd_idx = 0
            self._task_info: dict[int, Any] = {}
            self._workers_num_tasks, self._workers_status = (
                [0] * len(workers),
                [True] * len(workers),
            )
            self._worker_queue_idx_cycle = cycle(workers)
            self._index_queues, self._sampler_iter = [Queue(w) for w in workers], iter(costs)
            self._shutdown, self._dataset_kind = False, dataloader._DatasetKind.Map

        def _get_data(self) -> tuple[int, int]:
            ended, number = heapq.heappop(answers)
            time.now = max(time.now, ended) + dispatch.next_ns
            return number, number

        def __del__(self) -> None:
            """There are no processes."""

    iterator = Iterator()
    for _ in range(dispatch.prefetch_factor * len(workers)):
        iterator._try_put_index()
    waits = []
    for host_time in host:
        wanted = time.now
        iterator._next_data()
        waits.append(time.now - wanted)
        time.now += host_time
    return waits


@pytest.mark.skipif(not KNOWS_ORDER, reason="torch before 2.7 has another iterator")
@given(BATCHES, HOST_STEPS, TORCHES)
def test_waits_are_those_of_torchs_own_iterator(
    batches: list[BatchCost], steps: Steps, dispatch: TorchDispatch
) -> None:
    host = list(islice(cycle(steps.host_ns), len(batches)))

    costs = [batch.time_ns + dispatch.handing_ns for batch in batches]

    result = replay(batches, steps, dispatch)

    assert result.waits_ns.tolist() == torchs_own(costs, host, dispatch)
