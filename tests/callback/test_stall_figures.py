"""What the profiler measures in real runs. Waiting is what is measured, so it sleeps."""

import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.utilities import CombinedLoader
from stall_runs import (
    BATCHES,
    BOTH,
    THIRD_PARTY_WARNINGS,
    Model,
    Numbers,
    Stream,
    Validated,
    a_loader,
    a_loader_from,
    a_model,
    a_trainer,
    summary_of,
)
from torch.utils.data import DataLoader

from lightning_fastdata.callback import DataStallProfiler

pytestmark = THIRD_PARTY_WARNINGS
WAIT_S = 0.030
STEP_S = 0.070


@BOTH
def test_an_injected_wait_of_30_in_100_ms_reads_as_30_percent(
    namespace: Any, tmp_path: Path
) -> None:
    profiler = DataStallProfiler()
    trainer = a_trainer(tmp_path, profiler, namespace=namespace)

    trainer.fit(a_model(namespace, step_s=STEP_S), a_loader(Numbers(wait_s=WAIT_S)))

    summary = summary_of(profiler)
    assert summary.stall_fraction == pytest.approx(0.30, abs=0.02)
    assert summary.steps == BATCHES - 1
    assert summary.wait_p50_ns == pytest.approx(30e6, rel=0.05)
    assert (summary.clock, summary.device, summary.hidden_wait_ns) == ("host", "cpu", 0)


def test_validation_and_sanity_check_are_not_waiting_for_data(tmp_path: Path) -> None:
    profiler = DataStallProfiler()
    trainer = a_trainer(tmp_path, profiler, val_check_interval=5, num_sanity_val_steps=2)
    slow_validation = a_loader(Numbers(2, wait_s=0.1))

    trainer.fit(Validated(step_s=STEP_S), a_loader(Numbers(wait_s=WAIT_S)), slow_validation)

    summary = summary_of(profiler)
    assert summary.stall_fraction == pytest.approx(0.30, abs=0.02)
    assert summary.validation_ns >= 4 * 0.4e9  # the fifth follows the last step
    assert summary.first_batch_ns is not None
    assert summary.first_batch_ns < 0.4e9


class SlowCallback(lightning.pytorch.Callback):
    def on_train_batch_end(self, *_: Any) -> None:
        time.sleep(0.01)


def test_a_slow_callback_is_other_host_work(tmp_path: Path) -> None:
    profiler = DataStallProfiler()

    a_trainer(tmp_path, profiler, SlowCallback()).fit(Model(), a_loader())

    summary = summary_of(profiler)
    assert summary.other_host_ns >= summary.steps * 10_000_000
    assert summary.exposed_stall_ns < summary.other_host_ns


def test_each_epoch_has_its_start_measured(tmp_path: Path) -> None:
    profiler = DataStallProfiler()
    trainer = a_trainer(tmp_path, profiler, max_epochs=3)

    trainer.fit(Model(), a_loader(Numbers(5, wait_s=0.02)))

    summary = summary_of(profiler)
    assert (summary.steps, summary.steps_left_out) == (12, 3)
    assert len(summary.epoch_start_ns) == 2
    assert all(start_ns >= 0.02e9 for start_ns in summary.epoch_start_ns)
    assert summary.first_batch_ns is not None
    assert summary.first_batch_ns >= 0.02e9


def test_the_first_batch_includes_making_the_loader_and_what_it_fetched_before_training(
    tmp_path: Path,
) -> None:
    """A loader without a length gives its first batch before any hook of training has run."""
    profiler = DataStallProfiler()
    trainer = a_trainer(tmp_path, profiler)

    trainer.fit(Model(), a_loader_from(Stream(5, wait_s=0.05)))

    summary = summary_of(profiler)
    assert summary.first_batch_ns is not None
    assert summary.first_batch_ns >= 0.3e9  # 0.2 s in the hook, 0.05 s for each of two batches
    assert summary.steps == 4


def test_the_time_of_hooks_is_not_the_first_batchs(tmp_path: Path) -> None:
    profiler = DataStallProfiler()
    trainer = a_trainer(tmp_path, SlowHooks(), profiler)

    trainer.fit(Model(), a_loader())

    first_batch_ns = summary_of(profiler).first_batch_ns
    assert first_batch_ns is not None
    assert first_batch_ns < 0.3e9


class SlowHooks(lightning.pytorch.Callback):
    def on_fit_start(self, *_: Any) -> None:
        time.sleep(0.3)

    def on_train_start(self, *_: Any) -> None:
        time.sleep(0.3)


def test_a_loader_without_a_length_has_every_wait_counted(tmp_path: Path) -> None:
    profiler = DataStallProfiler()

    a_trainer(tmp_path, profiler).fit(
        Model(step_s=STEP_S), a_loader(Stream(wait_s=WAIT_S), batch_size=None)
    )

    summary = summary_of(profiler)
    # Two batches are fetched before the first step, so one wait fewer falls into the others.
    wanted = 0.3 * (BATCHES - 2) / (BATCHES - 1)
    assert summary.stall_fraction == pytest.approx(wanted, abs=0.02)


def test_a_loader_that_ends_before_its_length_is_measured_to_its_end(tmp_path: Path) -> None:
    profiler = DataStallProfiler()

    a_trainer(tmp_path, profiler, max_epochs=2).fit(Model(), EndsEarly())

    assert summary_of(profiler).steps == 2 * 6
    assert summary_of(profiler).problem is None


class EndsEarly:
    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.zeros(7, 1, 4))


class FetchesItself(Model):
    def training_step(self, dataloader_iter: Any) -> torch.Tensor:  # type: ignore[override]  # Lightning looks at the name
        batch, index, _ = next(dataloader_iter)
        return super().training_step(batch, index)


def test_a_step_that_fetches_for_itself_waits_and_does_not_compute(tmp_path: Path) -> None:
    profiler = DataStallProfiler()

    a_trainer(tmp_path, profiler).fit(
        FetchesItself(step_s=STEP_S), a_loader(Numbers(wait_s=WAIT_S))
    )

    summary = summary_of(profiler)
    assert summary.stall_fraction == pytest.approx(0.30, abs=0.02)
    assert summary.steps == BATCHES - 1


def test_several_loaders_at_once_are_measured_but_their_samples_are_not_counted(
    tmp_path: Path,
) -> None:
    profiler = DataStallProfiler()
    both = CombinedLoader({"a": a_loader(Numbers(wait_s=0.01)), "b": a_loader()}, "min_size")

    a_trainer(tmp_path, profiler).fit(Model(), both)

    summary = summary_of(profiler)
    assert summary.exposed_stall_ns >= (BATCHES - 1) * 0.01e9
    assert summary.samples_per_s is None


def test_samples_a_second_follow_the_batch_size(tmp_path: Path) -> None:
    profiler = DataStallProfiler()

    a_trainer(tmp_path, profiler).fit(Model(), a_loader(Numbers(100), batch_size=4))

    summary = summary_of(profiler)
    assert summary.samples_per_s == pytest.approx(4 * summary.steps / (summary.wall_ns / 1e9))


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"accumulate_grad_batches": 3}, BATCHES - 1),
        ({"limit_train_batches": 10}, 9),
        ({"limit_train_batches": 0.4}, 9),
        ({"max_steps": 7, "max_epochs": -1}, 6),
        ({"overfit_batches": 4, "max_epochs": 2}, 6),
        ({"reload_dataloaders_every_n_epochs": 1, "max_epochs": 2, "limit_train_batches": 4}, 6),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_every_batch_but_the_first_of_an_epoch_is_a_step(
    options: dict[str, Any], steps: int, tmp_path: Path
) -> None:
    profiler = DataStallProfiler()

    a_trainer(tmp_path, profiler, **options).fit(Model(), a_loader())

    assert summary_of(profiler).steps == steps


def test_a_loader_made_anew_counts_at_the_start_of_its_epoch(tmp_path: Path) -> None:
    profiler = DataStallProfiler()
    trainer = a_trainer(tmp_path, profiler, reload_dataloaders_every_n_epochs=1, max_epochs=2)

    trainer.fit(Model(), a_loader_from(Numbers(3)))

    (start_ns,) = summary_of(profiler).epoch_start_ns
    assert start_ns >= 0.2e9


class SizedData(lightning.pytorch.LightningDataModule):
    batch_size = 1

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        return DataLoader(Numbers(64), batch_size=self.batch_size)


@pytest.mark.parametrize(
    "search",
    [
        lambda: BatchSizeFinder(max_trials=2, steps_per_trial=2, init_val=2),
        lambda: LearningRateFinder(num_training_steps=3),
    ],
    ids=["batch_size", "learning_rate"],
)
def test_trial_runs_are_not_measured(search: Callable[[], Any], tmp_path: Path) -> None:
    profiler = DataStallProfiler()
    trainer = a_trainer(tmp_path, search(), profiler, max_steps=6, max_epochs=-1)
    model = Model()
    model.lr = 0.1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the searches warn of is not the subject
        trainer.fit(model, datamodule=SizedData())

    summary = summary_of(profiler)
    assert summary.steps + summary.steps_left_out == 6
    assert summary.first_batch_ns is None, "the trial had opened the loader"
