"""How often a thread is found at which line: its Python stack, looked at some times a second.

A look needs the interpreter's lock, so it comes when the watched thread gives that up. C code that
releases the lock is seen while it runs. C code that holds it is seen as it ends: at the line that
called it, if it was called as a function; an operator (``a + b`` of two lists) may be seen one call
later. The looks that became due while the lock was held are then counted all at once, or else such
code would seem as quick as one look.

Python asks a thread for the lock only once another has waited for 5 ms. A dataset that releases it
more often than that would always be seen where it does so: of a loop in Python that took 63 % of
the time and a read of a file that took 4 %, the read was found in 97 % of all looks. So while a
sampler runs, the process asks after 0.1 ms: then it was 13 %. Two busy threads in Python change
places more often then; two of them were slower by less than the noise of the machine.

A look takes 0.05 to 0.3 ms of a core, more where C code holds the lock for long. Looks become rarer
where they would take more than 1 % together, and each then counts for the time since the last.
"""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Protocol

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.trace.blame import Blame
from lightning_fastdata.trace.work import LINES_KEPT, Line

MOST_LOOKS_PER_S = 100.0
SWITCH_INTERVAL_S = 1e-4
MOST_COST_FRACTION = 0.01
_LONGEST_PAUSE_S = 1.0  # guess: chunks are not longer, and would be blamed for each other
_MOST_AT_ONCE = 3000  # guess: a minute at 50 a second; a stopped process is not a slow line
_GOLDEN = 0.618034  # steps of it, modulo 1, fill the unit interval evenly and never repeat


class Waited(Protocol):
    """What a lock can do that is needed here."""

    def acquire(self, *, timeout: float = -1) -> bool:
        """Wait until it is released."""

    def release(self) -> None:
        """End the wait."""


class LineCounts:
    """How often looks found a thread at each line."""

    __slots__ = ("lines", "looks")

    def __init__(self) -> None:
        self.lines: dict[Line, int] = {}
        """The first 2,048 lines."""
        self.looks = 0
        """All looks."""

    def add(self, line: Line, looks: int) -> None:
        """Count looks that found the thread at ``line``."""
        self.looks += looks
        if line in self.lines or len(self.lines) < LINES_KEPT:
            self.lines[line] = self.lines.get(line, 0) + looks


class LineSampler:
    """Looks at another thread's stack ``per_s`` times a second, from a thread of its own.

    It counts between ``begin`` and ``take``, or wherever ``into`` says. After a fork the child has
    no such thread; ``start`` makes it a new one, and ``stop`` does nothing.

    Args:
        thread_id: ``threading.get_ident()`` of the thread to watch.
        per_s: Looks a second on average, above 0, at most 100.
        into: Asked at each look where to count it; ``None``: nowhere. With a ``LineCounts`` for
            each thing that may be going on, they are told apart.
        switches_soon: Whether Python's threads may change places every tenth of a millisecond
            meanwhile, not every five: a line that lets go of the lock is else blamed for those
            before it. Not for a process whose own threads it would disturb.
        frames: Gives the innermost frame of each thread.
        clock_ns: Tells how many looks are due.
        cpu_ns: Tells what the calling thread has taken of its core.
        make_lock: Makes the lock that a sampling thread tries to get: it is released at the end.

    Attributes:
        problem: Why looking ended by itself; ``None`` while all is well.
    """

    def __init__(
        self,
        thread_id: int,
        *,
        per_s: float = 50.0,
        into: Callable[[], LineCounts | None] | None = None,
        switches_soon: bool = True,
        frames: Callable[[], Mapping[int, FrameType]] = sys._current_frames,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        cpu_ns: Callable[[], int] = time.thread_time_ns,
        make_lock: Callable[[], Waited] = threading.Lock,
    ) -> None:
        if not 0 < per_s <= MOST_LOOKS_PER_S:
            raise SettingsError(
                f"per_s={per_s!r}, wanted looks a second above 0 and at most "
                f"{MOST_LOOKS_PER_S:g}: each one holds up the watched thread. Pass fewer."
            )
        self.problem: str | None = None
        self._thread_id = thread_id
        self._interval_ns = 1e9 / per_s
        self._into = self._begun if into is None else into
        self._switches_soon = switches_soon
        self._frames = frames
        self._clock_ns = clock_ns
        self._cpu_ns = cpu_ns
        self._make_lock = make_lock
        self._blame = Blame()
        self._counts: LineCounts | None = None
        self._running: tuple[threading.Thread, Waited] | None = None
        self._usual_switch_interval_s: float | None = None

    def start(self) -> None:
        """Begin to look, if that has not begun."""
        if self._running is not None and self._running[0].is_alive():
            return
        self.problem = None
        # New each time: after a fork the old one may have been copied while it was locked.
        # Not an Event, which takes half as long again to wait for.
        ended = self._make_lock()
        ended.acquire()
        thread = threading.Thread(
            target=self._look_until, args=(ended,), name="LineSampler", daemon=True
        )
        self._running = thread, ended
        if self._switches_soon:
            if self._usual_switch_interval_s is None:
                self._usual_switch_interval_s = sys.getswitchinterval()
            sys.setswitchinterval(min(SWITCH_INTERVAL_S, self._usual_switch_interval_s))
        try:
            thread.start()
        except RuntimeError as error:  # no more threads here; measuring never ends what it measures
            self.problem = str(error)
            self.stop()

    def stop(self) -> None:
        """End looking, wait until its thread has ended, and let threads change places as before."""
        if self._running is not None and self._running[0].is_alive():
            thread, ended = self._running
            ended.release()
            thread.join()
        self._running = None
        if self._usual_switch_interval_s is not None:
            sys.setswitchinterval(self._usual_switch_interval_s)
            self._usual_switch_interval_s = None

    def begin(self) -> None:
        """Count from here on, in the watched thread."""
        self._counts = LineCounts()

    def take(self) -> tuple[tuple[tuple[Line, int], ...], int]:
        """Count no longer, and return each line with its looks, and all looks since ``begin``."""
        # A look that is being counted meanwhile may be lost; nobody waits for anybody.
        counts, self._counts = self._counts, None
        return ((), 0) if counts is None else (tuple(counts.lines.copy().items()), counts.looks)

    def _begun(self) -> LineCounts | None:
        return self._counts

    def _look_until(self, ended: Waited) -> None:
        try:
            due = _Due(self._interval_ns, self._clock_ns())
            cpu_ns, pause_s = self._cpu_ns(), 0.0
            while not ended.acquire(
                timeout=max(min(pause_s, _LONGEST_PAUSE_S), due.left_s(self._clock_ns()))
            ):
                looks = due.passed(self._clock_ns())
                if looks:
                    self._look(looks)
                # With what waiting took: the wait for the interpreter's lock is what may be dear.
                before_ns, cpu_ns = cpu_ns, self._cpu_ns()
                pause_s = due.uneven((cpu_ns - before_ns) / 1e9 / MOST_COST_FRACTION)
        except Exception as error:  # measuring never ends what it measures
            self.problem = f"{type(error).__name__}: {error}"

    def _look(self, looks: int) -> None:
        counts = self._into()
        if counts is None:
            return
        # No name for the mapping: it holds this very frame, which would then live on in a circle.
        frame = self._frames().get(self._thread_id)
        if frame is not None:
            counts.add(self._blame.line_of(frame), looks)


class _Due:
    """When looks are due: not evenly, or they would always meet the same part of what repeats."""

    def __init__(self, interval_ns: float, now_ns: int) -> None:
        self._interval_ns = interval_ns
        self._part = 0.0
        self._next_ns = float(now_ns)
        self._step(now_ns)

    def left_s(self, now_ns: int) -> float:
        """How long until the next one."""
        return max(0.0, self._next_ns - now_ns) / 1e9

    def passed(self, now_ns: int) -> int:
        """How many have become due since the last call."""
        looks = 0
        while self._next_ns <= now_ns:
            if looks == _MOST_AT_ONCE:
                self._step(now_ns)
                break
            self._step(self._next_ns)
            looks += 1
        return looks

    def uneven(self, length: float) -> float:
        """Half to one and a half of a length, the whole on average."""
        self._part = (self._part + _GOLDEN) % 1.0
        return (0.5 + self._part) * length

    def _step(self, from_ns: float) -> None:
        self._next_ns = from_ns + self.uneven(self._interval_ns)
