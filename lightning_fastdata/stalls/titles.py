"""What causes and places in code are called, for every reader of a summary."""

import re

from lightning_fastdata.stalls.finding import Cause

CAUSES: dict[Cause, str] = {
    "too_few_workers": "Too few workers",
    "too_many_workers": "More workers than needed",
    "cpu_saturated": "The CPU is saturated",
    "storage": "Waiting for storage",
    "slow_samples": "A few slow samples",
    "ipc": "Batches take long from worker to trainer",
    "pinning": "Batches are not in page-locked memory",
    "transfer": "Copies to the device are not hidden",
    "host_sync": "The loop waits for the device each step",
    "epoch_start": "Epochs start slowly",
    "host_other": "Other work in the training process",
    "rank_straggler": "One process holds up the others",
}
_CELL = re.compile(r"[^\s\"'`]*/ipykernel_\d+/\w+\.py:(\d+)|<ipython-input[^>\s]*>:(\d+)")
"""Where a notebook's kernel says that a cell stands, with the line."""


def with_cells_named(text: str) -> str:
    """Say ``notebook cell, line 3`` for a place in the kernel's own files, which nobody opens."""
    return _CELL.sub(lambda found: f"notebook cell, line {found[1] or found[2]}", text)
