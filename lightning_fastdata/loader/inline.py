"""The inline engine: the training process makes its own batches, when it is asked for them."""

from collections import deque
from typing import Any

from torch.utils.data._utils.pin_memory import pin_memory as pin_tensors

from lightning_fastdata.loader.buffers import BufferPool, allocate_pinned, can_pin
from lightning_fastdata.loader.engine import NOTHING, HostBatch, Request
from lightning_fastdata.loader.make import BadSamplesError, BatchMaker, Recipe
from lightning_fastdata.loader.mend import Mender


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
        request, data = self._made(self._asked.popleft())
        if self._pin_memory:
            data = pin_tensors(data)  # type: ignore[no-untyped-call]  # torch left it untyped
        return HostBatch(request=request, data=data)

    def _made(self, request: Request) -> tuple[Request, Any]:
        while not request.is_void:
            try:
                return request, self._maker.make(request)
            except BadSamplesError as error:
                request = self._mender.mend(request, error.samples)
        return request, NOTHING

    def stop(self) -> None:
        """Nothing runs between two batches."""

    def close(self) -> None:
        """Forget what was asked for."""
        self._asked.clear()
