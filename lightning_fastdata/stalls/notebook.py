"""A summary in a notebook's cell: the verdict, one bar, what to change. For any theme."""

from dataclasses import fields, is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from lightning_fastdata.stalls.verdict import verdict_sentence

if TYPE_CHECKING:
    from lightning_fastdata.stalls.summary import StallSummary

_PARTS = (
    ("exposed_stall_ns", "waiting for data", "#d55e00"),
    ("transfer_ns", "transfer", "#cc79a7"),
    ("compute_ns", "compute", "#0072b2"),
    ("other_host_ns", "other host work", "#999999"),
)  # Okabe and Ito's colours, which colour-blind people tell apart


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
        f'<span title="{name}: {100 * share:.1f} %" '
        f'style="background:{color};width:{100 * share:.2f}%"></span>'
        for name, color, share in shares
    )
    legend = " &nbsp; ".join(
        f'<span style="color:{color}">&#9632;</span> {name} {100 * share:.1f} %'
        for name, color, share in shares
    )
    return f'<div style="display:flex;height:1em">{pieces}</div><p>{legend}</p>'


def _findings(summary: "StallSummary") -> str:
    entries = [
        f"<li><strong>{escape(finding.cause.replace('_', ' '))}</strong>, "
        f"{100 * finding.stall_fraction:.1f} %: {escape(finding.advice)}</li>"
        for finding in summary.findings
    ]
    return f"<ol>{''.join(entries)}</ol>" if entries else ""


def _table(summary: "StallSummary") -> str:
    rows = "".join(
        f"<tr><th style='text-align:left'>{entry.name}</th>"
        f"<td>{escape(_shown(getattr(summary, entry.name)))}</td></tr>"
        for entry in fields(summary)
    )
    return f"<table><caption>StallSummary</caption>{rows}</table>"


def _shown(value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, tuple):
        if any(is_dataclass(entry) for entry in value):
            return f"{len(value)} of them"
        return ", ".join(str(entry) for entry in value) or "none"
    if is_dataclass(value):
        return "see to_json()"
    return str(value)
