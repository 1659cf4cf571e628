"""The inline engine: the training process makes its own batches, when it is asked for them."""

from collections import deque
from typing import Any

from torch.utils.data._utils.pin_memory import pin_memory as pin_tensors

from lightning_fastdata.loader.buffers import BufferPool, allocate_pinned, can_pin
from lightning_fastdata.loader.engine import NOTHING, HostBatch, Request
from lightning_fastdata.loader.make import BadSamplesError, BatchMaker, Recipe
from lightning_fastdata.loader.mend import Mender
from lightning_fastdata.loader.stopwatch import Stopwatch


class InlineEngine:
    """No process, no copy: best where a batch costs less than handing it between processes.

    Args:
        recipe: What to make batches with.
        mender: Says what becomes of bad samples.
        pin_memory: Whether gathered tensors are made in page-locked memory.
    """

    def __init__(self, recipe: Recipe, mender: Mender, *, pin_memory: bool) -> None:
        self._mender = mender
        self._pin_memory = can_pin(pin_memory)
        allocate = allocate_pinned if self._pin_memory else BufferPool().allocate
        self._maker = BatchMaker(
            recipe, allocate, restore_generators=True, finds_all_bad=not mender.raises
        )
        self._asked: deque[Request] = deque()
        self.watched = False
        self._stopwatch = Stopwatch(None)

    @property
    def depth(self) -> int:
        """One: nothing is made ahead."""
        return 1

    @property
    def in_flight(self) -> int:
        """Requests submitted and not yet answered."""
        return len(self._asked)

    def submit(self, request: Request) -> None:
        """Note the request; the work is done in ``next``."""
        self._asked.append(request)

    def next(self) -> HostBatch:
        """Make the oldest batch asked for."""
        if self.watched:
            return self._next_watched()
        request, data = self._made(self._asked.popleft())
        return HostBatch(request=request, data=self._pinned(data))

    def _next_watched(self) -> HostBatch:
        maker, stopwatch = self._maker, self._stopwatch
        before = maker.watch, maker.enter
        maker.watch, maker.enter = stopwatch.sample, stopwatch.enter
        stopwatch.begin(closely=True)
        try:
            request, data = self._made(self._asked.popleft())
            stopwatch.enter("pack")
            data = self._pinned(data)
        finally:
            maker.watch, maker.enter = before
        keys = request.keys
        times = stopwatch.stop(samples=len(request.seeds), key_of=lambda row: keys[row])
        return HostBatch(request=request, data=data, times=(times,), arrived_ns=times.ended_ns)

    def _pinned(self, data: Any) -> Any:
        if not self._pin_memory:
            return data
        return pin_tensors(data)  # type: ignore[no-untyped-call]  # torch left it untyped

    def _made(self, request: Request) -> tuple[Request, Any]:
        while not request.is_void:
            try:
                return request, self._maker.make(request)
            except BadSamplesError as error:
                request = self._mender.mend(request, error.samples)
        return request, NOTHING

    def resize(self, num_workers: int, depth: int) -> bool:
        """Say whether nothing is to change: there are no workers here."""
        return num_workers == 0

    def stop(self) -> None:
        """Nothing runs between two batches."""

    def close(self) -> None:
        """Forget what was asked for."""
        self._asked.clear()
