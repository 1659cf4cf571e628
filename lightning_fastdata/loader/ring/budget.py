"""What the slots of all rings of this process may take, together: memory and open files."""

import os
import resource

from lightning_fastdata.machine import read_machine

MEMORY_FRACTION = 0.5  # of what is free at first use; the rest is for the training itself
FILES_FRACTION = 0.25  # of the files that a process may open: each slot is one in every process


class MemoryBudget:
    """Counts every slot; train and validation loaders share one budget.

    Args:
        total_bytes: The limit; ``None`` reads the machine when it is first asked.
        most_slots: How many there may be; ``None`` goes by how many files a process may open.
    """

    def __init__(self, total_bytes: int | None = None, most_slots: int | None = None) -> None:
        self._total_bytes, self._most_slots = total_bytes, most_slots
        self.used_bytes = 0
        self.used_slots = 0

    @property
    def total_bytes(self) -> int:
        """The limit."""
        if self._total_bytes is None:
            machine = read_machine(os.environ)
            available = machine.memory_available_bytes
            # Where the system does not say, only the system itself can refuse.
            limit = 2**62 if available is None else int(available * MEMORY_FRACTION)
            self._total_bytes = limit // machine.local_world_size
        return self._total_bytes

    @property
    def free_bytes(self) -> int:
        """What is left of it."""
        return max(0, self.total_bytes - self.used_bytes)

    @property
    def has_a_slot(self) -> bool:
        """Whether one more file may be opened for a slot."""
        most_slots = self._most_slots
        if most_slots is None:  # asked each time: a program may change its limits
            most_slots = int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * FILES_FRACTION)
        return self.used_slots < most_slots

    def charge(self, size: int) -> None:
        """Count ``size`` bytes more; fewer where it is negative."""
        self.used_bytes += size


BUDGET = MemoryBudget()
"""The one that this process's loaders share."""
