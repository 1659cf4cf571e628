"""What is tuned in the tests: small datasets, data modules and models."""

import os
import random
import time
from pathlib import Path
from typing import Any

import lightning.pytorch
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Numbers(Dataset[tuple[torch.Tensor, int]]):
    """Samples that are slept for, so that other processes on the machine hardly matter."""

    def __init__(self, length: int = 96, sleep_s: float = 0.0) -> None:
        self.length, self.sleep_s = length, sleep_s

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if self.sleep_s:
            time.sleep(self.sleep_s)
        return torch.rand(4), index % 3


class Places(Numbers):
    """Each process that makes samples notes on how many cores it may run, in a file of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(sleep_s=0.005)
        self.folder = folder

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        (self.folder / str(os.getpid())).write_text(str(len(os.sched_getaffinity(0))))
        return super().__getitem__(index)


class NumbersModule(lightning.pytorch.LightningDataModule):
    """A data module as people write them; it keeps what its hooks do."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[str | None] = []
        self.dataset: Numbers | None = None

    def setup(self, stage: str | None = None) -> None:
        self.stages = [*self.stages, stage]
        random.random(), np.random.rand(), torch.rand(1)  # as those do who split at random
        self.dataset = Numbers()

    def train_dataloader(self) -> Any:
        assert self.dataset is not None
        return DataLoader(self.dataset, batch_size=8, shuffle=True)


def make_net(pl: Any) -> Any:
    """A small network for the Trainer of one of Lightning's two names."""

    class Net(pl.LightningModule):  # type: ignore[misc]  # the base is an argument
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)
            self.norm = torch.nn.BatchNorm1d(4)

        def training_step(self, batch: Any, index: int) -> Any:
            values, labels = batch
            loss = torch.nn.functional.cross_entropy(self.layer(self.norm(values)), labels)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

        def configure_callbacks(self) -> Any:
            return [pl.callbacks.ModelCheckpoint(dirpath="checkpoints")]

    return Net()
