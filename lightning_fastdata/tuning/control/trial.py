"""A change that is waiting for the window that shows what came of it."""

from typing import Literal

from lightning_fastdata.plan import EngineName
from lightning_fastdata.trace.changes import PlanChange
from lightning_fastdata.tuning.control.drift import Conditions, has_drifted, is_other_step
from lightning_fastdata.tuning.control.window import Window
from lightning_fastdata.tuning.forecast import CLOSE_ENOUGH, usual_prefetch

LEAST_GAIN = 0.01  # of training time: a growth that gains less did not help (guess)
LEAST_RATE_GAIN = 0.05  # of the batches a second, where that is less: it helped (guess)
LEAST_SHARE = 0.25  # of the gain that was predicted: the same (guess)
SLOWED = 1.05  # times the training time a batch: more workers took more than they gave (guess)
SETTLED = 4  # times the batches in flight: a window so long shows more than its start (guess)
MOST_WINDOWS = 3  # guess: with few batches a window, one that is not settled has to do

Verdict = Literal["not yet", "kept", "take back", "never came"]


class Trial:
    """Judges one change by the windows after it.

    Args:
        change: What was asked for.
        window: The one that it rests on.
        conditions: What it ran under.
        engine: Whose queues have to settle.
    """

    def __init__(
        self, change: PlanChange, window: Window, conditions: Conditions, engine: EngineName
    ) -> None:
        self.change = change
        self.conditions = conditions
        self._window = window
        self._in_flight = change.after * usual_prefetch(engine, change.after)
        self._batches = self._windows = self._windows_elsewhere = 0

    def judge(self, window: Window, now: Conditions, most_stall_fraction: float) -> Verdict:
        """Take a window in, and say what becomes of the change.

        Args:
            window: The newest.
            now: What it ran under.
            most_stall_fraction: Stall up to here is good, whatever was predicted.
        """
        if window.num_workers != self.change.after:
            self._windows_elsewhere += 1
            return "never came" if self._windows_elsewhere >= MOST_WINDOWS else "not yet"
        is_over = window.stall_fraction > most_stall_fraction
        is_settled = self._is_settled(window)
        if self.change.kind == "shrink" and not has_drifted(self.conditions, now):
            # Too few workers show at once: nothing has to settle before queues run empty.
            before = self.change.stall_fraction
            is_worse = is_over and window.stall_fraction > before + CLOSE_ENOUGH
            if is_worse and (is_settled or not window.is_new_pass):
                return "take back"
        if not is_settled:
            return "not yet"
        is_judged = self.change.kind == "grow" and is_over
        is_useless = (
            is_judged and not is_other_step(self.conditions, now) and not self._gained(window)
        )
        return "take back" if is_useless else "kept"

    def _is_settled(self, window: Window) -> bool:
        before, self._batches = self._batches, self._batches + window.batches
        self._windows += 1
        if window.batches >= SETTLED * self._in_flight or self._windows >= MOST_WINDOWS:
            return True
        return not window.is_new_pass and before >= max(1, self._in_flight)

    def _gained(self, window: Window) -> bool:
        before, after = self.change.stall_fraction, window.stall_fraction
        predicted = self.change.predicted_stall_fraction
        hoped_for = 0.0 if predicted is None else LEAST_SHARE * (before - predicted)
        is_slower = _batch_ns(window) > SLOWED * _batch_ns(self._window)
        least = min(LEAST_GAIN, LEAST_RATE_GAIN * (1.0 - before))
        return before - after >= max(least, hoped_for) and not is_slower


def _batch_ns(window: Window) -> float:
    return (window.busy_ns + window.stall_ns) / max(1, window.batches)
