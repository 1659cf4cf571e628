"""What a worker is at this moment, where its nursery can read it even after its death."""

import mmap

from lightning_fastdata.loader.make import NO_ROW

_BEATS, _ROW, _CHUNKS = range(3)


class Board:
    """Three numbers in memory that a worker shares with its nursery; only the worker writes.

    Made before the fork, so that nothing has to be sent. Each number is written at one go, so that
    a worker that is killed meanwhile leaves the old or the new one.
    """

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")

    def at_row(self, row: int) -> None:
        """Note which sample of its chunk the worker makes now, or ``NO_ROW``."""
        words = self._words
        words[_ROW] = row
        words[_BEATS] += 1

    def takes_chunk(self) -> None:
        """Note that the worker begins a chunk."""
        self._words[_CHUNKS] += 1
        self.at_row(NO_ROW)

    @property
    def beats(self) -> int:
        """Grows whenever the worker gets on; if it does not for long, the worker is stuck."""
        return self._words[_BEATS]

    @property
    def row(self) -> int:
        """Which sample of its chunk it makes, from 0 on, or ``NO_ROW``."""
        return self._words[_ROW]

    @property
    def chunks(self) -> int:
        """How many chunks it has begun."""
        return self._words[_CHUNKS]
