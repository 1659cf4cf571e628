"""What a check-up looks like: tables on a terminal, plain text anywhere else."""

import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_fastdata.checkup.result import LEVELS, Check, DoctorReport, Level, SlowSample
from lightning_fastdata.report.units import duration, share

LISTED = 20  # guess: what fits on a screen; the JSON has all
PLAIN_WIDTH = 100
WORTH_SHOWING_NS = 1_000_000  # guess: a slow sample of less holds up nobody
_STYLES: dict[Level, str] = {
    "ok": "green",
    "note": "cyan",
    "warning": "yellow",
    "error": "bold red",
}
_HINTS = {"wanted": "wanted: ", "remedy": "do: "}


def render_doctor(report: DoctorReport, *, console: Console | None = None) -> None:
    """Print a check-up.

    Args:
        report: What was found.
        console: Where to print; ``None`` is standard output. A terminal or a notebook gets drawn
            tables, anything else (a log file, a pipe) plain text.
    """
    console = console or Console()
    if console.is_terminal or console.is_jupyter:
        for title, checks in _sections(report):
            console.print(_checks_table(title, checks))
        for title, heads, rows in _lists(report):
            console.print(_list_table(title, heads, rows))
        levels = {check.level for check in report.checks}
        worst = max(levels, key=LEVELS.index, default=LEVELS[0])
        console.print(Text(verdict(report), style=_STYLES[worst]))
    else:
        print(doctor_text(report), file=console.file)


def doctor_text(report: DoctorReport) -> str:
    """Return a check-up as plain text, 100 columns wide but for what cannot be broken."""
    lines: list[str] = []
    for title, checks in _sections(report):
        lines += [title, *(line for check in checks for line in _check_lines(check)), ""]
    for title, _, rows in _lists(report):
        lines.append(title)
        width = max(len(row[0]) for row in rows)
        for first, *others in rows:
            # One line each, however long: such a list is searched and cut by other programs.
            lines.append("  ".join([f"  {first:>{width}}", *(part for part in others if part)]))
        lines.append("")
    return "\n".join([*lines, verdict(report)])


def verdict(report: DoctorReport) -> str:
    """Return one sentence on how it stands."""
    counts = {
        level: sum(check.level == level for check in report.checks)
        for level in ("error", "warning", "note")
    }
    told = ", ".join(
        f"{count} {level}{'s' if count > 1 else ''}" for level, count in counts.items() if count
    )
    health = "Healthy" if report.is_healthy else "Not healthy"
    return f"{health}: {len(report.checks)} checks, {told or 'all well'}."


def _sections(report: DoctorReport) -> list[tuple[str, list[Check]]]:
    names = dict.fromkeys(check.dataset for check in report.checks)
    return [
        (
            "This machine" if name is None else f"Dataset {name}",
            [check for check in report.checks if check.dataset == name],
        )
        for name in names
    ]


def _lists(report: DoctorReport) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    several = len({check.dataset for check in report.checks} - {None}) > 1

    def name(dataset: str, index: int) -> str:
        return f"{dataset} {index}" if several else str(index)

    bad = [
        (
            name(one.dataset, one.index),
            "" if _names(one.error, one.path) else one.path or "",
            one.error,
        )
        for one in report.bad_samples
    ]
    odd = [(name(one.dataset, one.index), one.path or "", one.found) for one in report.outliers]
    slow = [
        (
            name(one.dataset, one.index),
            one.path or "",
            f"{duration(one.wall_ns)} ({_cpu_share(one)} of it CPU)",
        )
        for one in report.slowest
        if one.wall_ns >= WORTH_SHOWING_NS
    ]
    lists = (
        ("Samples that cannot be made", ("sample", "file", "error"), bad),
        ("Samples unlike most", ("sample", "file", "found"), odd),
        ("Slowest 1 %", ("sample", "file", "time"), slow),
    )
    return [
        (f"{title} ({_shown_of(rows)})", heads, list(rows[:LISTED]))
        for title, heads, rows in lists
        if rows
    ]


def _cpu_share(one: SlowSample) -> str:
    return share(min(one.cpu_ns, one.wall_ns), one.wall_ns)  # two clocks may differ by a little


def _names(error: str, path: str | None) -> bool:
    return path is not None and path in error


def _shown_of(rows: Sequence[object]) -> str:
    if len(rows) <= LISTED:
        return str(len(rows))
    return f"{LISTED} of {len(rows):,}; --json FILE has all"


def _hints(check: Check) -> list[str]:
    return [f"{word}{text}" for field, word in _HINTS.items() if (text := getattr(check, field))]


def _check_lines(check: Check) -> list[str]:
    lines = _hanging(f"  {check.level:8} {check.name:17} ", check.found)
    for hint in _hints(check):
        lines += _hanging(" " * 29, hint)
    return lines


def _hanging(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        PLAIN_WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _checks_table(title: str, checks: Sequence[Check]) -> Table:
    table = _table(title)
    table.add_column("", no_wrap=True, min_width=7)  # the same in each table, below each other
    table.add_column("check", no_wrap=True, min_width=16)
    table.add_column("found", overflow="fold", ratio=1)
    for check in checks:
        # Text objects throughout: a path with brackets in it must not be taken for markup.
        found = Text(check.found)
        for hint in _hints(check):
            found.append(f"\n{hint}", style="dim" if hint.startswith("wanted") else "italic")
        table.add_row(Text(check.level, style=_STYLES[check.level]), Text(check.name), found)
    return table


def _list_table(title: str, heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = _table(title)
    table.add_column(heads[0], justify="right", no_wrap=True)
    table.add_column(" and ".join(heads[1:]), overflow="fold", ratio=1)
    for first, *others in rows:
        table.add_row(Text(first), Text("\n".join(part for part in others if part)))
    return table


def _table(title: str) -> Table:
    return Table(
        title=Text(title, style="bold"), title_justify="left", box=box.ROUNDED, expand=True
    )
