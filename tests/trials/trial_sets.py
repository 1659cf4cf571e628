"""Datasets and made-up trials for the tests of trials."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import Dataset

from lightning_fastdata.trace.work import BatchTimes, ChunkTimes
from lightning_fastdata.trials.trial import Trial

MS = 1_000_000


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Numbers(Dataset[torch.Tensor]):
    """Samples that cost nothing, or are slept for."""

    def __init__(self, length: int = 64, sleep_s: float = 0.0) -> None:
        self.length, self.sleep_s = length, sleep_s

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.sleep_s:
            time.sleep(self.sleep_s)
        return torch.tensor([float(index)])


def made_times(count: int, batch_ns: int, num_workers: int, rows: int) -> tuple[BatchTimes, ...]:
    """The records of batches that each took one worker so long."""
    return tuple(
        BatchTimes(
            number=number,
            asked_ns=number * batch_ns,
            sent_ns=number * batch_ns,
            arrived_ns=(number + 1) * batch_ns,
            wanted_ns=number * batch_ns,
            taken_ns=(number + 1) * batch_ns,
            size_bytes=8,
            chunks=(
                ChunkTimes(
                    worker=number % num_workers if num_workers else None,
                    samples=rows,
                    began_ns=number * batch_ns,
                    ended_ns=(number + 1) * batch_ns,
                    cpu_ns=0,
                    page_faults=0,
                    read_bytes=0,
                ),
            ),
        )
        for number in range(count)
    )


def runs_by_table(
    stalls: list[float],
    clock: FakeClock,
    *,
    step_ns: int = 10 * MS,
    batch_ns: int = 20 * MS,
    trial_ns: int = 1000 * MS,
) -> Callable[..., Trial | None]:
    """A maker of trials that measures what a table says, in a fixed time by the fake clock."""

    def run(loader: Any, step: Any, *, deadline_ns: int) -> Trial:
        clock.now_ns += trial_ns
        number = loader.plan.num_workers
        stall, batches = stalls[number], 20
        busy_ns = batches * step_ns
        return Trial(
            num_workers=number,
            prefetch_batches=loader.plan.prefetch_batches,
            batches=batches,
            wait_ns=round(busy_ns * stall / (1 - stall)),
            busy_ns=busy_ns,
            whole_ns=trial_ns,
            times=made_times(batches, batch_ns, number, loader.batch_size or 1),
        )

    return run
