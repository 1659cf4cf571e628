"""A summary as one HTML file that needs nothing else: no script, no network, no other file."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lightning_fastdata.report import charts, words
from lightning_fastdata.report.files import run_name, write_text
from lightning_fastdata.report.findings_text import followed_verdict, prediction
from lightning_fastdata.report.page_tables import tables_of
from lightning_fastdata.report.units import duration, percent, rate, share, step_ms
from lightning_fastdata.stalls import StallLevel, StallSummary, StallThresholds, stall_level
from lightning_fastdata.stalls.verdict import verdict_sentence

_TEMPLATES = Path(__file__).parent / "templates"
_FROM = StallThresholds()
_LEVELS: dict[StallLevel, str] = {
    "keeps_up": f"Keeps up: below {percent(_FROM.waits_fraction)}",
    "waits": f"Waits: from {percent(_FROM.waits_fraction)} on",
    "starves": f"Starves: from {percent(_FROM.starves_fraction)} on",
}
_LINES = ("worker_lines", "host_lines", "slow_samples")
_SECTIONS = (
    ("Workers", ("worker_changes", *_LINES, "workers", "stages")),
    ("Epochs and processes", ("epochs", "ranks")),
    ("Samples left out or replaced", ("bad_samples",)),
    ("The run and its machine", ("loaders", "settings", "machine")),
)
"""Headings with the tables below them."""
_WIDE = ("worker_changes", *_LINES, "bad_samples")
_SAMPLES_NAMED = 20  # guess: what somebody looks at; the JSON has all


def render_html(summary: StallSummary, *, title: str = "Training run") -> str:
    """Return the whole report as one HTML page.

    Args:
        summary: What was measured. What is missing in it leaves its section out.
        title: Names the run at the top.
    """
    sentence = verdict_sentence(summary.stall_fraction)
    level = None if summary.stall_fraction is None else stall_level(summary.stall_fraction)
    detail = summary.detail
    from_ns = charts.readable_from_ns(detail.spans)
    page = _environment().get_template("report.html.j2")
    return page.render(
        title=words.printable(title),
        summary=summary,
        level=level,
        badge="Too short to judge" if level is None else _LEVELS[level],
        sentence=sentence[0].upper() + sentence[1:],
        origin=words.origin_line(summary.run),
        run_line=words.run_line(summary),
        big="" if level is None else percent(summary.stall_fraction).removesuffix(" %"),
        step_ms=step_ms(summary.wall_ns, summary.steps),
        facts=_headline_facts(summary),
        parts=_parts(summary),
        timeline=charts.timeline_chart(detail.timeline) if detail.timeline else None,
        timeline_legend=_timeline_legend(summary),
        timeline_steps=sum(bucket.steps for bucket in detail.timeline),
        from_ns=from_ns,
        lanes=charts.lanes_of(detail.spans, from_ns, detail.piece_ns) if detail.spans else None,
        depth=charts.depth_chart(detail.depth, from_ns, detail.piece_ns) if detail.depth else None,
        tables=tables_of(summary),
        sections=_SECTIONS,
        wide=_WIDE,
        samples_named=_SAMPLES_NAMED,
    )


def write_html(summary: StallSummary, path: Path, *, title: str | None = None) -> None:
    """Write the report to ``path``, making its folder; an older file of that name is replaced.

    Args:
        summary: What was measured.
        path: The file.
        title: Names the run at the top; ``None`` takes the folder's name.
    """
    write_text(render_html(summary, title=title or run_name(path)), path)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,  # every name in a report comes from somebody's files and code
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, Any] = {
        "percent": percent,
        "duration": duration,
        "printable": words.printable,
        "told": words.told,
        "verdict": followed_verdict,
        "change": words.setting_change,
        "cause": words.CAUSES.__getitem__,
        "prediction": prediction,
    }
    environment.filters.update(filters)
    return environment


def _headline_facts(summary: StallSummary) -> list[tuple[str, str]]:
    facts = [("time of a step", f"{step_ms(summary.wall_ns, summary.steps)} ms")]
    if not summary.steps:
        return []
    if summary.samples_per_s is not None:
        facts.append(("samples a second", rate(summary.samples_per_s)))
    if summary.wait_p50_ns is not None:
        facts.append(("median wait", duration(summary.wait_p50_ns)))
    if summary.wait_p99_ns is not None:
        name = "1 wait in 100 over" if words.has_hundredths(summary) else "longest wait"
        facts.append((name, duration(summary.wait_p99_ns)))
    if summary.first_batch_ns is not None:
        facts.append(("first batch", duration(summary.first_batch_ns)))
    return facts


def _parts(summary: StallSummary) -> list[dict[str, Any]]:
    """Give the parts of the wall time, each with its style, its figures and its width."""
    rest_ns = summary.other_host_ns - summary.checkpoint_ns - summary.logging_ns
    sums_ns = {
        "wait": summary.exposed_stall_ns,
        "transfer": summary.transfer_ns,
        "compute": summary.compute_ns,
        "other": rest_ns,
        "checkpoint": summary.checkpoint_ns,
        "logging": summary.logging_ns,
    }
    if not summary.wall_ns:
        return []
    return [
        {
            "style": f"p-{name}",
            "name": words.PARTS[name],
            "ms": step_ms(part_ns, summary.steps),
            "total": duration(part_ns),
            "share": share(part_ns, summary.wall_ns),
            "width": round(100 * part_ns / summary.wall_ns, 3),
        }
        for name, part_ns in sums_ns.items()
        if part_ns > 0
    ]


def _timeline_legend(summary: StallSummary) -> list[tuple[str, str]]:
    return [
        (f"p-{name}", text)
        for name, text in words.PARTS.items()
        if name != "validation"
        and any(getattr(bucket, f"{name}_ns") for bucket in summary.detail.timeline)
    ]
