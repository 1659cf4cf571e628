"""The training process's side of an engine: it reads answers as they arrive."""

from collections.abc import Callable
from typing import NamedTuple, Protocol


class Taken(NamedTuple):
    """A batch that the loop has got."""

    number: int
    arrived_ns: int
    """When it could have been taken."""
    taken_ns: int


class Source(Protocol):
    """Where batches come from."""

    def take(self, wanted_ns: int) -> Taken:
        """Give the next batch to a loop that wants it at this moment."""


class Inbox:
    """Reads answers one after the other, and keeps those that come before their turn.

    An answer costs the training process the same whether it is given out at once or kept.

    Args:
        next_answer: Gives the earliest answer that has not been given: when it left, and its batch.
        in_order: Whether batches are given in the order in which they were asked for.
        next_ns: Time to read one.
        transit_ns: From the worker's end of a batch to where it can be read.
    """

    def __init__(
        self,
        next_answer: Callable[[], tuple[int, int]],
        *,
        in_order: bool,
        next_ns: int,
        transit_ns: int,
    ) -> None:
        self._next_answer, self._in_order = next_answer, in_order
        self._next_ns, self._transit_ns = next_ns, transit_ns
        self._early: dict[int, int] = {}
        self._turn = 0

    def take(self, wanted_ns: int) -> Taken:
        """Read until the batch whose turn it is has been read."""
        now_ns = wanted_ns
        while True:
            if self._in_order and self._turn in self._early:
                arrived_ns = self._early.pop(self._turn)
                self._turn += 1
                return Taken(self._turn - 1, arrived_ns, now_ns)
            left_ns, number = self._next_answer()
            arrived_ns = left_ns + self._transit_ns
            now_ns = max(now_ns, arrived_ns) + self._next_ns
            if not self._in_order:
                return Taken(number, arrived_ns, now_ns)
            self._early[number] = arrived_ns
