"""How much memory all rings of this process may take for batches, together."""

import os

from lightning_fastdata.machine import read_machine

FRACTION = 0.5  # of the memory that is free at first use; the rest is for the training itself


class MemoryBudget:
    """Counts the bytes of every slot; train and validation loaders share one.

    Args:
        total_bytes: The limit; ``None`` reads the machine when it is first asked.
    """

    def __init__(self, total_bytes: int | None = None) -> None:
        self._total_bytes = total_bytes
        self.used_bytes = 0

    @property
    def total_bytes(self) -> int:
        """The limit."""
        if self._total_bytes is None:
            machine = read_machine(os.environ)
            available = machine.memory_available_bytes
            # Where the system does not say, only the system itself can refuse.
            limit = 2**62 if available is None else int(available * FRACTION)
            self._total_bytes = limit // machine.local_world_size
        return self._total_bytes

    @property
    def free_bytes(self) -> int:
        """What is left of it."""
        return max(0, self.total_bytes - self.used_bytes)

    def charge(self, size: int) -> None:
        """Count ``size`` bytes more; fewer where it is negative."""
        self.used_bytes += size


BUDGET = MemoryBudget()
"""The one that this process's loaders share."""
