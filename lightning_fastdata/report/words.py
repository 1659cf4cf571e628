"""The words of all reports: what the parts of a step are called; names made printable."""

from collections.abc import Sequence
from pathlib import PurePath

from lightning_fastdata.report.units import percent
from lightning_fastdata.stalls import (
    LineShare,
    RunFacts,
    SettingChange,
    StallSummary,
    WorkerFigures,
)
from lightning_fastdata.stalls.titles import CAUSES as CAUSES  # for all of the reports' words
from lightning_fastdata.stalls.titles import with_cells_named

PARTS = {
    "wait": "waiting for data",
    "transfer": "transfer",
    "compute": "compute",
    "other": "other host work",
    "checkpoint": "checkpoints",
    "logging": "logging",
    "validation": "validation",
}
"""Of the training loop, by the names that the trace gives them; in the order of the pictures."""


def printable(text: object, most: int = 300) -> str:
    """Return one line that any file or terminal takes, the middle left out where it is too long.

    Control characters, reversals of the writing direction and bytes of a file name that are no
    text are shown as escapes: they would colour a terminal, hide a name, or fail to be written.
    """
    line = str(text)
    if len(line) > most:
        half = (most - 5) // 2
        line = f"{line[:half]} ... {line[-half:]}"
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
        for sign in line
    )


def setting_change(change: SettingChange) -> str:
    """Return one argument with its value now and then."""
    now, then = printable(repr(change.now), 80), printable(repr(change.then), 80)
    return f"{printable(change.name, 80)}: {now} -> {then}"


def place(line: LineShare) -> str:
    """Return file and line, the file without its folders, or the line of a notebook's cell."""
    found = f"{line.file}:{line.line}"
    named = with_cells_named(found)
    return named if named != found else f"{printable(PurePath(line.file).name, 60)}:{line.line}"


def told(text: str, most: int = 1000) -> str:
    """Return a sentence of a finding, printable, with a notebook's cells named."""
    return printable(with_cells_named(text), most)


def line_of_code(line: LineShare) -> str:
    """Return file, line and what stands there, or the function where the text is not known."""
    return f"{place(line)} `{printable(line.text or line.function, 70)}`"


def workers_line(workers: WorkerFigures, lines: Sequence[LineShare]) -> str:
    """Say in one line how busy the workers were, and with what."""
    counted = f"{workers.num_workers} worker{'' if workers.num_workers == 1 else 's'}"
    said = [counted if workers.num_workers else "No workers: the training process made the batches"]
    if workers.busy_fraction is not None:
        said.append(f"busy {percent(workers.busy_fraction)}")
    if lines:
        said.append(f"{percent(lines[0].fraction)} in {line_of_code(lines[0])}")
    return ", ".join(said)


def run_line(summary: StallSummary) -> str:
    """Name the device, the steps and the clock of a run in one line."""
    machine = summary.run.machine if summary.run else None
    device = printable(machine.device, 80) if machine else summary.device
    clock = "the device's clock" if summary.clock == "cuda" else "the host's clock"
    return f"{summary.steps:,} steps on {device}, by {clock}"


def has_hundredths(summary: StallSummary) -> bool:
    """Whether one wait in a hundred is more than just the longest."""
    return summary.steps >= 100


def origin_line(facts: RunFacts | None) -> str:
    """Say what was run and when, as far as that is known; else nothing."""
    if facts is None:
        return ""
    known = []
    if facts.script is not None:
        known.append(printable(facts.script, 80))
    if facts.started_at is not None:
        known.append(printable(facts.started_at, 40).replace("T", " ", 1))
    return ", ".join(known)
