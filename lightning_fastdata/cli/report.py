"""``lightning-fastdata report``: shows the stall report of a run that has ended."""

import os
import sys
from pathlib import Path

from lightning_fastdata.cli.report_arguments import ReportOptions
from lightning_fastdata.errors import SettingsError
from lightning_fastdata.report import render_terminal, write_html, write_json
from lightning_fastdata.report.files import run_name
from lightning_fastdata.stalls import StallSummary
from lightning_fastdata.stalls.json_form import summary_from_json

FILE_NAME = "summary.json"
_NAMED = 5  # guess: enough to see which folder to name


def run_report(options: ReportOptions) -> int:
    """Print the report of a run, and write the files that were asked for.

    Returns:
        The exit status, which is 0.

    Raises:
        SettingsError: There is no report at ``options.run``, or a file cannot be written.
    """
    path = find_summary(options.run)
    summary = read_summary(path)
    if options.json == "-":
        print(summary.to_json())
    else:
        render_terminal(summary)
    written: list[tuple[str, Path]] = []
    try:
        if options.json not in (None, "-"):
            written.append(("JSON", Path(str(options.json)).expanduser().absolute()))
            write_json(summary, written[-1][1])
        if options.html is not None:
            written.append(("HTML", options.html.absolute()))
            write_html(summary, written[-1][1], title=run_name(path))
    except OSError as error:
        kind, file = written[-1]
        raise SettingsError(
            f"--{kind.lower()} {file} cannot be written ({error.strerror}), wanted a file. "
            "Pass another one."
        ) from error
    for kind, file in written:
        print(f"{kind}: {file}", file=sys.stderr)
    return 0


def find_summary(run: Path) -> Path:
    """Return the one summary that ``run`` names: a file, its folder, or a folder above it.

    Raises:
        SettingsError: There is none, or more than one.
    """
    if run.is_file():
        return run
    if not run.is_dir():
        raise SettingsError(
            f"{run} does not exist, wanted a {FILE_NAME} or a folder with one. Pass the dirpath of "
            "DataStallProfiler, or the logger's folder."
        )
    if (run / FILE_NAME).is_file():
        return run / FILE_NAME
    found = sorted(
        Path(folder, FILE_NAME) for folder, _, files in os.walk(run) if FILE_NAME in files
    )
    if not found:
        raise SettingsError(
            f"{run} holds no {FILE_NAME}, wanted one. Train with DataStallProfiler() in "
            "Trainer(callbacks=...), then pass its dirpath or the logger's folder."
        )
    if len(found) > 1:
        named = ", ".join(str(path) for path in found[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise SettingsError(
            f"{run} holds {len(found)} reports ({named}{more}), wanted one. Name one of them."
        )
    return found[0]


def read_summary(path: Path) -> StallSummary:
    """Read a summary.

    Raises:
        SettingsError: The file cannot be read, or holds something else.
    """
    try:
        return summary_from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read ({error.strerror}), wanted a stall report. Pass another one."
        ) from error
    except ValueError as error:  # SettingsError is one, and so is text that is not UTF-8
        raise SettingsError(f"{path}: {error}") from None
