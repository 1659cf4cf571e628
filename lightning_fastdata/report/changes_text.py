"""How the number of workers changed while training ran, in words."""

from collections.abc import Sequence

from lightning_fastdata.report.units import duration, percent
from lightning_fastdata.report.words import printable
from lightning_fastdata.report.wrapping import hanging
from lightning_fastdata.stalls import WorkerChange, WorkerFigures

EXPLAINED, CHANGES_SHOWN = 3, 5  # guess: what somebody reads below a table
CHANGE_COLUMNS = ("after", "workers", "why", "stall before", "predicted", "measured")
WHY_LENGTH = 600


def changes_lines(changes: Sequence[WorkerChange]) -> list[str]:
    """Tell few changes with their reasons, of many the newest by their figures.

    Empty where there was none.
    """
    if not changes:
        return []
    shown = changes[-CHANGES_SHOWN:]
    counted = f"{len(changes)} time{'' if len(changes) == 1 else 's'}"
    lines = [f"The number of workers changed {counted} while training ran:"]
    if len(changes) <= EXPLAINED:
        for change in changes:
            why = printable(change.reason, WHY_LENGTH).rstrip(".")
            lines += hanging(f"  {_what(change)}: ", f"{why}{_outcome(change)}", indent=4)
        return lines
    if len(shown) < len(changes):
        lines.append(f"  {len(changes) - len(shown)} before these, in the report")
    return lines + [f"  {_what(change)}{_figures(change)}" for change in shown]


def stays_lines(workers: WorkerFigures | None) -> list[str]:
    """Tell why the number stayed as it was though training waited; empty if it did not wait."""
    if workers is None or workers.why_no_change is None:
        return []
    start = f"The number of workers stays at {workers.num_workers}: "
    return hanging(start, f"{printable(workers.why_no_change, WHY_LENGTH).rstrip('.')}.", indent=4)


def change_cells(change: WorkerChange) -> tuple[str, ...]:
    """Return a row of a table with ``CHANGE_COLUMNS``."""
    return (
        duration(change.at_ns),
        _numbers(change),
        printable(change.reason, WHY_LENGTH),
        percent(change.stall_fraction),
        _known(change.predicted_stall_fraction, "not predicted"),
        percent(change.measured_stall_fraction),
    )


def _known(fraction: float | None, missing: str) -> str:
    return missing if fraction is None else percent(fraction)


def _numbers(change: WorkerChange) -> str:
    back = ", taken back" if change.kind == "roll_back" else ""
    return f"{change.before} -> {change.after}{back}"


def _what(change: WorkerChange) -> str:
    loader = f"loader {printable(change.loader, 60)}, " if change.loader else ""
    return f"{loader}after {duration(change.at_ns)}: {_numbers(change)}"


def _outcome(change: WorkerChange) -> str:
    """Set what came of a change beside what was expected, which alone stands in the reason."""
    if change.measured_stall_fraction is None:
        return ""
    told = _told("predicted", change.predicted_stall_fraction)
    return f" (stall {told}measured {percent(change.measured_stall_fraction)})"


def _figures(change: WorkerChange) -> str:
    told = _told("predicted", change.predicted_stall_fraction)
    told += _told("measured", change.measured_stall_fraction)
    return f" (stall {told}{percent(change.stall_fraction)} before)"


def _told(word: str, fraction: float | None) -> str:
    return "" if fraction is None else f"{word} {percent(fraction)}, "
