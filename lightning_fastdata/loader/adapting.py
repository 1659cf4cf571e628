"""Keeps a loader's number of workers right while training runs: measures windows, applies changes.

It stands before an engine, as the profiler does, and decides nothing: what a window means is the
controller's business, and what the other ranks of the machine need is the agreement's.
"""

import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import Protocol

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.loader.engine import Engine, HostBatch, Request
from lightning_fastdata.loader.exposure import Exposure
from lightning_fastdata.loader.meter import Meter
from lightning_fastdata.trace.changes import MOST_CHANGES, PlanChange
from lightning_fastdata.tuning.control.window import Window


class Controls(Protocol):
    """Says how many workers there are to be."""

    @property
    def changes(self) -> tuple[PlanChange, ...]:
        """What it decided, newest last."""

    @property
    def why_not(self) -> str | None:
        """Why nothing was changed though the newest window stalled; ``None``: no such window."""

    def see(self, window: Window) -> PlanChange | None:
        """Take a window in; give the change to make now, if any."""


class Agrees(Protocol):
    """Finds one number for all ranks of a machine."""

    @property
    def reason(self) -> str | None:
        """Whose wish it is, where it is not this rank's own."""

    def propose(self, num_workers: int, stall_fraction: float) -> int:
        """Show a wish; give the number to use now."""


class Adaptation:
    """What one loader has learnt of its speed, kept from pass to pass.

    Args:
        controls: Makes the controller, when the first window has ended, for so many workers.
        agrees: Makes what ranks agree by, for so many workers.
    """

    def __init__(
        self, controls: Callable[[int], Controls], agrees: Callable[[int], Agrees]
    ) -> None:
        self._new_controls, self._new_agrees = controls, agrees
        self._controls: Controls | None = None
        self._agrees: Agrees | None = None
        self._agreed: deque[PlanChange] = deque(maxlen=MOST_CHANGES)
        self._overruled: deque[int] = deque(maxlen=MOST_CHANGES)
        """When the controller decided what was not done: other ranks, or the loader, refused."""
        self.newest: Window | None = None
        """The window that ended last; ``None``: none has."""
        self.has_failed = False
        """Whether a change could not be found or made, after which the number stays as it is."""
        self.rest: Meter | None = None
        """What a pass measured at its end, too short for a window; the next pass goes on with it.
        """

    @property
    def is_first(self) -> bool:
        """Whether there was no window yet."""
        return self._controls is None

    @property
    def changes(self) -> tuple[PlanChange, ...]:
        """How the number of workers changed, newest last."""
        own = () if self._controls is None else self._controls.changes
        made = [change for change in own if change.at_ns not in self._overruled]
        both = sorted([*made, *self._agreed], key=lambda change: change.at_ns)
        return tuple(both[-MOST_CHANGES:])

    @property
    def why_no_change(self) -> str | None:
        """Why the number stayed as it was though the newest window stalled; else ``None``."""
        if self._controls is None or self.newest is None or self.has_failed:
            return None
        at_ns = self.newest.ended_ns
        if self._agreed and self._agreed[-1].at_ns == at_ns:
            return None  # others have changed it
        if self._overruled and self._overruled[-1] == at_ns and self._agrees is not None:
            return self._agrees.reason
        return self._controls.why_not

    def join(self, num_workers: int) -> None:
        """Take part in what ranks agree by, once.

        Best at a loader's first pass, to which all ranks come alike: where there are several
        loaders, their first windows need not end in the same order.
        """
        if self._agrees is None:
            self._agrees = self._new_agrees(num_workers)

    def give_up(self) -> None:
        """Leave the number as it is from now on; what was decided last has not been done."""
        self.has_failed = True
        if self.newest is not None:
            at_ns = self.newest.ended_ns
            self._overruled.append(at_ns)
            if self._agreed and self._agreed[-1].at_ns == at_ns:
                self._agreed.pop()

    def see(self, window: Window) -> tuple[int, str]:
        """Take a window in; give the number of workers to have now, and why."""
        self.newest = window
        self.join(window.num_workers)
        assert self._agrees is not None
        if self._controls is None:
            self._controls = self._new_controls(window.num_workers)
        change = self._controls.see(window)
        wanted = window.num_workers if change is None else change.after
        agreed = self._agrees.propose(wanted, window.stall_fraction)
        if agreed == wanted:
            return wanted, "" if change is None else change.reason
        if change is not None:
            self._overruled.append(change.at_ns)
        why = self._agrees.reason or f"the ranks of this machine agreed on {agreed} workers"
        if agreed != window.num_workers:
            self._note(window, agreed, why)
        return agreed, why

    def _note(self, window: Window, agreed: int, why: str) -> None:
        self._agreed.append(
            PlanChange(
                at_ns=window.ended_ns,
                kind="grow" if agreed > window.num_workers else "shrink",
                before=window.num_workers,
                after=agreed,
                reason=why,
                stall_fraction=window.stall_fraction,
            )
        )


class AdaptingEngine:
    """Stands before an engine for one pass.

    Args:
        engine: Makes the batches.
        adaptation: The loader's.
        workers: Gives the number that this pass has now; ``None`` where the loader's is another.
        resize: Has so many workers from now on, for a reason.
        exposure: Tells stalls from waits.
        clock_ns: Gives the time, ``time.perf_counter_ns`` but in tests.
    """

    def __init__(
        self,
        engine: Engine,
        adaptation: Adaptation,
        *,
        workers: Callable[[], int | None],
        resize: Callable[[int, str], object],
        exposure: Exposure,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.engine, self._adaptation = engine, adaptation
        self._workers, self._resize, self._exposure = workers, resize, exposure
        self._clock_ns, num_workers = clock_ns, workers()
        rest, adaptation.rest = adaptation.rest, None
        if rest is None or rest.num_workers != num_workers:
            rest = Meter(num_workers or 0)
        self._meter = rest
        self._meter.begin_pass()

    @property
    def watched(self) -> bool:
        """As the engine's."""
        return self.engine.watched

    @watched.setter
    def watched(self, watched: bool) -> None:
        self.engine.watched = watched

    @property
    def depth(self) -> int:
        """As the engine's."""
        return self.engine.depth

    @property
    def in_flight(self) -> int:
        """As the engine's."""
        return self.engine.in_flight

    def submit(self, request: Request) -> None:
        """Ask the engine."""
        self.engine.submit(request)

    def resize(self, num_workers: int, depth: int) -> bool:
        """As the engine does."""
        return self.engine.resize(num_workers, depth)

    def next(self) -> HostBatch:
        """Wait for the engine, and note how long."""
        meter, exposure, clock_ns = self._meter, self._exposure, self._clock_ns
        exposure.begin()
        began_cpu_ns = 0 if meter.num_workers else time.thread_time_ns()
        wanted_ns = clock_ns()
        batch = self.engine.next()
        taken_ns = clock_ns()
        own_cpu_ns = 0 if meter.num_workers else time.thread_time_ns() - began_cpu_ns
        wait_ns = taken_ns - wanted_ns
        is_ready = batch.arrived_ns is not None and batch.arrived_ns <= wanted_ns
        # What a batch that lay ready still takes is this process's own work: no worker can help.
        # The first of a pass is not counted, and a device would tell of it with later ones.
        stall_ns = exposure.end(0 if is_ready or not meter.counts else wait_ns)
        meter.add(batch, wanted_ns, taken_ns, stall_ns, is_ready=is_ready, cpu_ns=own_cpu_ns)
        if taken_ns >= meter.not_before_ns:
            self._look()
        return batch

    def end(self, failed: bool) -> None:
        """Keep what was measured for the next pass, or drop it where this one failed."""
        is_of_use = not failed and not self._meter.is_empty
        if is_of_use and self._workers() == self._meter.num_workers:
            self._meter.end_pass(self._clock_ns())
            self._adaptation.rest = self._meter

    def stop(self) -> None:
        """As the engine does."""
        self.engine.stop()

    def close(self) -> None:
        """As the engine does."""
        self.engine.close()

    def _look(self) -> None:
        """End the window, where it is time, and do what follows from it."""
        meter, adaptation = self._meter, self._adaptation
        num_workers = self._workers()
        if num_workers != meter.num_workers or adaptation.has_failed:
            self._measure_anew()  # somebody else has changed the number, or nobody looks any more
            return
        if not meter.is_due(self._clock_ns(), is_first=adaptation.is_first):
            return
        try:
            wanted, why = adaptation.see(meter.window(self._clock_ns()))
            if wanted != num_workers:
                self._resize(wanted, why)
        except SettingsError as error:
            self._stay(str(error))
        except Exception as error:
            self._stay(
                f"finding a better one failed ({type(error).__name__}: {error}). Batches are not "
                "touched by it; please report it."
            )
        self._measure_anew()

    def _stay(self, why: str) -> None:
        self._adaptation.give_up()
        warnings.warn(
            f"the number of workers stays at {self._meter.num_workers} from here on: {why}",
            RuntimeWarning,
            stacklevel=2,
        )

    def _measure_anew(self) -> None:
        had_none, self._meter = not self._meter.num_workers, Meter(self._workers() or 0)
        if had_none and self._meter.num_workers:
            self._meter.begin_pass()  # workers have to start, and queues are empty
        else:
            self._meter.begin_window(self._clock_ns())
