"""Runs on a clock that moves only when a part of the run says that it takes time."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch.utils.data import Dataset, IterableDataset

from lightning_fastdata.callback import DataStallProfiler
from lightning_fastdata.trace import Part, RunRecord


class ToldClock:
    """Time passes where somebody spends it, and it is noted for what."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.spent_ns: Counter[Part] = Counter()

    def __call__(self) -> int:
        return self.now_ns

    def spend(self, part: Part, lasted_ns: int) -> None:
        self.now_ns += lasted_ns
        self.spent_ns[part] += lasted_ns


class ToldNumbers(Dataset[torch.Tensor]):
    def __init__(self, clock: ToldClock, length: int = 9, part: Part = Part.WAIT) -> None:
        self.clock = clock
        self.length = length
        self.part = part

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        self.clock.spend(self.part, 10 + index)
        return torch.zeros(4)


class ToldStream(IterableDataset[torch.Tensor]):
    def __init__(self, clock: ToldClock, length: int = 9) -> None:
        self.numbers = ToldNumbers(clock, length)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.numbers[index] for index in range(len(self.numbers)))


class ToldModel(lightning.pytorch.LightningModule):
    """Every place of Lightning's loop that a user can write in takes a time of its own."""

    def __init__(self, clock: ToldClock) -> None:
        super().__init__()
        self.clock = clock
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.compute()

    def compute(self) -> torch.Tensor:
        self.clock.spend(Part.COMPUTE, 1_000)
        loss: torch.Tensor = self.layer(torch.zeros(1, 4)).sum()
        self.log("loss", loss, batch_size=1)
        return loss

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.clock.spend(Part.OTHER, 1)

    def on_train_batch_end(self, *_: Any) -> None:
        self.clock.spend(Part.OTHER, 2)

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        training = self.trainer.training
        self.clock.spend(Part.TRANSFER if training else Part.VALIDATION, 100)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.clock.spend(Part.CHECKPOINT, 10_000_000)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class ToldValidated(ToldModel):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.clock.spend(Part.VALIDATION, 100_000)


class ToldSteps(ToldModel):
    def __init__(self, clock: ToldClock) -> None:
        super().__init__(clock)
        self.automatic_optimization = False


class ToldFetches(ToldModel):
    def training_step(self, dataloader_iter: Any) -> torch.Tensor:  # type: ignore[override]  # Lightning looks at the name
        next(dataloader_iter)
        return self.compute()


class ToldLogger(Logger):
    name = version = "told"

    def __init__(self, clock: ToldClock) -> None:
        self.clock = clock

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.clock.spend(Part.LOGGING, 1_000_000)

    def save(self) -> None:
        self.clock.spend(Part.LOGGING, 3_000_000)

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...


class Watch(lightning.pytorch.Callback):
    """Knows, from the clock alone, what was spent from the first step of each epoch to its last."""

    def __init__(self, clock: ToldClock, profiler: DataStallProfiler) -> None:
        self.clock = clock
        self.profiler = profiler
        self.record: RunRecord | None = None
        self.epochs: list[list[tuple[int, Counter[Part]]]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.epochs.append([])

    def on_train_batch_end(self, *_: Any) -> None:
        self.epochs[-1].append((self.clock.now_ns, self.clock.spent_ns.copy()))
        assert self.profiler._run is not None
        self.record = self.profiler._run.record

    @property
    def wall_ns(self) -> int:
        return sum(epoch[-1][0] - epoch[0][0] for epoch in self.epochs if epoch)

    @property
    def parts_ns(self) -> list[int]:
        return [
            sum(epoch[-1][1][part] - epoch[0][1][part] for epoch in self.epochs if epoch)
            for part in Part
        ]


def recorded_parts_ns(record: RunRecord | None) -> list[int]:
    """Of all steps, warm-up or not."""
    assert record is not None
    trace = record.stall
    return [a + b for a, b in zip(trace.warmup.parts_ns, trace.steady.parts_ns, strict=True)]


def told_trainer(folder: Path, clock: ToldClock, **options: Any) -> tuple[Any, Watch]:
    """A trainer whose profiler reads the clock, and the watch that saw the same run."""
    profiler = DataStallProfiler(reports=(), log_every_n_steps=4)
    profiler._clock_ns = clock
    watch = Watch(clock, profiler)
    saving = ModelCheckpoint(folder, every_n_train_steps=3, save_top_k=-1)
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 2,
        "logger": ToldLogger(clock),
        "log_every_n_steps": 2,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    } | options
    callbacks = [watch, profiler, saving, *settings.pop("callbacks", [])]
    return lightning.pytorch.Trainer(callbacks=callbacks, **settings), watch
