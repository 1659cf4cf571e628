"""The ring engine: batches in shared slots, given in the order in which they were asked for."""

import warnings
from collections import deque
from typing import Any

import cloudpickle  # type: ignore[import-untyped]  # it ships no types
import numpy as np
import torch

from lightning_fastdata.errors import WorkerError
from lightning_fastdata.loader.engine import HostBatch, Request
from lightning_fastdata.loader.make import Recipe, is_rows
from lightning_fastdata.loader.ring.arena import dumps
from lightning_fastdata.loader.ring.budget import BUDGET, MemoryBudget
from lightning_fastdata.loader.ring.failures import raise_failure
from lightning_fastdata.loader.ring.messages import Chunk, Mode
from lightning_fastdata.loader.ring.ring import Ring, RingBatch
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.plan import StartMethod

IN_USE = 2  # slots beyond those in flight: the batch in the loop's hands and the one before


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
        self._depth, self._timeout_s, self._in_order = depth, timeout_s, in_order
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
            pin_memory and can_pin(),
            BUDGET if budget is None else budget,
            depth + IN_USE,
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
        try:
            batch = self._awaited()
        except Exception:
            raise
        except BaseException:  # ctrl-C may have cut a message in two
            self.stop()
            raise
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
            try:
                batch = self._ring.answer(self._timeout_s or None)
            except TimeoutError:
                raise timed_out(self._timeout_s) from None
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
            slot=0,
            most_bytes=0,
            mode=self._mode,
            epoch=request.epoch,
            indices=self._pickle(indices) if are_keys else indices.astype(np.int64).tobytes(),
            are_keys=are_keys,
            seeds=request.seeds.tobytes(),
            batch_seed=request.batch_seed,
            first_row=0,
            batch_size=len(request.seeds),
            worker=None,
        )


def can_pin() -> bool:
    """Whether there is a CUDA device to page-lock for; warns where there is none."""
    if torch.cuda.is_available():
        return True
    warnings.warn(
        "pin_memory=True, but there is no CUDA device to copy to: batches are not pinned. "
        "Leave pin_memory out where there is none.",
        stacklevel=2,
    )
    return False


def timed_out(timeout_s: float) -> WorkerError:
    """The error of a batch that takes too long."""
    return WorkerError(
        f"DataLoader timed out after {timeout_s:g} seconds: no batch came from the workers, wanted "
        "one. Pass a longer timeout, or look at what the dataset waits for."
    )
