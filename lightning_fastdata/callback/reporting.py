"""Gives the reports of one run: on the terminal, and as files in one folder."""

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal, TypeAlias

from lightning_fastdata.errors import FastDataError
from lightning_fastdata.report import render_terminal, say, write_json
from lightning_fastdata.report.html import write_html
from lightning_fastdata.stalls import StallSummary
from lightning_fastdata.stalls.json_form import summary_from_json
from lightning_fastdata.trace import RunRecord

Report: TypeAlias = Literal["terminal", "json", "html", "trace"]
REPORTS: tuple[Report, ...] = ("terminal", "json", "html", "trace")
SUMMARY_FILE, PAGE_FILE, TRACE_FILE = "summary.json", "report.html", "trace.json"

_logger = logging.getLogger(__name__)


def summary_of_last_run(folder: Path | None) -> StallSummary | None:
    """Read what an earlier run left in ``folder``; ``None`` where there is nothing of use."""
    if folder is None:
        return None
    try:
        return summary_from_json((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (FastDataError, OSError, UnicodeDecodeError) as error:
        _logger.warning(
            "The report of the last run in %s cannot be read, so its advice is not compared with "
            "this run (%s).",
            folder,
            error,
        )
        return None


def _write_trace(record: RunRecord, path: Path) -> None:
    from lightning_fastdata.report.chrome import write_chrome_trace

    write_chrome_trace(record, path)


def give_reports(
    summary: StallSummary,
    record: RunRecord | None,
    *,
    reports: Collection[Report],
    folder: Path | None,
) -> None:
    """Print and write what was asked for; what fails is said, and the rest still given.

    Args:
        summary: The run in short.
        record: All that was recorded of it; without it there is no trace file.
        reports: Which of ``REPORTS``.
        folder: Where files go; ``None`` writes none.
    """
    if "terminal" in reports:
        _try("printed", lambda: render_terminal(summary))
    if folder is None:
        return
    written = []
    if "json" in reports and _try(SUMMARY_FILE, lambda: write_json(summary, folder / SUMMARY_FILE)):
        written.append(SUMMARY_FILE)
    if "html" in reports and _try(PAGE_FILE, lambda: write_html(summary, folder / PAGE_FILE)):
        written.append(PAGE_FILE)
    if (
        "trace" in reports
        and record is not None
        and _try(TRACE_FILE, lambda: _write_trace(record, folder / TRACE_FILE))
    ):
        written.append(TRACE_FILE)
    if written:
        say(f"Stall report: {folder} ({', '.join(written)})")


def _try(what: str, give: Callable[[], object]) -> bool:
    try:
        give()
    except Exception as error:
        _logger.warning(
            "The stall report (%s) could not be given (%r). Pass another dirpath.", what, error
        )
        return False
    return True
