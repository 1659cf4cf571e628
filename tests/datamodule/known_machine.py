"""A machine with two cores on which no worker is worth it, and a decision to remember."""

from dataclasses import replace
from typing import Any

from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.machine import Machine, read_machine
from lightning_fastdata.tuning.probe import ProbeFacts
from lightning_fastdata.tuning.remembered import Remembered

DECISION = Remembered(
    engine="ring",
    num_workers=2,
    prefetch_batches=8,
    stall_fraction=0.004,
    step_time_s=0.05,
    batch_bytes=16,
    source="run",
    saved_on="2026-11-23",
)


def two_cores(environ: Any, local_world_size: int | None = None) -> Machine:
    return replace(read_machine(environ, local_world_size), cores=2.0)


def cheap(recipe: Recipe, batch_size: int, **_: Any) -> ProbeFacts:
    """Read a sample, and find that no worker is worth it."""
    assert recipe.dataset[0] is not None
    return ProbeFacts(samples=1, batch_wall_ns=1000, batch_cpu_ns=1000, batch_bytes=4 * batch_size)
