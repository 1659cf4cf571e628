"""The ring engine: batches in shared slots, given in the order in which they were asked for."""

import time
from collections import deque
from typing import Any

import numpy as np

from lightning_fastdata.loader.engine import NOTHING, HostBatch, Request
from lightning_fastdata.loader.make import Recipe, is_rows
from lightning_fastdata.loader.mend import BadSamplePolicy, Mender
from lightning_fastdata.loader.ring.budget import MemoryBudget
from lightning_fastdata.loader.ring.failures import error_of
from lightning_fastdata.loader.ring.messages import Chunk, Mode
from lightning_fastdata.loader.ring.ring import Ring
from lightning_fastdata.loader.ring.ring_batch import RingBatch, nothing_made
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.plan import StartMethod


class RingEngine:
    """Worker processes that write whole batches or rows of them straight into shared memory.

    Args:
        recipe: What to make batches with; it is sent to the workers once.
        settings: How the ring is run.
        mender: Says what becomes of bad samples; ``None`` raises what they raised.
        start_method: How its processes are started.
        depth: Batches in flight.
        pin_memory: Whether slots are page-locked once CUDA is in use.
        timeout_s: How long a batch may take; 0 is for ever.
        in_order: Whether batches come in the order in which they were asked for.
        budget: Of memory; ``None`` is the one that this process's loaders share.
    """

    def __init__(
        self,
        recipe: Recipe,
        settings: RingSettings,
        *,
        mender: Mender | None = None,
        start_method: StartMethod,
        depth: int,
        pin_memory: bool = False,
        timeout_s: float = 0,
        in_order: bool = True,
        budget: MemoryBudget | None = None,
    ) -> None:
        self.watched = False
        self._depth, self._in_order = depth, in_order
        self._sent_ns: dict[int, int] = {}
        self._mender = mender or Mender(recipe.dataset, BadSamplePolicy())
        self._faults: dict[int, Exception] = {}
        self._mode: Mode = "rows" if is_rows(recipe) else "whole"
        self._asked: deque[Request] = deque()
        self._unsent: deque[Request] = deque()
        self._finished: dict[int, RingBatch] = {}
        self._ring = Ring(
            recipe,
            settings,
            start_method,
            in_flight=depth,
            pin_memory=pin_memory,
            timeout_s=timeout_s,
            budget=budget,
        )

    @property
    def depth(self) -> int:
        """Requests that should be in flight."""
        return self._depth

    @property
    def in_flight(self) -> int:
        """Requests submitted and not yet answered."""
        return len(self._asked)

    def submit(self, request: Request) -> None:
        """Ask the workers for one more batch; starts them where there are none yet."""
        self._asked.append(request)
        if request.is_void:
            self._finished[request.number] = nothing_made(request.number)
        else:
            self._unsent.append(request)
        self._send()

    def next(self) -> HostBatch:
        """Wait for the oldest batch, or any with ``in_order=False``.

        Raises:
            WorkerError: If it took longer than the timeout, or a worker died.
            Exception: What the user's own code raised while making the batch.
        """
        batch = self._awaited()
        request = next(request for request in self._asked if request.number == batch.number)
        self._asked.remove(request)
        sent_ns = self._sent_ns.pop(batch.number, None)
        fault = self._faults.pop(batch.number, None)
        if fault is not None:
            raise fault
        if batch.failure is not None:
            raise error_of(batch.failure)
        return HostBatch(
            request=request,
            data=NOTHING if request.is_void else batch.data,
            times=batch.times,
            sent_ns=sent_ns,
            arrived_ns=batch.arrived_ns,
        )

    def resize(self, num_workers: int, depth: int | None = None) -> bool:
        """Have this many workers from now on, without a pause and without changing a batch.

        Args:
            num_workers: How many; those that leave finish what they have been given.
            depth: Batches in flight from now on; ``None`` leaves them as they are.

        Returns:
            Whether it can: a ring has one worker or more.
        """
        if num_workers < 1:
            return False
        self._depth = self._depth if depth is None else depth
        self._ring.resize(num_workers, self._depth)
        return True

    def stop(self) -> None:
        """Stop the workers; new ones make what was asked for, when it is waited for."""
        self._ring.close()
        self._unsent = deque(
            request for request in self._asked if request.number not in self._finished
        )

    def close(self) -> None:
        """Stop the workers and forget what was asked for."""
        self._ring.close()
        self._asked.clear()
        self._unsent.clear()
        self._finished.clear()
        self._faults.clear()
        self._sent_ns.clear()

    def _awaited(self) -> RingBatch:
        while True:
            self._send()
            first = self._asked[0].number if self._in_order else next(iter(self._finished), None)
            found = None if first is None else self._finished.pop(first, None)
            if found is not None:
                return found
            batch = self._ring.answer()
            if batch.bad and self._is_asked_again(batch):
                continue
            self._finished[batch.number] = batch

    def _is_asked_again(self, batch: RingBatch) -> bool:
        """Ask for a batch once more without its bad samples, before those that come after it."""
        place = next(k for k, asked in enumerate(self._asked) if asked.number == batch.number)
        bad = [(one.row, error_of(one.failure)) for one in batch.bad]
        try:
            mended = self._mender.mend(self._asked[place], bad)
        except Exception as error:
            self._faults[batch.number] = error  # raised when it is this batch's turn
            return False
        self._asked[place] = mended
        if mended.is_void:
            return False
        self._unsent.appendleft(mended)
        return True

    def _send(self) -> None:
        while self._unsent and self._ring.ask(self._chunk_of(self._unsent[0])):
            self._sent_ns[self._unsent.popleft().number] = time.perf_counter_ns()

    def _chunk_of(self, request: Request) -> Chunk:
        indices: Any = request.indices
        are_keys = not isinstance(indices, np.ndarray)
        return Chunk(
            number=request.number,
            mode=self._mode,
            epoch=request.epoch,
            indices=self._ring.pickled(indices) if are_keys else indices.astype(np.int64).tobytes(),
            are_keys=are_keys,
            seeds=request.seeds.tobytes(),
            batch_seed=request.batch_seed,
            batch_size=len(request.seeds),
            watched=self.watched,
        )
