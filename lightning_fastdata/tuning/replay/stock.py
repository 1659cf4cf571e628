"""torch's own workers, simulated: ``_MultiProcessingDataLoaderIter`` of torch 2.14."""

from collections.abc import Sequence
from heapq import heappop, heappush

from lightning_fastdata.tuning.replay.cost import BatchCost
from lightning_fastdata.tuning.replay.dispatch import TorchDispatch
from lightning_fastdata.tuning.replay.inbox import Inbox, Taken


class TorchSource:
    """Deals whole batches to workers in turn; each one that is taken makes room for another.

    With ``in_order=False`` a worker is passed over that has ``prefetch_factor`` batches already,
    and batches are taken as they arrive.
    """

    def __init__(
        self, batches: Sequence[BatchCost], dispatch: TorchDispatch, transit_ns: int
    ) -> None:
        self._costs_ns = [batch.time_ns + dispatch.handing_ns for batch in batches]
        self._dispatch = dispatch
        workers = dispatch.num_workers
        self._free_at_ns = [0] * workers
        """When each worker has done all that it was given."""
        self._tasks = [0] * workers
        self._next_worker = 0
        self._worker_of: list[int] = []
        self._answers: list[tuple[int, int]] = []
        self._inbox = Inbox(
            lambda: heappop(self._answers),
            in_order=dispatch.in_order,
            next_ns=dispatch.next_ns,
            transit_ns=transit_ns,
        )
        for _ in range(workers * dispatch.prefetch_factor):
            self._deal(0)

    def take(self, wanted_ns: int) -> Taken:
        """Give the next batch, and deal one more."""
        taken = self._inbox.take(wanted_ns)
        self._tasks[self._worker_of[taken.number]] -= 1
        self._deal(taken.taken_ns)
        return taken

    def _deal(self, now_ns: int) -> None:
        number = len(self._worker_of)
        if number == len(self._costs_ns):
            return
        worker = self._choose()
        self._worker_of.append(worker)
        self._tasks[worker] += 1
        done_ns = max(now_ns, self._free_at_ns[worker]) + self._costs_ns[number]
        self._free_at_ns[worker] = done_ns
        heappush(self._answers, (done_ns, number))

    def _choose(self) -> int:
        """The next worker in turn; one that has room, where order does not matter.

        There is always one: fewer batches are out than all workers together may have.
        """
        dispatch = self._dispatch
        while True:
            worker = self._next_worker
            self._next_worker = (worker + 1) % dispatch.num_workers
            if dispatch.in_order or self._tasks[worker] < dispatch.prefetch_factor:
                return worker
