"""The words of all reports: what causes and parts of a step are called; names made printable."""

from collections.abc import Sequence
from pathlib import PurePath

from lightning_fastdata.report.units import percent
from lightning_fastdata.stalls import Cause, LineShare, SettingChange, StallSummary, WorkerFigures

CAUSES: dict[Cause, str] = {
    "too_few_workers": "Too few workers",
    "too_many_workers": "More workers than needed",
    "cpu_saturated": "The CPU is saturated",
    "storage": "Waiting for storage",
    "slow_samples": "A few slow samples",
    "ipc": "Batches take long from worker to trainer",
    "pinning": "Batches are not in page-locked memory",
    "transfer": "Copies to the device are not hidden",
    "host_sync": "The loop waits for the device each step",
    "epoch_start": "Epochs start slowly",
    "host_other": "Other work in the training process",
    "rank_straggler": "One process holds up the others",
}
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
    """Return file and line, the file without its folders."""
    return f"{printable(PurePath(line.file).name, 60)}:{line.line}"


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
