"""What ``tune`` found: for people a sentence, a table and the reasons; JSON for programs."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from rich.console import Console
from rich.text import Text

from lightning_fastdata.plan import Candidate, LoaderPlan
from lightning_fastdata.report.table import ReportTable, show
from lightning_fastdata.report.tuning_words import (
    chosen_of,
    module_call,
    stall_of,
    tuning_verdict,
)
from lightning_fastdata.report.units import duration, percent, rate, size
from lightning_fastdata.report.words import printable
from lightning_fastdata.report.wrapping import hanging

SCHEMA = "lightning-fastdata.tune"
SCHEMA_VERSION = 1
"""Of ``TuningReport.to_json``. Raised when a field changes its meaning or goes away."""
ROWS_SHOWN = 20  # guess: what fits on a screen; the JSON has all
_NEAR = 2  # guess: candidates on either side of the choice that are always shown
_REASON_LENGTH = 600
_FIGURES: tuple[tuple[str, str, Callable[[Any], str], str], ...] = (
    ("stall predicted", "predicted_stall_fraction", percent, "not predicted"),
    ("measured", "measured_stall_fraction", percent, "not tried"),
    ("batches/s predicted", "predicted_batches_per_s", rate, "not predicted"),
    ("measured", "measured_batches_per_s", rate, "not tried"),
    ("memory", "memory_bytes", size, "not known"),
)
"""Heading, field of a candidate, how it is written, and what stands where it is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningReport:
    """What was chosen for a dataset, from what, and how long that took."""

    target: str
    """What was tuned, as it was named."""
    plan: LoaderPlan
    """What was chosen, with what was weighed."""
    max_stall_fraction: float
    """The stall that was allowed, 0 to 1."""
    took_ns: int
    """Time that it took to find out."""
    is_remembered: bool
    """Whether the next run on this dataset and machine starts with it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What was asked for, and the machine: plain values that JSON holds."""

    def to_json(self) -> str:
        """Return everything, with the version of its meaning, as JSON text."""
        plan = {each.name: getattr(self.plan, each.name) for each in fields(LoaderPlan)}
        plan["reasons"] = dict(self.plan.reasons)
        candidates = [asdict(each) for each in plan.pop("candidates")]
        values = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "target": self.target,
            "verdict": tuning_verdict(self.plan, self.max_stall_fraction),
            "max_stall_fraction": self.max_stall_fraction,
            "took_ns": self.took_ns,
            "is_remembered": self.is_remembered,
            "plan": plan,
            "candidates": candidates,
            "facts": dict(self.facts),
        }
        return json.dumps(values, indent=2, allow_nan=False)


def render_tuning(report: TuningReport, *, console: Console | None = None) -> None:
    """Print the verdict, what was weighed, why, and how the choice is used.

    Args:
        report: What was found.
        console: Where to print; ``None`` is standard output. A terminal or a notebook gets a drawn
            table, anything else (a log file, a pipe) plain text.
    """
    console = console or Console()
    verdict = tuning_verdict(report.plan, report.max_stall_fraction)
    table, lines = candidates_table(report), tuple(_closing_lines(report))
    if console.is_terminal or console.is_jupyter:
        # Text objects throughout: a name with brackets in it must not be taken for markup.
        console.print(Text(verdict, style="bold"))
        if table.rows:
            console.print(table)
        for line in lines:
            console.print(Text(line))
        return
    print(verdict, file=console.file)
    if table.rows:
        show(table, console)
    for line in lines:
        print(line, file=console.file)


def candidates_table(report: TuningReport) -> ReportTable:
    """List what was weighed, the choice marked; of many, those that tell most.

    What is known of none of them has no column.
    """
    candidates, chosen = report.plan.candidates, chosen_of(report.plan)
    shown = _shown(candidates, chosen)
    has_engines = len({each.engine for each in shown} - {"inline"}) > 1
    figures = [
        (heading, [_cell(text_of, getattr(each, name), missing) for each in shown])
        for heading, name, text_of, missing in _FIGURES
        if any(getattr(each, name) is not None for each in shown)
    ]
    columns = [
        ("", ["->" if each is chosen else "" for each in shown]),
        *([("engine", [each.engine for each in shown])] if has_engines else []),
        ("workers", [str(each.num_workers) for each in shown]),
        ("in flight", [str(each.prefetch_batches) for each in shown]),
        *figures,
    ]
    is_short = len(shown) < len(candidates)
    return ReportTable(
        title=f"What was weighed for {printable(report.target, 60)}",
        columns=tuple(heading for heading, _ in columns),
        rows=tuple(zip(*(cells for _, cells in columns), strict=True)),
        words=(0, 1) if has_engines else (0,),
        lines=(f"{len(shown)} of {len(candidates)}; --json FILE has all.",) if is_short else (),
    )


def _cell(text_of: Callable[[Any], str], value: object, missing: str) -> str:
    return missing if value is None else text_of(value)


def _shown(candidates: Sequence[Candidate], chosen: Candidate | None) -> Sequence[Candidate]:
    """Return all of few; of many those that were tried, the choice and its neighbours, the ends."""
    if len(candidates) <= ROWS_SHOWN:
        return candidates
    place = next((at for at, each in enumerate(candidates) if each is chosen), 0)
    return [
        each
        for at, each in enumerate(candidates)
        if each.measured_stall_fraction is not None
        or each.measured_batches_per_s is not None
        or abs(at - place) <= _NEAR
        or at in (0, len(candidates) - 1)
        or each.num_workers.bit_count() == 1  # powers of two show the course between
    ]


def _closing_lines(report: TuningReport) -> Iterator[str]:
    """Say why, what was short, and how the choice is used."""
    plan = report.plan
    for name, reason in plan.reasons.items():
        value = f"={getattr(plan, name)}" if hasattr(plan, name) else ""
        yield from hanging(f"{name}{value}: ", printable(reason, _REASON_LENGTH))
    if plan.shortage is not None:
        yield from hanging("Short of: ", printable(plan.shortage, _REASON_LENGTH))
    yield f"Found out in {duration(report.took_ns)}."
    if plan.candidates and all(stall_of(each) is None for each in plan.candidates):
        yield from hanging(
            "",
            "The time of a training step is not known: with --step-time MS or --model MODULE:NAME "
            "the fewest workers that training needs are found, and remembered.",
        )
    call = module_call(plan)
    if report.is_remembered:
        left_out = "leave num_workers out of FastDataModule or FastDataLoader"
        yield f"To use it, {left_out}: it is remembered,"
        ranks = (report.facts.get("machine") or {}).get("local_world_size", 1)
        who = "one process" if ranks == 1 else f"{ranks} processes"
        yield f"  and the next run of {who} here starts with it."
        yield f"To have it elsewhere: {call}"
    else:
        yield f"To use it: {call}"
