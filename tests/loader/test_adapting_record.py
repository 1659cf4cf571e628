"""What a run's record says of a loader whose number of workers changed while it trained."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from adapting_tools import MS, chunk, want_two_workers
from torch import Tensor, nn
from torch.utils.data import Dataset

from lightning_fastdata.callback.watching import LoaderWatch
from lightning_fastdata.loader import meter
from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.loader.stopwatch import Stopwatch
from lightning_fastdata.stalls.workload import FEWEST_SINCE_CHANGE, workload_of
from lightning_fastdata.trace import BatchTimes, LoaderRecord, LoaderSetup, StallTrace, WorkTrace
from lightning_fastdata.trace.changes import PlanChange

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


class Pictures(Dataset[Tensor]):
    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((2,), float(index))


class Slow(Pictures):
    """Samples that one worker cannot make in time for a step of next to nothing."""

    def __getitem__(self, index: int) -> Tensor:
        time.sleep(0.01)
        return super().__getitem__(index)


class Model(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).sum()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Looking(pl.Callback):
    def __init__(self) -> None:
        self.watch = LoaderWatch()
        self.records: list[LoaderRecord] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.watch.put_into(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.watch.begin(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.records = self.watch.records()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.watch.take_out()


class Anew(pl.LightningDataModule):
    """Gives a new loader each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def train_dataloader(self) -> FastDataLoader:
        self.given += 1
        return FastDataLoader(Pictures(), 5, num_workers=0)


def fit(folder: Path, loaders: Any, **options: Any) -> LoaderRecord:
    looking = Looking()
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[looking],
        **options,
    )
    trainer.fit(Model(), loaders)
    (record,) = looking.records
    return record


@pytest.fixture
def one_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each loader changes once, after its second batch, to two workers."""
    want_two_workers(monkeypatch)


@pytest.mark.usefixtures("one_change")
def test_the_record_shows_the_changes_and_the_newest_setup(tmp_path: Path) -> None:
    loader = FastDataLoader(Pictures(), 5, num_workers=0, multiprocessing_context="fork")

    record = fit(tmp_path, loader)

    assert [(change.before, change.after) for change in record.changes] == [(0, 2)]
    setup = record.setup
    assert (setup.engine, setup.num_workers, setup.prefetch_batches) == ("ring", 2, 8)
    assert record.work.totals.batches == 24
    # Workers that came in mid-pass are watched as closely as others.
    made = [batch.chunks[0] for batch in record.work.recent if batch.chunks[0].worker is not None]
    assert len(made) >= 20
    assert all(chunk.cached_bytes is not None for chunk in made)


def test_the_record_shows_why_the_number_stays_though_training_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget of one worker, and samples that it cannot make in time."""
    monkeypatch.setattr(meter, "FIRST_NS", 200 * MS)
    plan = replace(FastDataLoader(Slow(), 5, num_workers=1).plan, max_workers=1)
    loader = FastDataLoader(Slow(), 5, plan=plan)

    record = fit(tmp_path, loader)

    assert record.changes == ()
    assert record.why_no_change is not None
    assert "1 is the most workers that there may be" in record.why_no_change


@pytest.mark.usefixtures("one_change")
def test_changes_of_a_loader_that_was_made_anew_are_kept(tmp_path: Path) -> None:
    module = Anew()

    record = fit(tmp_path, module, reload_dataloaders_every_n_epochs=1)

    assert module.given == 2
    assert [(change.before, change.after) for change in record.changes] == [(0, 2)] * 2


@pytest.mark.usefixtures("one_change")
def test_only_the_newest_changes_of_loaders_that_were_made_anew_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of months makes them anew each epoch."""
    monkeypatch.setattr("lightning_fastdata.callback.watching.MOST_CHANGES", 1)

    record = fit(tmp_path, Anew(), reload_dataloaders_every_n_epochs=1)

    assert [(change.before, change.after) for change in record.changes] == [(0, 2)]


@pytest.mark.usefixtures("one_change")
def test_changes_of_an_earlier_fit_are_not_this_ones(tmp_path: Path) -> None:
    loader = FastDataLoader(Pictures(), 5, num_workers=0, multiprocessing_context="fork")

    records = [fit(tmp_path, loader) for _ in range(2)]

    assert [len(record.changes) for record in records] == [1, 0]


def record_with(batches: int, change_at: int | None) -> LoaderRecord:
    """Batches of 10 ms each, and one change before one of them."""
    work = WorkTrace()
    for number in range(batches):
        at_ns = number * 10 * MS
        work.add(
            BatchTimes(
                number=number,
                asked_ns=at_ns,
                sent_ns=None,
                arrived_ns=at_ns + 5 * MS,
                wanted_ns=at_ns + 6 * MS,
                taken_ns=at_ns + 7 * MS,
                size_bytes=None,
                chunks=(chunk(at_ns, at_ns + 5 * MS),),
            )
        )
    changes: tuple[PlanChange, ...] = ()
    if change_at is not None:
        change = PlanChange(
            at_ns=change_at * 10 * MS - 1,
            kind="grow",
            before=1,
            after=2,
            reason="so",
            stall_fraction=0.5,
        )
        changes = (change,)
    setup = LoaderSetup(
        name="",
        is_ours=True,
        engine="ring",
        num_workers=2,
        prefetch_batches=4,
        batch_size=4,
        pin_memory=False,
        persistent_workers=True,
        in_order=True,
        has_length=True,
        samples=400,
        dataset="Pictures",
    )
    return LoaderRecord(setup=setup, work=work, changes=changes)


@pytest.mark.parametrize(
    ("change_at", "first"),
    [
        (None, 0),
        (40, 40),
        (100 - FEWEST_SINCE_CHANGE, 100 - FEWEST_SINCE_CHANGE),
        (101 - FEWEST_SINCE_CHANGE, 0),
    ],
)
def test_a_replay_is_of_what_came_after_the_last_change(change_at: int | None, first: int) -> None:
    """Unless that is too little to say anything."""
    loader = record_with(100, change_at)

    workload = workload_of(loader, StallTrace(clock="host", device_type="cpu"), is_drained=True)

    assert workload is not None
    assert workload.passes[0].batches[0].number == first


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="needs Linux's schedstat")
def test_a_worker_knows_how_long_it_had_no_core_without_being_watched() -> None:
    """Only after a chunk of a millisecond: shorter ones would notice the asking."""
    stopwatch, told = Stopwatch(0), []

    for work_ms in (2, 2, 0, 0, 2):
        stopwatch.begin(closely=False)
        until_ns = time.perf_counter_ns() + work_ms * MS
        while time.perf_counter_ns() < until_ns:
            np.arange(9)
        told.append(stopwatch.stop(samples=1).core_wait_ns)

    assert [core_wait_ns is not None for core_wait_ns in told] == [True, True, True, False, False]
    assert all(core_wait_ns is None or core_wait_ns >= 0 for core_wait_ns in told)


def test_the_training_process_does_not_ask_for_what_nobody_watches() -> None:
    stopwatch = Stopwatch(None)
    stopwatch.begin(closely=False)

    assert stopwatch.stop(samples=1).core_wait_ns is None
