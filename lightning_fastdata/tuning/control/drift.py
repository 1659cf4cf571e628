"""Whether training is still what it was when something was learnt about it."""

from dataclasses import dataclass

from lightning_fastdata.tuning.control.undisturbed import Facts

DRIFT = 1.25  # times as much or as little is another training (guess)
LEAST_SHARE = 0.1  # of a worker's time: cpu shares that differ by less are the same (guess)
IN_A_ROW = 2  # windows that have to show it, or one slow batch would be another training (guess)


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What a lesson about a number of workers holds for."""

    step_ns: float
    batch_work_ns: float
    cpu_fraction: float
    stretch: float


def conditions_of(facts: Facts) -> Conditions:
    """Say under which conditions a window ran."""
    return Conditions(
        step_ns=facts.step_ns,
        batch_work_ns=facts.batch_work_ns,
        cpu_fraction=facts.cpu_fraction,
        stretch=facts.stretch,
    )


def is_other_step(before: Conditions, now: Conditions) -> bool:
    """Whether a step takes clearly more or less than it did."""
    return _differ(before.step_ns, now.step_ns)


def has_drifted(before: Conditions, now: Conditions) -> bool:
    """Whether steps, batches or the machine are clearly not what they were."""
    return (
        is_other_step(before, now)
        or _differ(before.batch_work_ns, now.batch_work_ns)
        or _differ(before.stretch, now.stretch)
        or (
            _differ(before.cpu_fraction, now.cpu_fraction)
            and abs(before.cpu_fraction - now.cpu_fraction) > LEAST_SHARE
        )
    )


class DriftWatch:
    """Says once when conditions have left those that lessons were learnt under."""

    def __init__(self) -> None:
        self._learnt_under: Conditions | None = None
        self._other_windows = 0

    def learn(self, conditions: Conditions) -> None:
        """Keep what the newest lesson holds for."""
        self._learnt_under, self._other_windows = conditions, 0

    def has_left(self, now: Conditions) -> bool:
        """Whether several windows in a row were under other conditions."""
        if self._learnt_under is None:
            return False
        is_other = has_drifted(self._learnt_under, now)
        self._other_windows = self._other_windows + 1 if is_other else 0
        if self._other_windows < IN_A_ROW:
            return False
        self._learnt_under, self._other_windows = None, 0
        return True


def _differ(before: float, now: float) -> bool:
    return now > DRIFT * before or before > DRIFT * now
