"""How often the number of workers may change, so that it never goes back and forth."""

from collections import deque

SECOND_NS = 1_000_000_000
FREE_NS = 30 * SECOND_NS  # after the start: as many changes as it takes (guess)
MINUTE_NS = 60 * SECOND_NS
MOST_A_MINUTE = 2  # changes, from then on (guess)
CLEAN_WINDOWS = 3  # in a row before one worker fewer is tried (guess)
FIRST_BACK_OFF_NS = MINUTE_NS  # before more workers are tried again that did not help (guess)
FIRST_SHRINK_WAIT_NS = 9 * SECOND_NS  # guess: three windows
LONGEST_WAIT_NS = 600 * SECOND_NS  # guess


class Pace:
    """Keeps waits between changes; each lesson that fewer or more do not do doubles one."""

    def __init__(self) -> None:
        self._began_ns: int | None = None
        self._counted: deque[int] = deque(maxlen=MOST_A_MINUTE)
        self._newest_ns: int | None = None
        self._shrink_wait_ns = FIRST_SHRINK_WAIT_NS
        self._back_off_ns = FIRST_BACK_OFF_NS
        self._grow_again_ns: int | None = None

    def begin(self, began_ns: int) -> None:
        """Take the start of training in; only the first call counts."""
        if self._began_ns is None:
            self._began_ns = began_ns

    def change(self, now_ns: int) -> None:
        """Count a change."""
        self._newest_ns = now_ns
        if not self._is_free(now_ns):
            self._counted.append(now_ns)

    def may_change(self, now_ns: int) -> bool:
        """Whether one more change is within the most that a minute may have."""
        if self._is_free(now_ns) or len(self._counted) < MOST_A_MINUTE:
            return True
        return now_ns - self._counted[0] >= MINUTE_NS

    def may_grow(self, now_ns: int) -> bool:
        """Whether growing was not found useless lately."""
        waits = self._grow_again_ns is not None and now_ns < self._grow_again_ns
        return not waits and self.may_change(now_ns)

    def may_shrink(self, now_ns: int) -> bool:
        """Whether the last change is long enough ago to try fewer workers.

        After the start a minute has one such try at most: taking it back has to be possible.
        """
        if self._newest_ns is not None and now_ns - self._newest_ns < self._shrink_wait_ns:
            return False
        return not self._counted or now_ns - self._counted[-1] >= MINUTE_NS

    def growth_was_useless(self, now_ns: int) -> None:
        """Wait before growing again, twice as long as the last time."""
        self._grow_again_ns = now_ns + self._back_off_ns
        self._back_off_ns = min(LONGEST_WAIT_NS, 2 * self._back_off_ns)

    def shrink_was_wrong(self) -> None:
        """Wait twice as long before the next try."""
        self._shrink_wait_ns = min(LONGEST_WAIT_NS, 2 * self._shrink_wait_ns)

    def forget_lessons(self) -> None:
        """Begin with the shortest waits again: training is not what it was."""
        self._shrink_wait_ns, self._back_off_ns = FIRST_SHRINK_WAIT_NS, FIRST_BACK_OFF_NS
        self._grow_again_ns = None

    def _is_free(self, now_ns: int) -> bool:
        return self._began_ns is None or now_ns - self._began_ns < FREE_NS
