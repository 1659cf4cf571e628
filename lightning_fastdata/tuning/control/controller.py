"""The controller: takes windows of training in, and says when the number of workers changes."""

from collections import deque
from dataclasses import replace
from typing import Literal

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.trace.changes import MOST_CHANGES, PlanChange
from lightning_fastdata.tuning.control.drift import (
    Conditions,
    DriftWatch,
    conditions_of,
    has_drifted,
)
from lightning_fastdata.tuning.control.growth import Hopeless, Step, larger_number
from lightning_fastdata.tuning.control.limits import ControlLimits
from lightning_fastdata.tuning.control.pace import CLEAN_WINDOWS, Pace
from lightning_fastdata.tuning.control.reasons import why_not_more, why_taken_back
from lightning_fastdata.tuning.control.shrinking import no_worse_number, smaller_number
from lightning_fastdata.tuning.control.trial import MOST_WINDOWS, Trial
from lightning_fastdata.tuning.control.undisturbed import (
    Facts,
    costs_of,
    facts_of,
    newest_of_each,
)
from lightning_fastdata.tuning.control.window import Window
from lightning_fastdata.tuning.replay import BatchCost

__all__ = ["ControlLimits", "Controller"]

ASKED_AGAIN_WINDOWS = 15  # without stall, until it is asked again whether fewer do (guess)
TOLERANCE = 0.01  # of stall above the limit: no reason to change anything (guess)


class Controller:
    """Keeps one loader's number of workers right, from one window of training to the next.

    It grows at once, as far as replay says; it shrinks after several windows without stall, and
    takes either back if it was no good. Nothing is read or started: the caller applies what it
    says, and the next windows show it.

    Args:
        limits: What it may choose.
        num_workers: Those there are at the start.

    Raises:
        SettingsError: If there are more than the limits allow.
    """

    def __init__(self, limits: ControlLimits, *, num_workers: int) -> None:
        if not 0 <= num_workers <= limits.most_workers:
            raise SettingsError(
                f"num_workers is {num_workers}, wanted is 0 to {limits.most_workers}, the most "
                "that the limits allow. Start with fewer workers, or raise most_workers."
            )
        self._limits, self._wanted = limits, num_workers
        self._log: deque[PlanChange] = deque(maxlen=MOST_CHANGES)
        self._pace, self._drift = Pace(), DriftWatch()
        self._trial: Trial | None = None
        self._last_shrink: Trial | None = None
        self._longest_stride = limits.most_workers
        self._clean_costs: deque[tuple[BatchCost, ...]] = deque(maxlen=CLEAN_WINDOWS)
        self._clean_windows = self._stalled_windows = self._windows_below = 0
        self._hopeless: Hopeless | None = None
        self._no_fewer: Conditions | None = None
        self._clean_under: Conditions | None = None
        self._why_not: str | None = None

    @property
    def num_workers(self) -> int:
        """What it wants now."""
        return self._wanted

    @property
    def changes(self) -> tuple[PlanChange, ...]:
        """The newest, in the order in which they were made, with what came of them."""
        return tuple(self._log)

    @property
    def why_not(self) -> str | None:
        """Why nothing was changed though the newest window stalled; ``None``: no such window."""
        return self._why_not

    def see(self, window: Window) -> PlanChange | None:
        """Take a window in; give the change to make now, if there is one.

        Args:
            window: The newest. Pauses of training (validation, saving) are no part of it.
        """
        self._why_not = None
        self._pace.begin(window.began_ns)
        facts = facts_of(window, self._limits)
        conditions = conditions_of(facts)
        is_growing = self._trial is not None and self._trial.change.kind == "grow"
        # While more workers are tried, what they do to each other is no news from outside.
        if not is_growing and self._drift.has_left(conditions):
            self._forget_lessons()
        if self._trial is not None:
            change = self._verify(self._trial, window, conditions)
            if change is not None or self._trial is not None:
                return change
        if not self._is_applied(window):
            return None
        return self._decide(window, facts, conditions)

    def _verify(self, trial: Trial, window: Window, now: Conditions) -> PlanChange | None:
        change = trial.change
        verdict = trial.judge(window, now, self._most_stall)
        if verdict == "not yet":
            return None
        if verdict == "never came":
            self._trial = None
            return None
        self._log[-1] = replace(change, measured_stall_fraction=window.stall_fraction)
        if verdict == "kept":
            self._trial = None
            return None
        if change.kind == "shrink":
            return self._undo_shrink(change, window, now)
        return self._undo_growth(change, window, now)

    def _decide(self, window: Window, facts: Facts, now: Conditions) -> PlanChange | None:
        limit = self._limits.max_stall_fraction
        if window.stall_fraction > self._most_stall:
            self._clear_clean()
            return self._more(window, facts, now)
        self._stalled_windows = 0
        if window.stall_fraction <= limit:
            if self._clean_under is None or has_drifted(self._clean_under, now):
                self._clear_clean()
                self._clean_under = now
            self._clean_windows += 1
            self._clean_costs.append(costs_of(window, facts))
            return self._fewer(window, facts, now)
        if not window.is_new_pass:
            self._clear_clean()
        return None

    def _more(self, window: Window, facts: Facts, now: Conditions) -> PlanChange | None:
        shrink = self._last_shrink
        if (
            shrink is not None
            and shrink.change.after == window.num_workers
            and not window.is_new_pass
            and not has_drifted(shrink.conditions, now)
        ):
            return self._undo_shrink(shrink.change, window, now)
        if self._is_hopeless(window, now):
            return self._no_worse(window, facts, now)
        if not self._pace.may_grow(window.ended_ns):
            self._why_not = "the last change is too recent, or more workers did not help lately"
            return self._no_worse(window, facts, now)
        step = larger_number(window, facts, self._limits)
        if step is not None:
            self._last_shrink, self._stalled_windows = None, 0
            # More than is wanted already: where ranks agree, others' wishes count as well.
            return None if step.after <= self._wanted else self._make("grow", step, window, now)
        self._hopeless = Hopeless(
            num_workers=window.num_workers,
            conditions=now,
            why_not=why_not_more(window, facts, self._limits.most_workers),
        )
        self._why_not = self._hopeless.why_not
        return self._no_worse(window, facts, now)

    def _is_hopeless(self, window: Window, now: Conditions) -> bool:
        """Whether replay saw no use in more workers lately; asking it again takes milliseconds."""
        known = self._hopeless
        if known is None or window.is_new_pass:
            return False
        if known.num_workers != window.num_workers or has_drifted(known.conditions, now):
            self._hopeless = None
            return False
        self._why_not = known.why_not
        known.windows_left -= 1
        if not known.windows_left:
            self._hopeless = None
        return True

    def _no_worse(self, window: Window, facts: Facts, now: Conditions) -> PlanChange | None:
        """Try fewer workers where more do not help."""
        self._stalled_windows += not window.is_new_pass
        if self._stalled_windows < CLEAN_WINDOWS or not self._pace.may_shrink(window.ended_ns):
            return None
        self._stalled_windows = 0
        step = no_worse_number(window, facts, self._limits, self._longest_stride)
        return None if step is None else self._make("shrink", step, window, now)

    def _fewer(self, window: Window, facts: Facts, now: Conditions) -> PlanChange | None:
        refused = self._no_fewer
        is_known = refused is not None and not has_drifted(refused, now)
        enough = ASKED_AGAIN_WINDOWS if is_known else CLEAN_WINDOWS
        if self._clean_windows < enough or not self._pace.may_shrink(window.ended_ns):
            return None
        costs = newest_of_each(self._clean_costs)
        workers = min(self._wanted, window.num_workers)
        if not costs or workers <= 1:
            return None
        step = smaller_number(
            costs,
            window,
            facts,
            self._limits,
            now=workers,
            longest_stride=self._longest_stride,
            windows=self._clean_windows,
        )
        if step is None:
            self._no_fewer = now
            self._clear_clean()
            return None
        change = self._make("shrink", step, window, now)
        self._last_shrink = self._trial
        return change

    def _undo_growth(
        self, change: PlanChange, window: Window, now: Conditions
    ) -> PlanChange | None:
        at_ns = window.ended_ns
        after = max(change.before, 1, self._limits.least_workers)
        if not self._pace.may_change(at_ns):
            return None
        assert self._trial is not None
        self._drift.learn(self._trial.conditions)
        self._pace.growth_was_useless(at_ns)
        self._trial = None
        if after >= change.after:
            return None  # from the training process to one worker: there is no way back
        reason = why_taken_back(window, change)
        step = Step(after=after, predicted_stall_fraction=change.stall_fraction, reason=reason)
        return self._make("roll_back", step, window, now)

    def _undo_shrink(
        self, change: PlanChange, window: Window, now: Conditions
    ) -> PlanChange | None:
        if not self._pace.may_change(window.ended_ns):
            return None
        self._drift.learn(now)
        self._pace.shrink_was_wrong()
        self._last_shrink = None
        self._longest_stride = max(1, (change.before - change.after) // 2)
        reason = why_taken_back(window, change)
        after = min(change.before, self._limits.most_workers)
        step = Step(after=after, predicted_stall_fraction=change.stall_fraction, reason=reason)
        return self._make("roll_back", step, window, now)

    def _make(
        self,
        kind: Literal["grow", "shrink", "roll_back"],
        step: Step,
        window: Window,
        now: Conditions,
    ) -> PlanChange | None:
        if not self._pace.may_change(window.ended_ns):
            return None
        change = PlanChange(
            at_ns=window.ended_ns,
            kind=kind,
            before=window.num_workers,
            after=step.after,
            reason=step.reason,
            stall_fraction=window.stall_fraction,
            predicted_stall_fraction=step.predicted_stall_fraction,
        )
        self._why_not = None
        self._log.append(change)
        self._pace.change(window.ended_ns)
        self._wanted = step.after
        self._trial = Trial(change, window, now, self._limits.engine)
        self._no_fewer = None
        self._clear_clean()
        self._stalled_windows = self._windows_below = 0
        return change

    def _is_applied(self, window: Window) -> bool:
        """Whether there are as many workers as wanted, or more, as another rank may want."""
        self._windows_below = self._windows_below + 1 if window.num_workers < self._wanted else 0
        if self._windows_below >= MOST_WINDOWS:
            # The caller could not, for lack of memory perhaps: it goes on from what there is.
            self._wanted, self._windows_below = window.num_workers, 0
        return not self._windows_below

    def _forget_lessons(self) -> None:
        self._pace.forget_lessons()
        self._last_shrink = None
        self._longest_stride = self._limits.most_workers

    def _clear_clean(self) -> None:
        self._clean_windows, self._clean_under = 0, None
        self._clean_costs.clear()

    @property
    def _most_stall(self) -> float:
        return self._limits.max_stall_fraction + TOLERANCE
