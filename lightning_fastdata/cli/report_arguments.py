"""What can be typed after ``report`` and ``compare``. Imports neither torch nor Lightning."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fastdata.cli.words import add_command, add_json

_RUN = """\
RUN is a summary.json that DataStallProfiler wrote, the folder that it lies in, or a
folder above with exactly one such file somewhere inside, such as a logger's folder.
"""
_REPORT = f"""\
Show the stall report of a run that has ended: where its steps went, what stalled it
and what to change.

{_RUN}"""
_REPORT_EXAMPLES = """\
examples:
  lightning-fastdata report lightning_logs/version_3
  lightning-fastdata report lightning_logs/version_3 --html report.html
  lightning-fastdata report summary.json --json - | jq .stall_fraction
"""
_COMPARE = f"""\
Set two runs side by side and say whether B is worse than A, why, and what was set up
differently.

{_RUN}"""
_COMPARE_EXAMPLES = """\
exit status:
  0  B is not worse
  1  B is worse: its stall is higher, or its samples a second are fewer, by more than
     is tolerated
  2  it could not be done, for example because RUN does not exist

examples:
  lightning-fastdata compare lightning_logs/version_3 lightning_logs/version_4
  lightning-fastdata compare main.json branch.json --tolerance 0.01
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportOptions:
    """What was asked of ``report``."""

    run: Path
    """A file or a folder."""
    html: Path | None
    """File for the HTML page; ``None`` is none."""
    json: str | None
    """File for the JSON; ``-`` is standard output, ``None`` is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareOptions:
    """What was asked of ``compare``."""

    before: Path
    """A file or a folder: the run called A."""
    after: Path
    """A file or a folder: the run called B."""
    tolerance: float
    """How much more stall (share of the time, 0 to 1) is not worse."""
    rate_tolerance: float
    """How large a share (0 to 1) fewer samples a second is not worse."""


def add_report(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command ``report`` and its arguments."""
    report = add_command(
        commands,
        "report",
        help="show the stall report of a run that has ended, or make its HTML page",
        description=_REPORT,
        epilog=_REPORT_EXAMPLES,
    )
    report.add_argument("run", type=_path, metavar="RUN", help="the run to show")
    report.add_argument("--html", type=_path, metavar="FILE", help="write the report as one page")
    add_json(report)


def add_compare(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command ``compare`` and its arguments."""
    compare = add_command(
        commands,
        "compare",
        help="set two runs side by side; fails where the second is worse",
        description=_COMPARE,
        epilog=_COMPARE_EXAMPLES,
    )
    compare.add_argument("before", type=_path, metavar="A", help="the run to judge by (a RUN)")
    compare.add_argument("after", type=_path, metavar="B", help="the run to judge (a RUN)")
    compare.add_argument(
        "--tolerance",
        type=_fraction,
        default=0.02,
        metavar="SHARE",
        help="how much more stall is not worse, as a share of the time (default: 0.02)",
    )
    compare.add_argument(
        "--rate-tolerance",
        type=_fraction,
        default=0.05,
        metavar="SHARE",
        help="how many fewer samples a second are not worse, as a share (default: 0.05)",
    )


def report_options(arguments: argparse.Namespace) -> ReportOptions:
    """Take the options of ``report`` out of what was parsed."""
    return ReportOptions(run=arguments.run, html=arguments.html, json=arguments.json)


def compare_options(arguments: argparse.Namespace) -> CompareOptions:
    """Take the options of ``compare`` out of what was parsed."""
    return CompareOptions(
        before=arguments.before,
        after=arguments.after,
        tolerance=arguments.tolerance,
        rate_tolerance=arguments.rate_tolerance,
    )


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("found an empty name, wanted a file or a folder. Name one")
    return Path(text).expanduser()


def _fraction(text: str) -> float:
    try:
        fraction = float(text)
    except ValueError:
        fraction = -1.0
    if not 0 <= fraction <= 1:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, wanted a share from 0 to 1. Leave it out for the default"
        )
    return fraction
