"""The batches of an ``IterableDataset`` through a ring: torch's semantics and order."""

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from lightning_fastdata.errors import FastDataError
from lightning_fastdata.loader.engine import StreamTimes
from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.ring.budget import MemoryBudget
from lightning_fastdata.loader.ring.failures import error_of
from lightning_fastdata.loader.ring.messages import SEED_BYTES, Chunk
from lightning_fastdata.loader.ring.ring import Ring
from lightning_fastdata.loader.ring.ring_batch import RingBatch
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.plan import StartMethod


class RingStream:
    """Every worker goes over the dataset, and their batches are taken in turn.

    A worker whose iterator has ended is left out from then on; so the order is torch's own.

    Args:
        recipe: What to make batches with; it is sent to the workers once.
        settings: How the ring is run.
        start_method: How its processes are started.
        prefetch: Batches ahead of each worker.
        pin_memory: Whether slots are page-locked once CUDA is in use.
        timeout_s: How long a batch may take; 0 is for ever.
        in_order: Whether the workers' batches are taken strictly in turn.
        budget: Of memory; ``None`` is the one that this process's loaders share.
    """

    def __init__(
        self,
        recipe: Recipe,
        settings: RingSettings,
        *,
        start_method: StartMethod,
        prefetch: int,
        pin_memory: bool = False,
        timeout_s: float = 0,
        in_order: bool = True,
        budget: MemoryBudget | None = None,
    ) -> None:
        self.watched = False
        self.latest: StreamTimes | None = None
        self._settings, self._prefetch = settings, prefetch
        self._in_order, self._closed = in_order, False
        self._ring = Ring(
            recipe,
            settings,
            start_method,
            in_flight=settings.num_workers * prefetch,
            pin_memory=pin_memory,
            timeout_s=timeout_s,
            budget=budget,
        )
        self._number = 0

    def batches(self, epoch: int, seed: int = 0) -> Iterator[Any]:
        """Go over the stream once.

        Args:
            epoch: Told to the dataset's ``set_epoch``.
            seed: Of the generators of worker 0; each further worker's is one more.

        Raises:
            Exception: What the user's own code raised, when it is that batch's turn.
            FastDataError: If the loader was closed meanwhile; what the workers had made is lost.
        """
        self._closed = False
        self._forget_last_pass()
        course = _Course(self._settings.num_workers, self._prefetch)
        while not self._closed:
            while course.wants_more() and self._ask(course, epoch, seed):
                pass
            if not course.active:
                return
            if not course.waiting:  # no slot is free: those of a worker that ended will be
                self._ring.answer()
                continue
            batch = self._awaited(course)
            if batch.ended:
                course.end_of(batch.number)
                continue
            course.waiting.pop(batch.number)
            asked_ns = course.asked_ns.pop(batch.number)
            self.latest = StreamTimes(asked_ns, batch.arrived_ns, batch.times)
            if batch.failure is not None:
                raise error_of(batch.failure)
            data = batch.data
            del batch  # no name may hold it here: its memory would stay in use one batch longer
            yield data
            del data
        raise FastDataError(
            "the loader was closed while a pass over its stream went on, wanted a pass that "
            "ends before. Begin a new pass: a stream cannot go on from where its workers were."
        )

    def close(self) -> None:
        """Stop the workers."""
        self._closed = True
        self._ring.close()

    def _forget_last_pass(self) -> None:
        """Wait for what a pass that was left half way had asked for; nobody wants it now."""
        try:
            while self._ring.in_flight:
                self._ring.answer()
        except Exception:  # of a batch that nobody will see
            self._ring.close()

    def _ask(self, course: "_Course", epoch: int, seed: int) -> bool:
        worker = course.active[0]
        batch = Chunk(
            number=self._number,
            mode="stream" if worker in course.begun else "new stream",
            epoch=epoch,
            seeds=((seed + worker) % 2**64).to_bytes(SEED_BYTES, "little"),
            worker=worker,
            place=course.places[worker],
            watched=self.watched,
        )
        if not self._ring.ask(batch):
            return False
        course.ask_of(worker, self._number)
        self._number += 1
        return True

    def _awaited(self, course: "_Course") -> RingBatch:
        while True:
            number = min(course.waiting)
            if number not in course.finished and not self._in_order and course.finished:
                number = min(course.finished)
            if number in course.finished:
                return course.finished.pop(number)
            batch = self._ring.answer()
            if batch.number in course.waiting:
                course.finished[batch.number] = batch


class _Course:
    """One pass: which workers still have batches, and what each was asked for."""

    def __init__(self, num_workers: int, prefetch: int) -> None:
        self.active = deque(range(num_workers))
        """Workers that have not ended, the next to be asked first."""
        self.begun: set[int] = set()
        self.places = [0] * num_workers
        """How many batches each worker has been asked for."""
        self.waiting: dict[int, int] = {}
        """Numbers of the batches asked for, each with its worker."""
        self.asked_ns: dict[int, int] = {}
        self.finished: dict[int, RingBatch] = {}
        self._prefetch = prefetch

    def wants_more(self) -> bool:
        return len(self.waiting) < self._prefetch * len(self.active)

    def ask_of(self, worker: int, number: int) -> None:
        self.begun.add(worker)
        self.places[worker] += 1
        self.waiting[number] = worker
        self.asked_ns[number] = time.perf_counter_ns()
        self.active.rotate(-1)

    def end_of(self, number: int) -> None:
        """Leave a worker out that has no more; all else that it was asked for is void."""
        worker = self.waiting[number]
        self.active.remove(worker)
        for other in [other for other, by in self.waiting.items() if by == worker]:
            del self.waiting[other]
            self.finished.pop(other, None)
            self.asked_ns.pop(other, None)
