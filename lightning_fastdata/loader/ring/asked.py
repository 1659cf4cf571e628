"""What a ring has been asked for and has not answered: enough to ask for it all again."""

from collections.abc import Iterable, Iterator

from lightning_fastdata.loader.ring.messages import Chunk
from lightning_fastdata.loader.ring.slots import Slot


class Asked:
    """Batches in flight, each with its slot, the oldest first."""

    def __init__(self) -> None:
        self._batches: dict[int, tuple[Chunk, Slot]] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, batch: Chunk, slot: Slot) -> None:
        """Note a batch that is asked for, perhaps once more."""
        self._batches[batch.number] = (batch, slot)

    def get(self, number: int) -> tuple[Chunk, Slot]:
        """A batch and its slot."""
        return self._batches[number]

    def settle(self, number: int) -> None:
        """Forget a batch that has been answered."""
        del self._batches[number]

    def clear(self) -> None:
        """Forget all."""
        self._batches.clear()

    def again(self, numbers: Iterable[int] | None = None) -> Iterator[tuple[Chunk, Slot]]:
        """Give what has to be asked for once more: all, or the batches with these numbers."""
        for number in sorted(self._batches if numbers is None else numbers):
            yield self._batches[number]
