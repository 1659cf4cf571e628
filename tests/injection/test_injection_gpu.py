"""Two bottlenecks that only a CUDA device has: copies that are not pinned, and a wait each step."""

from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from lightning_fastdata.callback import DataStallProfiler
from lightning_fastdata.stalls import StallSummary

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
STEPS = 80
CYCLES = 10_000_000
"""Of the device's clock: some 5 to 10 ms."""


class Same(Dataset[torch.Tensor]):
    """One tensor again and again, so that the loader takes no time."""

    def __init__(self, size_bytes: int) -> None:
        self.batch = torch.ones(size_bytes // 4)

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.batch


class Spinner(lightning.pytorch.LightningModule):
    """Keeps the device busy for a fixed time."""

    def __init__(self, *, waits: bool) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.waits = waits

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        torch.cuda._sleep(CYCLES)  # type: ignore[no-untyped-call]  # torch has no types for it
        loss: torch.Tensor = self.layer(torch.zeros(1, 4, device=self.device)).sum()
        if self.waits:
            loss.item()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def summary_of_run(folder: Path, size_bytes: int, *, waits: bool, pin: bool) -> StallSummary:
    profiler = DataStallProfiler(folder, reports=("json",))
    trainer = lightning.pytorch.Trainer(
        accelerator="gpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[profiler],
    )
    loader = DataLoader(Same(size_bytes), batch_size=None, pin_memory=pin)
    trainer.fit(Spinner(waits=waits), loader)
    assert profiler.summary is not None
    return profiler.summary


def test_copies_from_pageable_memory_are_named(tmp_path: Path) -> None:
    summary = summary_of_run(tmp_path, 128 << 20, waits=False, pin=False)

    assert summary.findings[0].cause == "pinning"
    assert summary.findings[0].changes[0].then is True


def test_an_item_in_each_step_is_named(tmp_path: Path) -> None:
    summary = summary_of_run(tmp_path, 1 << 10, waits=True, pin=True)

    assert summary.findings[0].cause == "host_sync"
