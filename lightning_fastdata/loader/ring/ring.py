"""The training process's side of a ring: asks for batches in slots, and makes tensors of them."""

import warnings
from collections import deque
from functools import partial
from typing import Any

import torch
from torch.utils.data._utils.pin_memory import pin_memory as pin_tensors

from lightning_fastdata.errors import FastDataError
from lightning_fastdata.loader.buffers import can_pin
from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.ring.arena import loads
from lightning_fastdata.loader.ring.asked import Asked
from lightning_fastdata.loader.ring.budget import BUDGET, MemoryBudget
from lightning_fastdata.loader.ring.failures import (
    error_of,
    gave_up,
    is_worth_a_warning,
    warn_of_copies,
    warn_of_deadlock,
    warn_of_death,
    warn_of_new_nursery,
)
from lightning_fastdata.loader.ring.layout import layout_of
from lightning_fastdata.loader.ring.memory import Mapping
from lightning_fastdata.loader.ring.messages import (
    BadSamples,
    BatchDone,
    Chunk,
    Deadlocked,
    DropSlot,
    Failure,
    GaveUp,
    MemoryGrew,
    NeedsRoom,
    NewSlot,
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
from lightning_fastdata.loader.ring.ring_batch import RingBatch
from lightning_fastdata.loader.ring.rows import WrittenRows
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.loader.ring.slots import Slot, SlotPool
from lightning_fastdata.loader.ring.tended import NurseryDiedError, TendedNursery
from lightning_fastdata.plan import StartMethod

IN_USE = 2  # slots beyond those in flight: the batch in the loop's hands and the one before
LEAST_SHARES = 4  # no batch may take more than a quarter of what is left: two are in use


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
        self._pin_memory = can_pin(pin_memory)
        self._budget = BUDGET if budget is None else budget
        self._working_slots = in_flight + IN_USE
        self._pool = self._new_pool()
        self._nursery = TendedNursery(recipe, settings, start_method, timeout_s)
        self._asked = Asked()
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
        if self._nursery.is_of_a_parent:
            self.close()  # a forked child needs a nursery of its own
        slot = self._pool.take(needs_one=not self._asked)
        if slot is None:
            return False
        self._send(batch, slot)
        return True

    def answer(self) -> RingBatch:
        """Wait for any batch that was asked for.

        Raises:
            WorkerError: If none came in time, or workers or the nursery end again and again.
            FastDataError: If memory does not suffice.
        """
        self._give_room()
        while True:
            try:
                message = self._nursery.hear()
            except NurseryDiedError as died:
                self._move_over()
                warn_of_new_nursery(str(died))
                continue
            if isinstance(message, BatchDone):
                self._nursery.got_on()
                batch = self._settled(message)
                if batch is not None:
                    return batch
            else:
                self._handle(message)

    def _handle(self, news: Any) -> None:
        """Do what is to be done about anything but a batch."""
        if isinstance(news, WorkerDied):
            for batch, slot in list(self._asked.again(news.lost)):
                self._send(batch, slot)
            warn_of_death(news)
        elif isinstance(news, Deadlocked):
            if self._nursery.restart_afresh(news):
                self._move_over()
                warn_of_deadlock(news)
        elif isinstance(news, GaveUp):
            raise gave_up(news)
        elif isinstance(news, Failure):
            raise error_of(news)
        elif isinstance(news, MemoryGrew):
            self._warn_once(news)

    def _move_over(self) -> None:
        """Ask a new nursery for all that the last one had been asked for.

        In new slots: what is left of the old workers may still write into the old ones.
        """
        self._no_room.clear()
        self._pool.forget_nursery()
        for batch, slot in list(self._asked.again()):
            if batch.are_keys:
                batch = batch._replace(indices=self.pickled(loads(batch.indices)))
            self._send(batch, self._pool.exchange(slot))

    def _warn_once(self, grew: MemoryGrew) -> None:
        if not self._warned_of_copies and is_worth_a_warning(grew):
            self._warned_of_copies = True
            warn_of_copies(grew)

    def pickled(self, keys: Any) -> bytes:
        """Pickle keys of samples for the workers."""
        return self._nursery.pickled(keys)

    def resize(self, num_workers: int, in_flight: int) -> None:
        """Have this many workers and batches from now on; chunks under way are finished."""
        if self._nursery.is_of_a_parent:
            self.close()  # its workers are the parent's
        self._nursery.resize(num_workers)
        self._working_slots = in_flight + IN_USE
        self._pool.resize(self._working_slots)

    def close(self) -> None:
        """End all processes, and forget what was asked for. May be called twice."""
        try:
            self._nursery.close()
        finally:
            self._pool.close()
            self._pool = self._new_pool()
            self._asked.clear()
            self._no_room.clear()

    def _send(self, batch: Chunk, slot: Slot) -> None:
        self._nursery.start()
        self._asked.add(batch, slot)
        if slot.is_new:
            self._nursery.tell(NewSlot(slot.number), [slot.file.descriptor])
            slot.is_new = False
        most_bytes = self._pool.most_bytes(slot, max(LEAST_SHARES, self._working_slots))
        self._nursery.tell(batch._replace(slot=slot.number, most_bytes=most_bytes))

    def _settled(self, done: BatchDone) -> RingBatch | None:
        batch, slot = self._asked.get(done.number)
        if isinstance(done.result, NeedsRoom):
            self._find_room(batch, slot, done.result.size)
            return None
        self._asked.settle(done.number)
        result, data = done.result, None
        failure = result if isinstance(result, Failure) else None
        bad = result.rows if isinstance(result, BadSamples) else ()
        ended = isinstance(result, StreamEnded)
        if failure is not None or bad:
            self._pool.discard(slot)  # other workers may still be at this batch
        elif ended:
            self._pool.give_back(slot)
        else:
            data = self._opened(batch, slot, result)
        self._has_delivered = True
        return RingBatch(
            number=done.number,
            data=data,
            ended=ended,
            failure=failure,
            bad=bad,
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
        if self._nursery.is_running and not slot.is_new:
            self._nursery.tell(DropSlot(slot.number))
