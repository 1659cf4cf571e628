"""One summary for the terminal: a table, the verdict, and what to change."""

import statistics

from rich.console import Console, Group
from rich.text import Text

from lightning_fastdata.report.changes_text import changes_lines, stays_lines
from lightning_fastdata.report.findings_text import LineKind, findings_lines
from lightning_fastdata.report.table import ReportTable, show
from lightning_fastdata.report.units import duration, rate, share, step_ms
from lightning_fastdata.report.words import has_hundredths, printable
from lightning_fastdata.stalls import StallSummary
from lightning_fastdata.stalls.verdict import verdict_sentence

_BAR_CELLS, _BAD_SHOWN = 20, 5
_STYLES: dict[LineKind, str] = {
    "title": "bold",
    "evidence": "dim",
    "advice": "green",
    "note": "",
}


def render_terminal(summary: StallSummary, *, console: Console | None = None) -> None:
    """Print where the time of a training step went, how bad that is, and what to change.

    Args:
        summary: What was measured.
        console: Where to print; ``None`` is standard output. A terminal or a notebook gets a drawn
            table, anything else (a log file, a pipe) plain text.
    """
    console = console or Console()
    table, lines = summary_table(summary), findings_lines(summary)
    if console.is_terminal or console.is_jupyter:
        # Text objects throughout: a name with brackets in it must not be taken for markup.
        # Printed at once: a notebook makes an output of its own of every print.
        console.print(Group(table, *(Text(line, style=_STYLES[kind]) for kind, line in lines)))
        return
    show(table, console)
    for _, line in lines:
        print(line, file=console.file)


def say(line: str) -> None:
    """Print one line beside the table."""
    print(line)


def summary_table(summary: StallSummary) -> ReportTable:
    """Return the stall table of one run, with one sentence that says how bad it is."""
    parts = (
        ("waiting for data", summary.exposed_stall_ns),
        ("transfer", summary.transfer_ns),
        ("compute", summary.compute_ns),
        ("other host work", summary.other_host_ns),
        ("whole step", summary.wall_ns),
    )
    clock = "the device's clock" if summary.clock == "cuda" else "the host's clock"
    return ReportTable(
        title=f"Where a training step goes ({summary.steps} steps, {clock})",
        columns=("part of the step", "ms/step", "share", ""),
        rows=tuple(
            (
                name,
                step_ms(part_ns, summary.steps),
                share(part_ns, summary.wall_ns),
                _bar(part_ns, summary.wall_ns),
            )
            for name, part_ns in parts
        ),
        lines=(*_facts(summary), verdict(summary)),
        words=(0, 3),
    )


def verdict(summary: StallSummary) -> str:
    """Return one sentence on whether the data keeps up."""
    return f"Verdict: {verdict_sentence(summary.stall_fraction)}"


def _facts(summary: StallSummary) -> tuple[str, ...]:
    waits = (summary.wait_p50_ns, summary.wait_p95_ns, summary.wait_p99_ns)
    last = "p99" if has_hundredths(summary) else "longest"
    facts = [
        "Waits for a batch (host): "
        + ", ".join(
            f"{name} {duration(wait_ns)}"
            for name, wait_ns in zip(("median", "p95", last), waits, strict=True)
        )
        + _hidden(summary),
        f"First batch: {duration(summary.first_batch_ns)}",
    ]
    edges_ns = summary.epoch_start_ns
    if edges_ns:
        median_ns = round(statistics.median(edges_ns))
        facts[-1] += (
            f"; later epochs ({len(edges_ns)}): median {duration(median_ns)}, "
            f"longest {duration(max(edges_ns))}"
        )
    if summary.validation_ns:
        facts.append(f"Validation between these steps: {duration(summary.validation_ns)}")
    if summary.samples_per_s is not None:
        facts.append(f"Samples a second (this process): {rate(summary.samples_per_s)}")
    facts += changes_lines(summary.worker_changes) + stays_lines(summary.workers)
    if summary.clock == "host" and summary.device != "cpu":
        facts.append(
            f"Times are the host's: what a {summary.device} device hides cannot be seen from here."
        )
    if summary.bad_samples:
        facts.append(f"Samples that could not be made: {len(summary.bad_samples)}")
        facts += [f"  {printable(bad)}" for bad in summary.bad_samples[:_BAD_SHOWN]]
        if len(summary.bad_samples) > _BAD_SHOWN:
            facts.append(f"  and {len(summary.bad_samples) - _BAD_SHOWN} more")
    if summary.problem is not None:
        facts.append(f"Incomplete: {printable(summary.problem)}")
    return tuple(facts)


def _hidden(summary: StallSummary) -> str:
    if not summary.hidden_wait_ns:
        return ""
    return f"; hidden behind compute {step_ms(summary.hidden_wait_ns, summary.steps)} ms/step"


def _bar(part_ns: int, whole_ns: int) -> str:
    filled = round(_BAR_CELLS * part_ns / whole_ns) if whole_ns else 0
    return ("#" * filled).ljust(_BAR_CELLS)
