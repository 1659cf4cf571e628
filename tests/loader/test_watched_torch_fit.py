"""A loader that is watched from inside a Lightning run."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.utilities.data import _update_dataloader
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from watched_sets import OwnLoader

from lightning_fastdata.loader.watched import Watch, watch
from lightning_fastdata.trace.work import WorkTrace


class Model(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.seen: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.append(batch[0])
        loss: Tensor = self.layer(batch[0]).sum()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Watching(pl.Callback):
    def __init__(self) -> None:
        self.work = WorkTrace()
        self.stop_watching: Watch | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Before training starts Lightning has begun a pass already.
        self.stop_watching = watch(trainer.fit_loop._data_source.instance, self.work)  # type: ignore[arg-type]

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.stop_watching is not None:
            self.stop_watching()


def fit(loader: DataLoader[Any], folder: Path, *callbacks: pl.Callback) -> list[Tensor]:
    pl.seed_everything(3)
    model = Model()
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )
    trainer.fit(model, loader)
    return model.seen


@pytest.mark.parametrize(
    "arguments",
    [{}, {"num_workers": 1}, {"num_workers": 1, "persistent_workers": True}],
    ids=["inline", "workers", "persistent"],
)
def test_a_fit_trains_on_the_same_batches_and_records_each(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    def loader() -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.rand(10, 2)), 2, shuffle=True, **arguments)

    torch.manual_seed(5)
    unwatched = fit(loader(), tmp_path)
    torch.manual_seed(5)
    watched, watching = loader(), Watching()

    seen = fit(watched, tmp_path, watching)

    assert all(map(torch.equal, seen, unwatched))
    assert type(watched) is DataLoader
    assert watching.stop_watching is not None
    assert watching.stop_watching.problem is None
    assert [batch.number for batch in watching.work.recent] == [*range(5), *range(5)]


@pytest.mark.parametrize("kind", [DataLoader, OwnLoader])
def test_a_loader_that_lightning_makes_anew_for_its_rank_is_watched(kind: Any) -> None:
    dataset = TensorDataset(torch.arange(8))
    loader, work = kind(dataset, batch_size=2), WorkTrace()
    stop_watching = watch(loader, work)
    sampler: Any = DistributedSampler(dataset, num_replicas=2, rank=1, shuffle=False)

    of_rank: Any = _update_dataloader(loader, sampler)
    batches = list(of_rank)
    stop_watching()

    assert len(batches) == 2
    assert of_rank.sampler is sampler
    assert work.slowest()
    assert {key for key, _ in work.slowest()} == {1, 3, 5, 7}
    assert type(of_rank) is kind
