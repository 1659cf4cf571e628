"""What the demo found out, as a table and as JSON files."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lightning_fastdata.cli.choice import PictureSets
from lightning_fastdata.cli.runs import RunResult, Training
from lightning_fastdata.errors import SettingsError
from lightning_fastdata.machine import Machine, facts
from lightning_fastdata.report import ReportTable, compare_table, write_json
from lightning_fastdata.report.findings_text import prediction
from lightning_fastdata.report.units import duration, percent
from lightning_fastdata.report.words import CAUSES, printable
from lightning_fastdata.stalls.followed import followed_advice

BUSY_NEIGHBOURS_FRACTION = 0.1  # guess
ADVICE_LENGTH = 400  # characters, guess
SCHEMA_VERSION = 1
"""Of ``demo.json``. Raised when a field changes its meaning or goes away."""


def outcome_table(
    results: Sequence[RunResult], pictures: PictureSets, *, files_were_read: bool
) -> ReportTable:
    """Set the runs side by side, with one sentence on what was won."""
    table = compare_table(
        {result.feed.title: result.summary for result in results},
        extra_rows={
            "whole run": [duration(result.fit_ns) for result in results],
            "workers": [result.num_workers for result in results],
            "validation accuracy": [percent(result.val_accuracy) for result in results],
            "CPU time of others": [percent(result.others_fraction) for result in results],
        },
        title="Where a training step goes",
    )
    classes = len(pictures.train.classes)
    lines = [
        f"Accuracy is of {pictures.val_count} pictures of {classes} classes; "
        f"chance is {percent(1 / classes)}."
    ]
    if not files_were_read:
        lines.append("More files than were read beforehand: the first run met a colder disk cache.")
    if max(result.others_fraction or 0 for result in results) > BUSY_NEIGHBOURS_FRACTION:
        lines.append("Other programs kept the CPU busy: run it again when they rest, to compare.")
    lines += [
        f"Incomplete ({result.feed.title}): {result.summary.problem}"
        for result in results
        if result.summary.problem is not None
    ]
    return replace(table, lines=(*lines, closing_sentence(results)))


def closing_sentence(results: Sequence[RunResult]) -> str:
    """Say how much faster the last run was than the others, in samples a second."""
    *others, last = results
    ratios = [speed_up(last, other) for other in others]
    if None in ratios:
        return "Too few steps to compare the runs: pass a higher --max-steps."
    compared = ", and ".join(
        f"{ratio:.2f} times those of {other.feed.title}"
        for ratio, other in zip(ratios, others, strict=True)
    )
    return f"Samples a second with {last.feed.title}: {compared}."


def found_lines(results: Sequence[RunResult]) -> list[str]:
    """Say what costs most in the first run, what to do, and what a run measured that did it.

    Empty where nothing was found.
    """
    slow, *others = results
    for finding in slow.summary.findings[:1]:
        told = [printable(finding.advice, ADVICE_LENGTH).rstrip(".")]
        if (foreseen := prediction(finding)) is not None:
            told[0] += f" ({foreseen})"
        told += [
            f"measured with {other.feed.title}: {percent(followed.measured_stall_fraction)}"
            for other in others
            for followed in followed_advice(slow.summary, other.summary)
            if followed.changes == finding.changes
        ]
        return [
            f"Found in {slow.feed.title}: {CAUSES[finding.cause]}, costs "
            f"{percent(finding.stall_fraction)} of the time",
            f"   do: {'; '.join(told)}",
        ]
    return []


def speed_up(result: RunResult, other: RunResult) -> float | None:
    """Samples a second of one run over those of the other; ``None`` where one was too short."""
    rates = (result.summary.samples_per_s, other.summary.samples_per_s)
    return rates[0] / rates[1] if rates[0] and rates[1] else None


def write_results(
    folder: Path,
    results: Sequence[RunResult],
    *,
    pictures: PictureSets,
    training: Training,
    machine: Machine,
    plans: dict[str, Any],
) -> Path:
    """Write one JSON file a run, and ``demo.json`` with what they have in common.

    Returns:
        The path of ``demo.json``, which is written last.
    """
    for result in results:
        write_json(result.summary, folder / f"{result.feed.key}.json")
    last = results[-1]
    common = {
        "schema_version": SCHEMA_VERSION,
        "machine": facts(machine),
        "training": asdict(training),
        "pictures": {
            "train_root": pictures.train_root,
            "val_root": pictures.val_root,
            "train_count": pictures.train_count,
            "val_count": pictures.val_count,
            "classes": pictures.train.classes,
        },
        "runs": {result.feed.key: _facts_of(result) for result in results},
        "speed_up_of_auto": {other.feed.key: speed_up(last, other) for other in results[:-1]},
        "plans_of_auto": plans,
    }
    path = folder / "demo.json"
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(common, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)
    return path


def check_writable(folder: Path) -> None:
    """Make the folder for the results, before minutes go into what it is to hold.

    Raises:
        SettingsError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / "demo.json.part"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise SettingsError(
            f"--out {folder} cannot be written ({error.strerror}), wanted a folder for the JSON "
            "files. Pass another one."
        ) from error


def _facts_of(result: RunResult) -> dict[str, Any]:
    return {
        "title": result.feed.title,
        "report": f"{result.feed.key}.json",
        "samples_per_s": result.summary.samples_per_s,
        "stall_fraction": result.summary.stall_fraction,
        "fit_ns": result.fit_ns,
        "num_workers": result.num_workers,
        "val_accuracy": result.val_accuracy,
        "others_fraction": result.others_fraction,
    }
