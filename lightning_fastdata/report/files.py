"""Results as files for other programs."""

from pathlib import Path
from typing import Protocol


class AsJson(Protocol):
    """What can be written: a ``StallSummary``, a ``DoctorReport``."""

    def to_json(self) -> str:
        """Give everything as JSON text."""


def write_json(result: AsJson, path: Path) -> None:
    """Write ``result`` to ``path``, making its folder; an older file of that name is replaced."""
    write_text(result.to_json() + "\n", path)


def run_name(path: Path) -> str:
    """Name a run by the folder of its report, without one that only says what lies in it."""
    folder = path.absolute().parent
    return (folder.parent.name if folder.name == "stall_report" else folder.name) or "Training run"


def write_text(text: str, path: Path) -> None:
    """Write ``text`` to ``path``, making its folder; an older file of that name is replaced.

    A reader never sees half a file: the text is written beside it and then moved there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
