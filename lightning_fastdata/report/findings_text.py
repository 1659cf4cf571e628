"""Findings as lines of text: the cause, its share, the evidence, the change, the prediction."""

from typing import Literal, NamedTuple, TypeAlias

from lightning_fastdata.report.units import duration, percent
from lightning_fastdata.report.words import (
    CAUSES,
    printable,
    setting_change,
    told,
    workers_line,
)
from lightning_fastdata.report.wrapping import hanging
from lightning_fastdata.stalls import Finding, FollowedAdvice, StallSummary

_HELD_WITHIN_FRACTION = 0.05  # guess: runs of a minute differ by as much
FINDINGS_SHOWN, SAMPLES_SHOWN = 3, 3  # guess: what somebody reads below a table
_SENTENCE = 1000
LineKind: TypeAlias = Literal["title", "evidence", "advice", "note"]


class FindingLine(NamedTuple):
    """One line, and what it is for."""

    kind: LineKind
    text: str


def findings_lines(summary: StallSummary) -> list[FindingLine]:
    """Say what to change, what became of the last change, and who worked on what.

    Empty where nothing was found and no advice was followed.
    """
    lines: list[FindingLine] = []
    for number, finding in enumerate(summary.findings[:FINDINGS_SHOWN], start=1):
        lines += _finding(number, finding)
    hidden = len(summary.findings) - FINDINGS_SHOWN
    if hidden > 0:
        lines.append(FindingLine("note", f"   and {hidden} more of less weight, in the report"))
    for followed in summary.followed:
        lines += _wrapped("advice", "Done: ", followed_sentence(followed))
    if summary.findings:
        if summary.workers is not None:
            lines += _wrapped("note", "", workers_line(summary.workers, summary.worker_lines))
        lines += _slow_samples(summary)
    return lines


def followed_sentence(followed: FollowedAdvice) -> str:
    """Set the prediction for a change beside what was measured after it."""
    changes = ", ".join(setting_change(change) for change in followed.changes)
    return (
        f"{changes or CAUSES[followed.cause]}: stall was "
        f"{percent(followed.before_stall_fraction)}, "
        f"predicted {percent(followed.predicted_stall_fraction)}, "
        f"measured {percent(followed.measured_stall_fraction)}: the {followed_verdict(followed)}."
    )


def followed_verdict(followed: FollowedAdvice) -> str:
    """Say whether the prediction for a change held."""
    # To the digit that is shown beside it.
    gap = round(followed.measured_stall_fraction - followed.predicted_stall_fraction, 3)
    if abs(gap) <= _HELD_WITHIN_FRACTION:
        return "prediction held"
    missed = f"prediction missed by {100 * abs(gap):.1f} points"
    return missed if gap > 0 else f"{missed}, for the better"


def prediction(finding: Finding) -> str | None:
    """Say what the stall comes to after the change; ``None`` where that is not known."""
    if finding.predicted_stall_fraction is None:
        return None
    return f"predicted stall {percent(finding.predicted_stall_fraction)}"


def _finding(number: int, finding: Finding) -> list[FindingLine]:
    costs = (
        f": costs {percent(finding.stall_fraction)} of the time" if finding.stall_fraction else ""
    )
    lines = [FindingLine("title", f"{number}. {CAUSES[finding.cause]}{costs}")]
    for sentence in finding.evidence[:1]:
        lines += _wrapped("evidence", "   because: ", told(sentence, _SENTENCE))
    advice = told(finding.advice, _SENTENCE)
    foreseen = prediction(finding)
    lines += _wrapped(
        "advice", "   do: ", f"{advice.rstrip('.')} ({foreseen})" if foreseen else advice
    )
    return lines


def _slow_samples(summary: StallSummary) -> list[FindingLine]:
    return [
        line
        for one in summary.slow_samples[:SAMPLES_SHOWN]
        for line in _wrapped(
            "note",
            "Slow sample ",
            f"{printable(one.index, 80)}: {duration(one.time_ns)}, {one.times_the_median:.0f} "
            f"times the median{'' if one.path is None else f' ({printable(one.path, 160)})'}",
        )
    ]


def _wrapped(kind: LineKind, start: str, text: str) -> list[FindingLine]:
    return [FindingLine(kind, line) for line in hanging(start, text, max(2, len(start)))]
