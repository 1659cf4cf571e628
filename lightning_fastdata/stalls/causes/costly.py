"""What takes most of the workers' time, and so what to make cheaper."""

from dataclasses import dataclass

from lightning_fastdata.stalls.case import LoaderCase
from lightning_fastdata.stalls.figures import LineShare
from lightning_fastdata.stalls.thresholds import percent
from lightning_fastdata.stalls.work_figures import REST, stage_fractions, worker_lines

CHEAPER = 0.5  # of a sample's time, where nothing in it has a name
LEAST_NAMED = 0.1  # of the workers' time: less is not worth a sentence of evidence (guess)


@dataclass(frozen=True, kw_only=True, slots=True)
class Costly:
    """What takes most of the workers' time."""

    fraction: float
    advice: str
    evidence: tuple[str, ...]
    """The stage and the line that take most; empty where nothing has a name."""


def costliest(about: LoaderCase) -> Costly:
    """Name what a cheaper step would save most in."""
    totals = about.loader.work.totals
    stages = [(name, part) for name, part in stage_fractions(totals).items() if name != REST]
    lines = worker_lines(totals)
    name, fraction = max(stages, key=lambda entry: entry[1], default=("", 0.0))
    evidence = []
    if fraction >= LEAST_NAMED:
        evidence.append(f"Of the workers' time, {_stage(name)} takes {percent(fraction)}.")
    if lines and lines[0].fraction >= LEAST_NAMED:
        evidence.append(line_sentence(lines[0]))
    device = ", or move it to the device" if about.case.has_device else ""
    if lines and lines[0].fraction > fraction:
        what, fraction = place(lines[0]), lines[0].fraction
        advice = f"Make {what} cheaper{device}"
    elif name == "batch_transform" and about.case.has_device:
        advice = "Move `batch_transform` to the device"
    else:
        advice = f"Make {_stage(name)} cheaper{device}"
    if fraction <= 0:
        advice = "Make samples cheaper: half the time for each is what the prediction is for."
        return Costly(fraction=CHEAPER, advice=advice, evidence=())
    return Costly(
        fraction=min(1.0, fraction),
        advice=f"{advice}: {percent(fraction)} of the workers' time.",
        evidence=tuple(evidence),
    )


def line_sentence(line: LineShare) -> str:
    """Say how much of the workers' time a line takes."""
    return f"{percent(line.fraction)} of looks found workers at {place(line)}."


def place(line: LineShare) -> str:
    """Return where a line stands, and what it says."""
    text = f" `{line.text}`" if line.text else ""
    return f"{line.file}:{line.line}{text}"


def _stage(name: str) -> str:
    named = {"collate": "`collate_fn`", "batch_transform": "`batch_transform`"}
    return named.get(name, f'stage "{name}"')
