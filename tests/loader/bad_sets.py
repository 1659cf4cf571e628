"""One dataset with bad samples, the ways to go over it, and what is listed of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from fault_passes import Pass, go_over
from fault_sets import Good

LENGTH = 60
BAD = (3, 21, 22, 50, 59)
GOOD = set(range(LENGTH)) - set(BAD)
SKIP: dict[str, Any] = {"on_bad_sample": "skip", "max_bad_fraction": 0.2}
LEAVE: dict[str, Any] = {"on_bad_sample": "leave_out", "max_bad_fraction": 0.2}
ENGINES: dict[str, dict[str, Any]] = {
    "inline": {"num_workers": 0},
    "ring of 1": {"num_workers": 1},
    "ring of 2": {"num_workers": 2},
    "ring of 3": {"num_workers": 3},
    "torch": {"num_workers": 2, "engine": "torch"},
}
EVERYWHERE = pytest.mark.parametrize(
    "engine", ["inline", "ring of 2", pytest.param("torch", marks=pytest.mark.slow)]
)


def listed_over(file: Path, dataset: Any = None, **how: Any) -> Pass:
    """Go over the bad samples, or another dataset, with a list of them in ``file``."""
    how = SKIP | {"quarantine": file} | how
    return go_over(Good(LENGTH, BAD) if dataset is None else dataset, **how)


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def pairs_in(file: Path) -> list[dict[str, Any]]:
    return records(file.with_name(f"{file.stem}.repeats{file.suffix}"))


def bad_records(file: Path) -> list[dict[str, Any]]:
    return [record for record in records(file) if "index" in record]
