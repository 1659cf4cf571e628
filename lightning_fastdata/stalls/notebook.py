"""A summary in a notebook's cell: the verdict, one bar, what to change. For any theme."""

from html import escape
from typing import TYPE_CHECKING

from lightning_fastdata.stalls.finding import Finding
from lightning_fastdata.stalls.titles import CAUSES, with_cells_named
from lightning_fastdata.stalls.verdict import verdict_sentence

if TYPE_CHECKING:
    from lightning_fastdata.stalls.summary import StallSummary

_PARTS = (
    ("exposed_stall_ns", "waiting for data", "#d55e00"),
    ("transfer_ns", "transfer", "#cc79a7"),
    ("compute_ns", "compute", "#0072b2"),
    ("other_host_ns", "other host work", "#999999"),
)  # Okabe and Ito's colours, which colour-blind people tell apart
_TIMES = (
    ("wait_p50_ns", "median wait"),
    ("wait_p95_ns", "1 wait in 20 over"),
    ("first_batch_ns", "first batch"),
    ("validation_ns", "validation between these steps"),
)
_FINDINGS_SHOWN, _STAGES_SHOWN, _TEXT_SHOWN = 3, 8, 1000  # guess: what fits below a cell


def summary_html(summary: "StallSummary") -> str:
    """Return a small piece of HTML that needs nothing around it."""
    sentence = verdict_sentence(summary.stall_fraction)
    return (
        '<div style="max-width:44em">'
        f"<p><strong>{escape(sentence[0].upper() + sentence[1:])}</strong></p>"
        f"{_bar(summary)}{_findings(summary)}"
        f"<details><summary>All figures</summary>{_table(summary)}</details></div>"
    )


def _bar(summary: "StallSummary") -> str:
    if not summary.wall_ns:
        return ""
    shares = [
        (name, color, getattr(summary, field) / summary.wall_ns) for field, name, color in _PARTS
    ]
    pieces = "".join(
        f'<span title="{name}: {_percent(share)}" '
        f'style="background:{color};width:{100 * share:.2f}%"></span>'
        for name, color, share in shares
    )
    legend = " &nbsp; ".join(
        f'<span style="color:{color}">&#9632;</span> {name} {_percent(share)}'
        for name, color, share in shares
    )
    return f'<div style="display:flex;height:1em">{pieces}</div><p>{legend}</p>'


def _findings(summary: "StallSummary") -> str:
    entries = "".join(_finding(finding) for finding in summary.findings[:_FINDINGS_SHOWN])
    hidden = len(summary.findings) - _FINDINGS_SHOWN
    more = f"<p>And {hidden} more of less weight.</p>" if hidden > 0 else ""
    return f"<ol>{entries}</ol>{more}" if entries else ""


def _finding(finding: Finding) -> str:
    fraction, foreseen = finding.stall_fraction, finding.predicted_stall_fraction
    costs = f": costs {_percent(fraction)} of the time" if fraction else ""
    because = "".join(f"<br>because: {_text(sentence)}" for sentence in finding.evidence[:1])
    advice = _text(finding.advice)
    if foreseen is not None:
        advice = f"{advice.rstrip('.')} (predicted stall {_percent(foreseen)})"
    return f"<li><strong>{CAUSES[finding.cause]}</strong>{costs}{because}<br>do: {advice}</li>"


def _table(summary: "StallSummary") -> str:
    rows = [("steady steps", f"{summary.steps:,}"), ("left out", f"{summary.steps_left_out:,}")]
    if summary.steps:
        step_ms = summary.wall_ns / summary.steps / 1e6
        rows.append(("time of a step", f"{step_ms:.2f} ms"))
        rows += [
            (f"of it {name}", f"{getattr(summary, field) / summary.steps / 1e6:.2f} ms")
            for field, name, _ in _PARTS
        ]
    if summary.samples_per_s is not None:
        rows.append(("samples a second", f"{summary.samples_per_s:,.1f}"))
    for field, name in _TIMES:
        time_ns: int | None = getattr(summary, field)
        if time_ns:
            rows.append((name, _duration(time_ns)))
    stages = sorted(summary.worker_stage_fractions.items(), key=lambda stage: -stage[1])
    rows += [
        (f"workers' time: {_text(name[:80])}", _percent(part))
        for name, part in stages[:_STAGES_SHOWN]
    ]
    if summary.problem is not None:
        rows.append(("incomplete", _text(summary.problem)))
    cells = "".join(
        f"<tr><th style='text-align:left'>{name}</th><td>{value}</td></tr>" for name, value in rows
    )
    return f"<table>{cells}</table>"


def _text(text: str) -> str:
    return escape(with_cells_named(text[:_TEXT_SHOWN]))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _duration(time_ns: int) -> str:
    return f"{time_ns / 1e6:.2f} ms" if time_ns < 10**9 else f"{time_ns / 1e9:.2f} s"
