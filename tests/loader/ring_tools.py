"""Rings run by hand, datasets that get stuck, and who is left of a ring's processes."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]  # it ships no types
from sample_sets import Numbers

from lightning_fastdata.loader.engine import HostBatch, Request
from lightning_fastdata.loader.make import recipe_of
from lightning_fastdata.loader.ring.budget import MemoryBudget
from lightning_fastdata.loader.ring.ring_engine import RingEngine
from lightning_fastdata.loader.ring.settings import RingSettings

GONE_WITHIN_S = 5.0  # for the slowest way to end: a second of grace, then the kernel


class Stuck(Numbers):
    """Tells when a sample from ``at`` on is asked for, and never makes it."""

    def __init__(self, reached: int, at: int = 5) -> None:
        super().__init__(400)
        self.reached, self.at = reached, at

    def __getitem__(self, index: int) -> int:
        if index >= self.at:
            os.write(self.reached, b"x")
            time.sleep(1000)
        return index


def left_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended in time; a zombie has, whoever should have waited for it."""
    deadline_s = time.monotonic() + GONE_WITHIN_S
    left = processes
    while left and time.monotonic() < deadline_s:
        _, left = psutil.wait_procs(left, timeout=0.1)
        left = [process for process in left if is_alive(process)]
    return left


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def engine_of(
    dataset: Any,
    budget: MemoryBudget | None,
    *,
    depth: int = 4,
    num_workers: int = 2,
    chunk_samples: int | None = None,
    collate_fn: Callable[[Any], Any] | None = None,
) -> RingEngine:
    return RingEngine(
        recipe_of(dataset, collate_fn, None, batched=True),
        RingSettings(num_workers=num_workers, chunk_samples=chunk_samples),
        start_method="fork",
        depth=depth,
        budget=budget,
    )


def answers(engine: RingEngine, batches: int, batch_size: int = 1) -> Iterator[HostBatch]:
    """Ask for the dataset's first batches, keeping the engine as busy as a loader does."""
    asked = 0
    for _ in range(batches):
        while asked < batches and engine.in_flight < engine.depth:
            first = asked * batch_size
            engine.submit(
                Request(
                    number=asked,
                    epoch=0,
                    indices=np.arange(first, first + batch_size),
                    seeds=np.zeros(batch_size, np.uint64),
                    batch_seed=0,
                )
            )
            asked += 1
        yield engine.next()
