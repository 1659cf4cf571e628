"""Gives the reports of one run: on the terminal, and as files in one folder."""

import logging
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from lightning_fastdata.errors import FastDataError
from lightning_fastdata.report import render_terminal, say, write_json
from lightning_fastdata.report.chrome import write_chrome_trace
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
    failed: list[str] = []
    if folder is not None and not summary.steps and (folder / SUMMARY_FILE).exists():
        stays = f"Nothing was measured; the report of the last run in {folder} stays."
        _give(lambda: say(stays), "the terminal", failed)
        folder = None
    if "terminal" in reports:
        _give(lambda: render_terminal(summary), "the terminal", failed)
    writers: dict[Report, tuple[str, Callable[[Path], object]]] = {
        "html": (PAGE_FILE, lambda path: write_html(summary, path)),
        "json": (SUMMARY_FILE, lambda path: write_json(summary, path)),
    }
    if record is not None:
        writers["trace"] = (TRACE_FILE, lambda path: write_chrome_trace(record, path))
    asked = [writer for report, writer in writers.items() if report in reports]
    written = [
        file
        for file, write in asked
        if folder is not None and _give(partial(write, folder / file), file, failed)
    ]
    if written and folder is not None:
        first, *others = written
        where = f"Stall report: {folder / first}" + (
            f" (and {', '.join(others)})" if others else ""
        )
        _give(lambda: say(where), "its place", failed)  # standard output may be closed
    if failed:
        _logger.warning(
            "The stall report could not be given: %s. Pass another dirpath.", "; ".join(failed)
        )


def _give(give: Callable[[], object], what: str, failed: list[str]) -> bool:
    try:
        give()
    except Exception as error:
        failed.append(f"{what} ({error!r})")
        return False
    return True
