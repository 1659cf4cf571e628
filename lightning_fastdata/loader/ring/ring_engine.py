"""The ring engine: batches in shared slots, given in the order in which they were asked for."""

from collections import deque
from typing import Any

import cloudpickle  # type: ignore[import-untyped]  # it ships no types
import numpy as np

from lightning_fastdata.loader.engine import HostBatch, Request
from lightning_fastdata.loader.make import Recipe, is_rows
from lightning_fastdata.loader.ring.arena import dumps
from lightning_fastdata.loader.ring.budget import MemoryBudget
from lightning_fastdata.loader.ring.failures import raise_failure
from lightning_fastdata.loader.ring.messages import Chunk, Mode
from lightning_fastdata.loader.ring.ring import Ring, RingBatch
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.plan import StartMethod


class RingEngine:
    """Worker processes that write whole batches or rows of them straight into shared memory.

    Args:
        recipe: What to make batches with; it is sent to the workers once.
        settings: How the ring is run.
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
        start_method: StartMethod,
        depth: int,
        pin_memory: bool = False,
        timeout_s: float = 0,
        in_order: bool = True,
        budget: MemoryBudget | None = None,
    ) -> None:
        self._depth, self._in_order = depth, in_order
        self._mode: Mode = "rows" if is_rows(recipe) else "whole"
        # A forked worker has the main module's classes, a fresh one has to be sent them.
        self._pickle = dumps if start_method == "fork" else cloudpickle.dumps
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
        if batch.failure is not None:
            raise_failure(batch.failure)
        return HostBatch(
            request=request, data=batch.data, times=batch.times, arrived_ns=batch.arrived_ns
        )

    def resize(self, num_workers: int) -> None:
        """Have this many workers from now on, without a pause and without changing a batch."""
        self._ring.resize(num_workers)

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

    def _awaited(self) -> RingBatch:
        while True:
            self._send()
            if self._in_order:
                found = self._finished.pop(self._asked[0].number, None)
                if found is not None:
                    return found
            batch = self._ring.answer()
            if not self._in_order:
                return batch
            self._finished[batch.number] = batch

    def _send(self) -> None:
        while self._unsent and self._ring.ask(self._chunk_of(self._unsent[0])):
            self._unsent.popleft()

    def _chunk_of(self, request: Request) -> Chunk:
        indices: Any = request.indices
        are_keys = not isinstance(indices, np.ndarray)
        return Chunk(
            number=request.number,
            mode=self._mode,
            epoch=request.epoch,
            indices=self._pickle(indices) if are_keys else indices.astype(np.int64).tobytes(),
            are_keys=are_keys,
            seeds=request.seeds.tobytes(),
            batch_seed=request.batch_seed,
            batch_size=len(request.seeds),
        )
