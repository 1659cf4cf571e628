"""A summary as a file for other programs."""

from pathlib import Path

from lightning_fastdata.stalls import StallSummary


def write_json(summary: StallSummary, path: Path) -> None:
    """Write ``summary`` to ``path``, making its folder; an older file of that name is replaced.

    A reader never sees half a file: the text is written beside it and then moved there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(summary.to_json() + "\n", encoding="utf-8")
    unfinished.replace(path)
