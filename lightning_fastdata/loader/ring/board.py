"""What a worker is at this moment, where its nursery can read it even after its death."""

import mmap

_CHUNK_SHIFT, _ROW_MASK = 32, 2**32 - 1


class Board:
    """One number in memory that a worker shares with its nursery; only the worker writes.

    Made before the fork, so that nothing has to be sent. It is written at one go, so that a worker
    that is killed meanwhile leaves the old or the new one; and once a sample, so that it has to be
    quick: the number of the chunk and the row in it are one word.
    """

    def __init__(self) -> None:
        self._word = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
        self._first = 1

    def at_row(self, row: int) -> None:
        """Note which sample of its chunk the worker makes now, or ``NO_ROW``, which is -1."""
        self._word[0] = self._first + row

    def takes_chunk(self) -> None:
        """Note that the worker begins a chunk."""
        self._first += 1 << _CHUNK_SHIFT
        self._word[0] = self._first - 1

    @property
    def beats(self) -> int:
        """Changes whenever the worker gets on; if it does not for long, the worker is stuck."""
        return self._word[0]

    @property
    def row(self) -> int:
        """Which sample of its chunk it makes, from 0 on, or ``NO_ROW``."""
        return (self._word[0] & _ROW_MASK) - 1

    @property
    def chunks(self) -> int:
        """How many chunks it has begun."""
        return self._word[0] >> _CHUNK_SHIFT
