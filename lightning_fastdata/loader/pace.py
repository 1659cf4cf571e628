"""How long the loop keeps a batch: the loader's own view of a training step."""

import statistics
import time
from collections import deque

_STEPS_NEEDED, _STEPS_REMEMBERED = 10, 256  # guess: enough for a median that follows a change


class Pace:
    """Remembers the most recent steps, so that its size does not grow with the run."""

    def __init__(self) -> None:
        self.steps = 0
        """All that were seen, however few of them are remembered."""
        self._first_given_ns: int | None = None
        self._given_ns = 0
        self._steps_ns: deque[int] = deque(maxlen=_STEPS_REMEMBERED)

    def give(self) -> None:
        """Note that the loop gets a batch now."""
        self._given_ns = time.perf_counter_ns()
        if self._first_given_ns is None:
            self._first_given_ns = self._given_ns

    def ask(self) -> None:
        """Note that the loop asks for the next one now."""
        self._steps_ns.append(time.perf_counter_ns() - self._given_ns)
        self.steps += 1

    def used_s(self) -> float:
        """Seconds from the first batch to the newest."""
        return (
            0.0 if self._first_given_ns is None else (self._given_ns - self._first_given_ns) / 1e9
        )

    def median_s(self) -> float | None:
        """Seconds of a typical step, without its wait for data; ``None`` until enough were seen.

        On an accelerator this is the host's share of a step, which is less than the whole while the
        host runs ahead.
        """
        if len(self._steps_ns) < _STEPS_NEEDED:
            return None
        return statistics.median(self._steps_ns) / 1e9
