"""The profiler sees into the workers of any loader, and leaves every loader as it was."""

import pickle
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch
from stall_runs import (
    BOTH,
    THIRD_PARTY_WARNINGS,
    BreakAt,
    Model,
    Numbers,
    Stream,
    a_loader,
    a_model,
    a_trainer,
    summary_of,
)
from torch.utils.data import DataLoader, Dataset

from lightning_fastdata.callback import DataStallProfiler
from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.stalls import StallSummary
from lightning_fastdata.trace.stages import stage

pytestmark = THIRD_PARTY_WARNINGS
LENGTH, SLOW = 40, 7


class Told(Dataset[torch.Tensor]):
    """Has a slow sample, a stage, and files."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> torch.Tensor:
        with stage("decode"):
            time.sleep(0.06 if index == SLOW else 0.002)
        return torch.zeros(4)

    def sample_path(self, index: int) -> str:
        return f"/pictures/{index}.jpg"


def fit(tmp_path: Path, loaders: Any, *callbacks: Any, **options: Any) -> StallSummary:
    profiler = DataStallProfiler(reports=())
    a_trainer(tmp_path, profiler, *callbacks, **options).fit(Model(), loaders)
    return summary_of(profiler)


@BOTH
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("kind", [DataLoader, FastDataLoader])
def test_what_a_loader_does_is_seen_whoever_made_it(
    kind: type[Any], num_workers: int, namespace: Any, tmp_path: Path
) -> None:
    profiler = DataStallProfiler(reports=())
    loader = kind(Told(), batch_size=2, num_workers=num_workers)

    a_trainer(tmp_path, profiler, namespace=namespace).fit(a_model(namespace), loader)

    summary = summary_of(profiler)
    assert summary.workers is not None
    assert summary.workers.samples == LENGTH
    assert summary.worker_stage_fractions["decode"] > 0.5
    slowest = summary.slow_samples[0]
    assert (slowest.index, slowest.path) == (SLOW, f"/pictures/{SLOW}.jpg")


def test_a_stock_loader_is_its_own_again_afterwards(tmp_path: Path) -> None:
    loader = DataLoader(Told(), batch_size=2, num_workers=1, persistent_workers=True)

    fit(tmp_path, loader)

    assert type(loader) is DataLoader
    loader._iterator = None


def test_a_run_that_breaks_off_leaves_loaders_and_trainer_as_they_were(tmp_path: Path) -> None:
    loader = DataLoader(Told(), batch_size=2)
    trainer = a_trainer(tmp_path, DataStallProfiler(reports=()), BreakAt(3, RuntimeError("broken")))

    with pytest.raises(RuntimeError, match=r"^broken"):
        trainer.fit(Model(), loader)

    assert type(loader) is DataLoader
    assert "dataloader" not in vars(trainer.fit_loop._data_source)


def test_several_loaders_are_told_apart_by_their_names(tmp_path: Path) -> None:
    loaders = {"left": a_loader(Told()), "right": [FastDataLoader(Told()), a_loader(Numbers(40))]}

    summary = fit(tmp_path, loaders)

    assert summary.run is not None
    assert [loader.name for loader in summary.run.loaders] == ["left", "right/0", "right/1"]


def test_a_loader_that_is_made_anew_each_epoch_is_one_loader(tmp_path: Path) -> None:
    class Module(lightning.pytorch.LightningDataModule):
        def train_dataloader(self) -> Any:
            return DataLoader(Told(), batch_size=2, num_workers=1)

    profiler = DataStallProfiler(reports=())

    a_trainer(tmp_path, profiler, max_epochs=2, reload_dataloaders_every_n_epochs=1).fit(
        Model(), datamodule=Module()
    )

    workers = summary_of(profiler).workers
    assert workers is not None
    assert workers.samples == 2 * LENGTH


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_a_loader_that_lightning_makes_anew_is_watched(tmp_path: Path) -> None:
    loader = DataLoader(Told(), batch_size=2, shuffle=True, num_workers=1)

    summary = fit(tmp_path, loader, overfit_batches=6, max_epochs=2)

    assert summary.workers is not None
    assert summary.workers.batches == 12


@pytest.mark.parametrize("kind", [DataLoader, FastDataLoader])
def test_streams_are_watched(kind: type[Any], tmp_path: Path) -> None:
    summary = fit(tmp_path, kind(Stream(40), batch_size=4, num_workers=1))

    assert summary.workers is not None
    assert summary.workers.samples == 40


def test_what_is_no_loader_is_trained_on_all_the_same(tmp_path: Path) -> None:
    class Batches:
        def __iter__(self) -> Iterator[torch.Tensor]:
            return iter([torch.zeros(2, 4)] * 30)

    summary = fit(tmp_path, Batches())

    assert summary.steps == 29
    assert summary.workers is None
    assert summary.problem is None


def test_a_loader_that_refuses_to_be_looked_at_is_trained_on_all_the_same(tmp_path: Path) -> None:
    class Silent:
        def __getattr__(self, name: str) -> Any:
            if name == "iterables":
                raise RuntimeError("no questions")
            raise AttributeError(name)

        def __iter__(self) -> Iterator[torch.Tensor]:
            return iter([torch.zeros(2, 4)] * 5)

    summary = fit(tmp_path, Silent())

    assert summary.steps == 4


class Dawdler(lightning.pytorch.Callback):
    def on_train_batch_end(self, *_: Any) -> None:
        time.sleep(0.02)


def test_a_line_of_a_callback_that_holds_up_training_is_named(tmp_path: Path) -> None:
    summary = fit(tmp_path, a_loader(Numbers(40)), Dawdler())

    assert summary.findings[0].cause == "host_other"
    assert summary.host_lines[0].file == __file__
    assert summary.host_lines[0].text == "time.sleep(0.02)"


def test_a_later_run_in_the_same_folder_sets_the_prediction_beside_what_was_measured(
    tmp_path: Path,
) -> None:
    summaries = []
    for num_workers in (1, None):
        if num_workers is None:
            (change,) = summaries[0].findings[0].changes
            assert change.name == "num_workers"
            num_workers = change.then
        profiler = DataStallProfiler(tmp_path / "report", reports=("json",))
        loader = FastDataLoader(Numbers(240, wait_s=0.01), batch_size=4, num_workers=num_workers)
        a_trainer(tmp_path, profiler).fit(Model(step_s=0.025), loader)
        summaries.append(summary_of(profiler))
    first, second = summaries

    (followed,) = second.followed

    assert followed.cause == first.findings[0].cause
    assert followed.predicted_stall_fraction == first.findings[0].predicted_stall_fraction
    assert followed.measured_stall_fraction == second.stall_fraction


def test_a_learning_rate_search_before_training_is_no_part_of_what_is_seen(tmp_path: Path) -> None:
    class Searched(Model):
        lr = 0.1

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    profiler = DataStallProfiler(reports=())
    search = lightning.pytorch.callbacks.LearningRateFinder(num_training_steps=8)

    a_trainer(tmp_path, profiler, search).fit(Searched(), DataLoader(Told(), batch_size=2))

    workers = summary_of(profiler).workers
    assert workers is not None
    assert workers.batches == LENGTH // 2


def test_loaders_that_are_made_anew_each_epoch_leave_no_workers(tmp_path: Path) -> None:
    class Module(lightning.pytorch.LightningDataModule):
        def train_dataloader(self) -> Any:
            return FastDataLoader(Told(), batch_size=4, num_workers=1, persistent_workers=True)

    counted = []

    class Count(lightning.pytorch.Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            counted.append(len(psutil.Process().children()))

    profiler, reload = DataStallProfiler(reports=()), {"reload_dataloaders_every_n_epochs": 1}
    a_trainer(tmp_path, profiler, Count(), max_epochs=3, **reload).fit(Model(), datamodule=Module())

    assert counted[0] == counted[-1]


def test_a_callback_can_be_sent_to_a_process_that_is_started_by_spawn() -> None:
    profiler = pickle.loads(pickle.dumps(DataStallProfiler(fail_above=0.5)))

    assert profiler.fail_above == 0.5


def test_a_run_that_broke_off_at_once_keeps_the_report_of_the_last_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in (Model(), Model(fails_at=0)):
        profiler = DataStallProfiler(tmp_path, reports=("json",))
        with suppress(RuntimeError):
            a_trainer(tmp_path, profiler).fit(model, a_loader())

    assert '"steps": 24' in (tmp_path / "summary.json").read_text()
    assert "Nothing was measured; the report of the last run" in capsys.readouterr().out


def test_a_report_of_another_version_in_the_folder_is_said_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "summary.json").write_text('{"schema_version": 1}')
    profiler = DataStallProfiler(tmp_path, reports=("json",))

    a_trainer(tmp_path, profiler).fit(Model(), a_loader())

    assert "cannot be read, so its advice is not compared" in caplog.text
    assert '"schema_version": 2' in (tmp_path / "summary.json").read_text()
