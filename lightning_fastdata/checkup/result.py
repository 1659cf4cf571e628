"""What a check-up came to, as values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any, Literal

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "error")
SCHEMA_VERSION = 1
"""Of ``DoctorReport.to_json``. Raised when a field changes its meaning or goes away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """What it is about, such as ``cores`` or ``samples``."""
    level: Level
    """``ok``; ``note`` is good to know; ``warning`` may cost speed or a run one day; ``error``
    breaks a run or changes its data."""
    found: str
    """What was found, with values."""
    wanted: str = ""
    """What would be right; empty where it is."""
    remedy: str = ""
    """What to do; empty where there is nothing to do."""
    dataset: str | None = None
    """Which dataset it is about; ``None`` is the machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadSample:
    """A sample that cannot be made."""

    dataset: str
    index: int
    path: str | None
    """Its file; ``None`` where the dataset cannot name it (``sample_path(index)``)."""
    error: str
    """What went wrong, in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlier:
    """A sample of another structure, shape or type than most."""

    dataset: str
    index: int
    path: str | None
    found: str
    """What this sample is."""
    usual: str
    """What most samples are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SlowSample:
    """One of the samples that took longest."""

    dataset: str
    index: int
    path: str | None
    wall_ns: int
    """Time to make it in a worker. High: its batch is late."""
    cpu_ns: int
    """CPU time in it. Far below ``wall_ns``: it waited for storage, a lock or another program."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorReport:
    """What is wrong with a machine or a dataset, and what to do about it."""

    checks: tuple[Check, ...]
    """Everything that was looked at, the machine first."""
    bad_samples: tuple[BadSample, ...] = ()
    """Every sample that cannot be made, by index."""
    outliers: tuple[Outlier, ...] = ()
    """Samples that do not fit to the others, by index."""
    slowest: tuple[SlowSample, ...] = ()
    """The slowest one in a hundred, slowest first."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What was measured: the machine, versions, and each dataset's size and times."""

    @property
    def is_healthy(self) -> bool:
        """Whether no check is an error."""
        return all(check.level != "error" for check in self.checks)

    @property
    def has_warnings(self) -> bool:
        """Whether a check is a warning."""
        return any(check.level == "warning" for check in self.checks)

    def to_json(self) -> str:
        """Return everything, with the version of its meaning, as JSON text."""
        values = {"schema_version": SCHEMA_VERSION, "is_healthy": self.is_healthy}
        return json.dumps({**values, **asdict(self)}, indent=2)

    def _repr_html_(self) -> str:
        checks = [
            (check.level, check.dataset or "", check.name, check.found, check.wanted, check.remedy)
            for check in self.checks
        ]
        bad = [(str(one.index), one.path or "", one.error) for one in self.bad_samples]
        outliers = [(str(one.index), one.path or "", one.found) for one in self.outliers]
        slow = [
            (str(one.index), one.path or "", f"{one.wall_ns / 1e6:.1f}") for one in self.slowest
        ]
        heads = ("", "dataset", "check", "found", "wanted", "what to do")
        return (
            _html_table("DoctorReport", heads, checks)
            + _html_table("Bad samples", ("index", "file", "error"), bad)
            + _html_table("Unlike the others", ("index", "file", "found"), outliers)
            + _html_table("Slowest", ("index", "file", "ms"), slow)
        )


_HTML_ROWS = 50  # guess: what a person scrolls through; the rest is in the JSON


def _html_table(title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""

    def line(cells: tuple[str, ...], tag: str) -> str:
        inner = "".join(f"<{tag} style='text-align:left'>{escape(cell)}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    body = "".join(line(row, "td") for row in rows[:_HTML_ROWS])
    hidden = len(rows) - _HTML_ROWS
    more = f"<p>and {hidden} more</p>" if hidden > 0 else ""
    caption = f"<caption>{escape(title)}</caption>"
    return f"<table>{caption}{line(heads, 'th')}{body}</table>{more}"
