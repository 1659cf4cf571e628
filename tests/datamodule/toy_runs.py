"""Small runs of a data module: datasets that say what was read, models that note what they got."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset
from torch.utils.data import _utils as torch_data_utils

LENGTH, BATCH = 22, 4
"""Samples and batch size of most runs: 6 batches an epoch, the last one not full."""

BOTH = pytest.mark.parametrize(
    "namespace",
    [lightning.pytorch, pytest.param(pytorch_lightning, marks=pytest.mark.slow)],  # one code
    ids=["lightning", "pytorch_lightning"],
)


class Numbers(Dataset[Tensor]):
    """Sample ``i`` is the number ``first + i``."""

    def __init__(self, length: int = LENGTH, first: int = 0) -> None:
        self.length, self.first = length, first
        self.reads = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        assert type(index) is int
        if not 0 <= index < self.length:
            raise IndexError(index)
        self.reads += 1
        return torch.tensor([float(self.first + index)])


class Noisy(Numbers):
    """Sample ``i`` is ``i``, the epoch it was told, and three random draws."""

    epoch = -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> Tensor:
        import random

        import numpy as np

        number = super().__getitem__(index)
        draws = torch.tensor([float(np.random.rand()), random.random()])
        return torch.cat([number, torch.tensor([float(self.epoch)]), torch.rand(1), draws])


class Stream(IterableDataset[Tensor]):
    """The numbers from 0 on, without a length."""

    def __init__(self, length: int = LENGTH) -> None:
        self.length = length

    def __iter__(self) -> Iterator[Tensor]:
        info = torch_data_utils.worker.get_worker_info()
        start, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(torch.tensor([float(n)]) for n in range(start, self.length, step))


class SizedStream(Stream):
    """The same, with a length."""

    def __len__(self) -> int:
        return self.length


def plain(batch: Any) -> Any:
    """A nested batch as nested lists, so that it can be compared and kept."""
    if isinstance(batch, Tensor):
        return batch.flatten().tolist() if batch.ndim < 2 or batch.shape[1] == 1 else batch.tolist()
    if isinstance(batch, dict):
        return {key: plain(value) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return [plain(value) for value in batch]
    return batch


class _Notes:
    """Notes each batch as ``(epoch, batch)`` by the kind of loop."""

    fails_at: int | None = None
    reads_steps = False

    def start(self) -> None:
        self.layer = torch.nn.Linear(1, 1)
        self.seen: dict[str, list[tuple[int, Any]]] = {}

    def note(self, kind: str, batch: Any) -> None:
        self.seen.setdefault(kind, []).append((self.trainer.current_epoch, plain(batch)))  # type: ignore[attr-defined]  # the module's

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.fails_at == batch_idx:
            raise RuntimeError("the step broke")
        self.note("train", batch)
        loss: Tensor = self.layer(torch.ones(1, 1)).sum()
        return loss

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.note(f"predict[{dataloader_idx}]", batch)
        return batch

    def configure_optimizers(self) -> Any:
        if self.reads_steps:
            assert self.trainer.estimated_stepping_batches  # type: ignore[attr-defined]  # the module's
        return torch.optim.SGD(self.layer.parameters(), lr=0.0)


class _Evaluates:
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.note(f"val[{dataloader_idx}]", batch)  # type: ignore[attr-defined]  # of _Notes

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.note(f"test[{dataloader_idx}]", batch)  # type: ignore[attr-defined]  # of _Notes


class TrainsOnly(_Notes, lightning.pytorch.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.start()


class Model(_Evaluates, TrainsOnly):
    pass


class LegacyTrainsOnly(_Notes, pytorch_lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.start()


class LegacyModel(_Evaluates, LegacyTrainsOnly):
    pass


def a_model(namespace: Any = lightning.pytorch, *, evaluates: bool = True, **settings: Any) -> Any:
    new, legacy = (Model, LegacyModel) if evaluates else (TrainsOnly, LegacyTrainsOnly)
    model = new() if namespace is lightning.pytorch else legacy()
    for name, value in settings.items():
        setattr(model, name, value)
    return model


def a_trainer(
    folder: Path, *callbacks: Any, namespace: Any = lightning.pytorch, **options: Any
) -> Any:
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return namespace.Trainer(callbacks=list(callbacks), **(quiet | options))


def fit(
    datamodule: Any,
    folder: Path,
    *callbacks: Any,
    namespace: Any = lightning.pytorch,
    model: Any = None,
    ckpt_path: Any = None,
    **options: Any,
) -> Any:
    """Train a small model, and give it back with its notes."""
    if model is None:  # of a hook without data Lightning asks that no step is written for it
        model = a_model(namespace, evaluates="val_dataloader" not in vars(datamodule))
    trainer = a_trainer(folder, *callbacks, namespace=namespace, **options)
    trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
    return model


def samples(notes: list[tuple[int, Any]], epoch: int | None = None) -> list[float]:
    """All numbers noted, of one epoch or of all, in the order they came."""
    return [n for at, batch in notes if epoch is None or at == epoch for n in batch]


def epochs(notes: list[tuple[int, Any]]) -> list[list[float]]:
    """The numbers of each epoch."""
    return [samples(notes, epoch) for epoch in range(1 + max(at for at, _ in notes))]


class At(lightning.pytorch.Callback, pytorch_lightning.Callback):  # type: ignore[misc]  # published twice
    """Calls a function with the trainer after each training batch."""

    def __init__(self, do: Callable[[Any], None]) -> None:
        self.do = do

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        self.do(trainer)
