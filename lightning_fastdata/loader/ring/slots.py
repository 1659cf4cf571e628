"""The slots of one ring: which are free, which are read, and when there may be more."""

import itertools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lightning_fastdata.loader.ring.budget import MemoryBudget
from lightning_fastdata.loader.ring.lease import Loan, Returned
from lightning_fastdata.loader.ring.memory import Mapping, SlotFile, new_file
from lightning_fastdata.loader.ring.pinned import (
    have_passed,
    is_capturing,
    put_events,
    record_events,
)

SLACK = 2  # times the slots that the workers need may lie free; the memory of more is given back
_numbers = itertools.count()  # one for each slot of this process, so that none is taken for another


@dataclass(eq=False, kw_only=True, slots=True)
class Slot:
    """Room for one batch."""

    number: int
    file: SlotFile
    charged_bytes: int = 0
    """What it counts in the budget."""
    is_new: bool = True
    """Whether the nursery has not been sent it yet."""


class SlotPool:
    """Lends slots: to the workers that write a batch, then to whoever reads it.

    Args:
        budget: Shared by all rings of the process.
        working_slots: What the workers need to be busy; a reader who keeps batches may have more,
            but leaves a quarter of the budget to the other rings.
        forget: Called with each slot before it is closed for good.
    """

    def __init__(
        self, budget: MemoryBudget, working_slots: int, forget: Callable[[Slot], None]
    ) -> None:
        self._budget, self._working_slots, self._forget = budget, working_slots, forget
        self._free: list[Slot] = []
        self._returned: deque[Returned] = deque()
        self._pending: deque[Returned] = deque()
        self._slots: set[Slot] = set()
        self._too_many = 0
        self.batch_bytes = 0
        """The largest batch so far: what a further slot is expected to take."""

    def take(self, *, needs_one: bool) -> Slot | None:
        """Lend a free slot, or a new one within the budget; ``None`` where there is neither.

        Args:
            needs_one: Whether the ring stands still without it: then it may go over the budget.
        """
        self._reclaim()
        may_grow = self._may_grow()
        if not self._free and not may_grow and self._pending:
            self._wait_for_oldest()
        if self._free:
            return self._free.pop()  # the one used last: its memory may still be in the cache
        if not may_grow and not needs_one:
            return None
        slot = Slot(number=next(_numbers), file=SlotFile(new_file()))
        self._slots.add(slot)
        self._budget.used_slots += 1
        self.charge(slot, self.batch_bytes)
        return slot

    def resize(self, working_slots: int) -> None:
        """Count on so many slots from now on; those that are too many go as they come free."""
        fewer = self._working_slots - working_slots
        self._working_slots = working_slots
        too_many = min(self._too_many + fewer, len(self._slots) - working_slots)
        self._too_many = max(0, too_many)
        while self._free and self._too_many:
            self._too_many -= 1
            self._drop(self._free.pop(0))  # the one that lay longest

    def can_take(self) -> bool:
        """Whether ``take`` would lend one."""
        self._reclaim()
        return bool(self._free or self._pending) or self._may_grow()

    def most_bytes(self, slot: Slot, sharing: int) -> int:
        """What a batch in this slot may take, where ``sharing`` slots share what is left."""
        return slot.charged_bytes + self._budget.free_bytes // max(1, sharing)

    def charge(self, slot: Slot, size: int) -> None:
        """Count a slot with at least ``size`` bytes from now on."""
        if size > slot.charged_bytes:
            self._budget.charge(size - slot.charged_bytes)
            slot.charged_bytes = size
        self.batch_bytes = max(self.batch_bytes, size)

    def give_back(self, slot: Slot) -> None:
        """Take back a slot that nobody reads."""
        if slot not in self._slots:
            return
        if self._too_many:
            self._too_many -= 1
            self._drop(slot)
        elif len(self._slots) > SLACK * self._working_slots:  # its reader kept batches, once
            self._drop(slot)
        else:
            self._free.append(slot)

    def discard(self, slot: Slot) -> None:
        """Close a slot that somebody may still write to."""
        if slot in self._slots:
            self._drop(slot)

    def lend(self, slot: Slot, mapping: Mapping) -> Loan:
        """Lend a written slot to the readers of its batch; it comes back when the last is gone."""
        return Loan(slot, mapping, self._returned, threading.get_ident())

    def make_room(self, slot: Slot, size: int, *, needs_it: bool) -> bool:
        """Charge a slot with ``size`` bytes, if need be at the cost of free slots.

        Args:
            slot: Lent already.
            size: What its batch takes.
            needs_it: Whether the ring stands still without it: then it may go over the budget.

        Returns:
            Whether there was room.
        """
        self._reclaim()
        needed = size - slot.charged_bytes
        while self._free and self._budget.free_bytes < needed:
            self._drop(self._free.pop(0))
        if self._budget.free_bytes < needed and not needs_it:
            return False
        self.charge(slot, size)
        return True

    def exchange(self, slot: Slot) -> Slot:
        """Give a new slot for one that is lent, whose old memory nobody looks at any more."""
        new = Slot(number=next(_numbers), file=SlotFile(new_file()))
        self._slots.add(new)
        self._budget.used_slots += 1
        self._close(slot)
        self.charge(new, slot.charged_bytes)
        return new

    def forget_nursery(self) -> None:
        """There is a new nursery, which knows no slot yet."""
        for slot in self._slots:
            slot.is_new = True

    def close(self) -> None:
        """Close all slots; those still read stay mapped until their readers are gone."""
        for slot in list(self._slots):
            self._close(slot)
        self._free.clear()

    def _drop(self, slot: Slot) -> None:
        self._forget(slot)
        self._close(slot)

    def _close(self, slot: Slot) -> None:
        self._slots.remove(slot)
        slot.file.close()
        self._budget.used_slots -= 1
        self._budget.charge(-slot.charged_bytes)

    def _may_grow(self) -> bool:
        spare = self._budget.free_bytes - self.batch_bytes
        if len(self._slots) < self._working_slots:
            return spare > 0
        return self._budget.has_a_slot and spare > self._budget.total_bytes // 4

    def _reclaim(self) -> None:
        while self._returned and (self._returned[0].is_ordered or not is_capturing()):
            returned = self._returned.popleft()
            if not returned.is_ordered:
                record_events(returned.events)
            self._pending.append(returned)
        for _ in range(len(self._pending)):
            returned = self._pending.popleft()
            if have_passed(returned.events):
                self._settle(returned)
            else:
                self._pending.append(returned)

    def _wait_for_oldest(self) -> None:
        returned = self._pending.popleft()
        for event in returned.events.values():
            event.synchronize()
        self._settle(returned)

    def _settle(self, returned: Returned) -> None:
        put_events(returned.events)
        self.give_back(returned.slot)
