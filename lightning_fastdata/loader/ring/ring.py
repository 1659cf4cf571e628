"""The training process's side of a ring: asks for batches in slots, and makes tensors of them."""

import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.utils.data._utils.pin_memory import pin_memory as pin_tensors

from lightning_fastdata.errors import FastDataError, WorkerError
from lightning_fastdata.loader.buffers import can_pin
from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.ring.budget import BUDGET, MemoryBudget
from lightning_fastdata.loader.ring.failures import (
    is_worth_a_warning,
    raise_failure,
    timed_out,
    warn_of_copies,
    worker_error,
)
from lightning_fastdata.loader.ring.launch import NurseryProcess
from lightning_fastdata.loader.ring.layout import layout_of
from lightning_fastdata.loader.ring.memory import Mapping
from lightning_fastdata.loader.ring.messages import (
    BatchDone,
    Chunk,
    DropSlot,
    Failure,
    MemoryGrew,
    NeedsRoom,
    NewSlot,
    Resize,
    StreamEnded,
    WorkerDied,
)
from lightning_fastdata.loader.ring.opened import (
    MakeTensor,
    batch_of_rows,
    batch_of_tree,
    copied,
)
from lightning_fastdata.loader.ring.pinned import pin
from lightning_fastdata.loader.ring.process import without_interrupts
from lightning_fastdata.loader.ring.rows import WrittenRows
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.loader.ring.slots import Slot, SlotPool
from lightning_fastdata.loader.ring.times import ChunkTimes
from lightning_fastdata.plan import StartMethod

IN_USE = 2  # slots beyond those in flight: the batch in the loop's hands and the one before
LEAST_SHARES = 4  # no batch may take more than a quarter of what is left: two are in use


@dataclass(frozen=True, kw_only=True, slots=True)
class RingBatch:
    """A batch out of the ring, or the news that there is none."""

    number: int
    data: Any
    ended: bool
    """Whether its stream has no more."""
    failure: Failure | None
    """What making it raised; raised again when it is this batch's turn."""
    times: tuple[ChunkTimes, ...]
    arrived_ns: int


class Ring:
    """A nursery and its slots. Nothing is started before the first batch is asked for.

    Args:
        recipe: What to make batches with.
        settings: How the ring is run.
        start_method: How the nursery is started.
        in_flight: Batches asked for at a time; readers who keep batches get slots beyond them.
        pin_memory: Whether slots are page-locked once CUDA is in use.
        timeout_s: How long a batch may take; 0 is for ever.
        budget: Of memory for slots; ``None`` is the one that this process's loaders share.
    """

    def __init__(
        self,
        recipe: Recipe,
        settings: RingSettings,
        start_method: StartMethod,
        *,
        in_flight: int,
        pin_memory: bool,
        timeout_s: float,
        budget: MemoryBudget | None,
    ) -> None:
        self._recipe, self._settings, self._start_method = recipe, settings, start_method
        self._pin_memory, self._timeout_s = can_pin(pin_memory), timeout_s
        self._budget = BUDGET if budget is None else budget
        self._working_slots = in_flight + IN_USE
        self._pool = self._new_pool()
        self._nursery: NurseryProcess | None = None
        self._asked: dict[int, tuple[Chunk, Slot]] = {}
        self._no_room: deque[tuple[Chunk, Slot, int]] = deque()
        self._has_delivered = False
        self._warned_of_copies = False
        self._refused_pin: str | None = None

    @property
    def in_flight(self) -> int:
        """Batches asked for and not yet given."""
        return len(self._asked)

    def ask(self, batch: Chunk) -> bool:
        """Ask for a batch; ``False`` where no slot is to be had."""
        if self._nursery is not None and not self._nursery.is_of_this_process:
            self.close()  # a forked child needs a nursery of its own
        slot = self._pool.take(needs_one=not self._asked)
        if slot is None:
            return False
        self._send(batch, slot)
        return True

    def answer(self) -> RingBatch:
        """Wait for any batch that was asked for.

        Raises:
            WorkerError: If none came in time, or a worker or the nursery died.
            FastDataError: If memory does not suffice.
        """
        self._give_room()
        while True:
            message = self._hear()
            if isinstance(message, BatchDone):
                batch = self._settled(message)
                if batch is not None:
                    return batch
            elif isinstance(message, WorkerDied):
                raise worker_error(message)
            elif isinstance(message, Failure):
                raise_failure(message)
            elif isinstance(message, MemoryGrew):
                self._warn_once(message)

    def _warn_once(self, grew: MemoryGrew) -> None:
        if not self._warned_of_copies and is_worth_a_warning(grew):
            self._warned_of_copies = True
            warn_of_copies(grew)

    def resize(self, num_workers: int) -> None:
        """Have this many workers from now on; chunks under way are finished."""
        self._settings = replace(self._settings, num_workers=num_workers)
        if self._nursery is not None:
            self._tell(Resize(num_workers))

    def close(self) -> None:
        """End all processes, and forget what was asked for. May be called twice."""
        nursery, self._nursery = self._nursery, None
        if nursery is not None and nursery.is_of_this_process:
            nursery.close()
        self._pool.close()
        self._pool = self._new_pool()
        self._asked.clear()
        self._no_room.clear()

    def _hear(self) -> Any:
        assert self._nursery is not None
        try:
            return self._nursery.channel.receive(self._timeout_s or None)[0]
        except TimeoutError:
            raise timed_out(self._timeout_s) from None
        except EOFError:
            raise self._nursery_error() from None

    def _tell(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        assert self._nursery is not None
        try:
            self._nursery.channel.send(message, descriptors)
        except ConnectionError:
            raise self._nursery_error() from None

    def _nursery_error(self) -> WorkerError:
        assert self._nursery is not None
        nursery, self._nursery = self._nursery, None
        return WorkerError(
            f"the process that runs the workers ({nursery.pid}) ended with status "
            f"{nursery.close()}, wanted it to go on. Its output above may say why; a new pass "
            "starts a new one."
        )

    def _send(self, batch: Chunk, slot: Slot) -> None:
        if self._nursery is None:
            with without_interrupts():
                self._nursery = NurseryProcess(self._recipe, self._settings, self._start_method)
        if slot.is_new:
            self._tell(NewSlot(slot.number), [slot.file.descriptor])
            slot.is_new = False
        most_bytes = self._pool.most_bytes(slot, max(LEAST_SHARES, self._working_slots))
        self._asked[batch.number] = (batch, slot)
        self._tell(batch._replace(slot=slot.number, most_bytes=most_bytes))

    def _settled(self, done: BatchDone) -> RingBatch | None:
        batch, slot = self._asked[done.number]
        if isinstance(done.result, NeedsRoom):
            self._find_room(batch, slot, done.result.size)
            return None
        del self._asked[done.number]
        result, data = done.result, None
        failure = result if isinstance(result, Failure) else None
        ended = isinstance(result, StreamEnded)
        if failure is not None or ended:
            self._pool.give_back(slot)
        else:
            data = self._opened(batch, slot, result)
        self._has_delivered = True
        return RingBatch(
            number=done.number,
            data=data,
            ended=ended,
            failure=failure,
            times=done.times,
            arrived_ns=done.arrived_ns,
        )

    def _opened(self, batch: Chunk, slot: Slot, result: Any) -> Any:
        """The batch in a slot, on leases; a copy where its reader has all the slots already."""
        is_rows = isinstance(result, WrittenRows)
        size = layout_of(result.layout).place(batch.batch_size).size if is_rows else result.size
        mapping = slot.file.mapped(max(1, size))
        self._pool.charge(slot, mapping.size)
        keeps = self._pool.can_take()
        if keeps:
            self._pin(mapping)
        loan = self._pool.lend(slot, mapping)
        tensor: MakeTensor = loan.tensor if keeps else partial(copied, mapping)
        if is_rows:
            return batch_of_rows(result, batch.batch_size, tensor)
        data = batch_of_tree(result, tensor)
        # Tensors on page-locked slots stay as they are; classes with a pin_memory have it called.
        return pin_tensors(data) if self._pin_memory else data  # type: ignore[no-untyped-call]

    def _pin(self, mapping: Mapping) -> None:
        # Never the first batch: it is waited for, and a pageable copy of it is sooner done.
        if not self._pin_memory or not self._has_delivered or self._refused_pin:
            return
        if not mapping.is_pinned and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch left it untyped
            self._refused_pin = pin(mapping)
            if self._refused_pin:
                warnings.warn(
                    f"batches are not page-locked: {self._refused_pin}. Copies to the GPU are "
                    "slower; raise the limit of locked memory (ulimit -l), or pass "
                    "pin_memory=False.",
                    stacklevel=2,
                )

    def _find_room(self, batch: Chunk, slot: Slot, size: int) -> None:
        """Let a batch that is larger than expected have what is free, now or when there is more."""
        self._pool.batch_bytes = max(self._pool.batch_bytes, size)
        self._no_room.append((batch, slot, size))
        self._give_room()

    def _give_room(self) -> None:
        while self._no_room:
            batch, slot, size = self._no_room[0]
            stands_still = len(self._no_room) == len(self._asked)
            needs_it = stands_still and size <= self._budget.total_bytes // LEAST_SHARES
            if not self._pool.make_room(slot, size, needs_it=needs_it):
                break
            self._no_room.popleft()
            self._send(batch, slot)
        if self._no_room and len(self._no_room) == len(self._asked):
            raise FastDataError(
                f"a batch takes {self._no_room[0][2] / 1e6:.3g} MB, but only "
                f"{self._budget.free_bytes / 1e6:.3g} MB are left of the "
                f"{self._budget.total_bytes / 1e6:.3g} MB that batches of this process may take. "
                "Use a smaller batch_size, keep fewer batches, or give the process more memory."
            )

    def _new_pool(self) -> SlotPool:
        return SlotPool(self._budget, self._working_slots, self._forget_slot)

    def _forget_slot(self, slot: Slot) -> None:
        if self._nursery is not None and not slot.is_new:
            self._tell(DropSlot(slot.number))
