"""Runs a case, follows the advice, and sets what was said beside what is true."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from injection_cases import Injected
from injection_rig import Run, run_once

from lightning_fastdata.stalls import Finding, FollowedAdvice

TRUTH_WITHIN, PREDICTION_WITHIN, CLEAN_BELOW = 0.02, 0.05, 0.05


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was said of one case, and what is true."""

    cause: str | None
    """Of the first finding."""
    stall: float
    truth: float
    worst: float
    """The share of the most costly finding; 0 without one."""
    predicted: float | None
    measured: float | None
    """After the advised change, by the rig; ``None`` where there was none to make."""
    is_followed: bool | None
    """Whether the second report set the prediction beside its own figure; ``None`` where the
    advice is not about arguments."""
    advice: str
    is_overloaded: bool
    """Whether the machine was, in one of the two runs."""

    def misses(self, case: Injected) -> list[str]:
        """What is not as it should be."""
        missed = []
        if self.cause != case.cause:
            missed.append(f"the first finding is {self.cause}, not {case.cause}")
        if abs(self.stall - self.truth) > TRUTH_WITHIN:
            missed.append(f"the stall is {self.stall:.3f}, truly {self.truth:.3f}")
        if case.cause is None and self.worst > CLEAN_BELOW:
            missed.append(f"a finding of {self.worst:.3f} where nothing is wrong")
        if case.is_predicted:
            if self.predicted is None or self.measured is None:
                missed.append(f"predicted {self.predicted}, measured {self.measured}")
            elif abs(self.predicted - self.measured) > PREDICTION_WITHIN:
                missed.append(f"predicted {self.predicted:.3f}, measured {self.measured:.3f}")
        if self.is_followed is False:
            missed.append("the second report does not say that the advice was followed")
        return missed

    def row(self, name: str, case: Injected) -> dict[str, object]:
        """As one line of the table."""
        advice = self.advice.replace(f"{Path(__file__).parents[2]}/", "")  # of any checkout
        shown = {**asdict(self), "advice": advice}
        return {"case": name, "wanted": case.cause, **shown, "misses": self.misses(case)}


def outcome_of(case: Injected, folder: Path) -> Outcome:
    """Run a case; once more where it misses and the machine was overloaded, and never twice."""
    outcome = _tried(case, folder)
    if outcome.misses(case) and outcome.is_overloaded:
        shutil.rmtree(folder)
        outcome = _tried(case, folder)
    return outcome


def _tried(case: Injected, folder: Path) -> Outcome:
    folder.mkdir(parents=True, exist_ok=True)
    setup = case.setup(folder)
    first = run_once(setup, folder)
    finding = next(iter(first.summary.findings), None)
    is_clean = case.cause is None
    if is_clean and finding is not None and finding.stall_fraction <= CLEAN_BELOW:
        finding = None
    then: Run | None = None
    if finding is not None and case.is_predicted and (finding.changes or case.remedy):
        changed = setup.changed(finding)
        if case.remedy is not None:
            changed = case.remedy(changed)
        then = run_once(changed, folder)
    return Outcome(
        cause=None if finding is None else finding.cause,
        stall=first.summary.stall_fraction or 0.0,
        truth=first.truth,
        worst=max((each.stall_fraction for each in first.summary.findings), default=0.0),
        predicted=None if finding is None else finding.predicted_stall_fraction,
        measured=None if then is None else then.truth,
        is_followed=_is_followed(finding, then),
        advice="" if finding is None else finding.advice,
        is_overloaded=first.is_overloaded or (then is not None and then.is_overloaded),
    )


def _is_followed(finding: Finding | None, then: Run | None) -> bool | None:
    if finding is None or then is None or not finding.changes:
        return None
    told: tuple[FollowedAdvice, ...] = then.summary.followed
    return any(
        each.changes == finding.changes
        and each.predicted_stall_fraction == finding.predicted_stall_fraction
        and each.measured_stall_fraction == then.summary.stall_fraction
        for each in told
    )
