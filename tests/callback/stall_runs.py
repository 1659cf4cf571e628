"""Small runs to measure: datasets, models and trainers that take as long as they are told."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightning_fastdata.callback import DataStallProfiler
from lightning_fastdata.stalls import StallSummary

THIRD_PARTY_WARNINGS = [
    pytest.mark.filterwarnings(f"ignore:{message}")
    for message in (
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        r".*does not have many workers",
        r"The number of training batches",
        r"You are using the `dataloader_iter` step flavor",
        r"Found `dataloader_iter` argument",
    )
]
"""Lightning's own, about loops as small as these. For ``pytestmark`` of a test module."""

BATCHES = 25
BOTH = pytest.mark.parametrize(
    "namespace",
    [lightning.pytorch, pytest.param(pytorch_lightning, marks=pytest.mark.slow)],  # one code
    ids=["lightning", "pytorch_lightning"],
)


class Numbers(Dataset[torch.Tensor]):
    def __init__(self, length: int = BATCHES, *, wait_s: float = 0.0) -> None:
        self.length = length
        self.wait_s = wait_s

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        if index >= self.length:
            raise IndexError(index)
        time.sleep(self.wait_s)
        return torch.zeros(4)


class Stream(IterableDataset[torch.Tensor]):
    def __init__(self, length: int = BATCHES, *, wait_s: float = 0.0) -> None:
        self.numbers = Numbers(length, wait_s=wait_s)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.numbers[index] for index in range(len(self.numbers)))


class _Behaviour:
    """A training step that takes as long as it is told, for either namespace's module."""

    step_s = 0.0
    fails_at: int | None = None

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if batch_idx == self.fails_at:
            raise RuntimeError("the step broke")
        time.sleep(self.step_s)
        return self.layer(torch.zeros(1, 4)).sum()  # type: ignore[attr-defined,no-any-return]  # the module's

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)  # type: ignore[attr-defined]  # the module's


class Model(_Behaviour, lightning.pytorch.LightningModule):
    def __init__(self, **behaviour: Any) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        vars(self).update(behaviour)


class LegacyModel(_Behaviour, pytorch_lightning.LightningModule):
    def __init__(self, **behaviour: Any) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        vars(self).update(behaviour)


class Validated(Model):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        time.sleep(0.1)


def a_model(namespace: Any, **behaviour: Any) -> Any:
    return (Model if namespace is lightning.pytorch else LegacyModel)(**behaviour)


def a_trainer(
    folder: Path, *callbacks: Any, namespace: Any = lightning.pytorch, **options: Any
) -> Any:
    quiet = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    return namespace.Trainer(callbacks=list(callbacks), **(quiet | options))


def a_loader(dataset: Any = None, **options: Any) -> DataLoader[torch.Tensor]:
    return DataLoader(Numbers() if dataset is None else dataset, **options)


def a_loader_from(dataset: Any) -> lightning.pytorch.LightningDataModule:
    module = lightning.pytorch.LightningDataModule()

    def train_dataloader() -> DataLoader[torch.Tensor]:
        time.sleep(0.2)
        return DataLoader(dataset)

    module.train_dataloader = train_dataloader  # type: ignore[method-assign]  # as from_datasets does
    return module


def summary_of(profiler: DataStallProfiler) -> StallSummary:
    assert profiler.summary is not None
    return profiler.summary


class KeepProfilers(lightning.pytorch.Callback, pytorch_lightning.Callback):  # type: ignore[misc]  # published twice
    """Remembers which profiler stood in the trainer while it trained."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.while_training = trainer.profiler


class BreakAt(lightning.pytorch.Callback):
    def __init__(self, batch: int, error: type[BaseException]) -> None:
        self.batch = batch
        self.error = error

    def on_train_batch_end(self, trainer: Any, module: Any, _1: Any, _2: Any, index: int) -> None:
        if index == self.batch:
            raise self.error
