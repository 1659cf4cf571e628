"""Runs one training with a known bottleneck, and knows by itself how long it waited.

The truth comes from two notes that have nothing to do with the profiler. The loader is a subclass
of the real one whose ``__iter__`` notes when the loop calls ``next`` and when it has its batch; the
model notes when each ``training_step`` begins and ends. On a CPU nothing else can wait for data. A
step lasts from the end of one ``training_step`` to the end of the next, without validation, which
the model times as well. As a summary does, the truth leaves out the first step of each epoch and
the next 20 steps of the run, where at least as many follow.

A step computes by sleeping, so it takes as long on a busy machine, but for the time by which a
sleep is late. That, and how much of the run's cores others used, tells of an overloaded machine.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import quantiles
from typing import Any

import lightning.pytorch
import psutil  # type: ignore[import-untyped]  # it ships no types
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_fastdata.callback import DataStallProfiler
from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.stalls import Finding, StallSummary

WARMUP_STEPS = 20
CORES = 2
"""That a run may use, so that it is the same on a larger machine."""
MOST_LATE, MOST_BY_OTHERS = 0.08, 0.5
"""Of the sleeps of steps, a tenth is later than this share; others use so many of the cores: from
here on a machine is overloaded, and the figures of a run are noise."""
OF_THE_LOADER = ("num_workers", "prefetch_factor", "persistent_workers", "pin_memory", "in_order")


@dataclass(kw_only=True)
class Notes:
    """What the rig sees of a run, in nanoseconds of ``perf_counter_ns``."""

    fetches: list[tuple[int, int]] = field(default_factory=list)
    """When each batch was asked for, and when it was there."""
    steps: list[tuple[int, int, int]] = field(default_factory=list)
    """Epoch, begin and end of each ``training_step``."""
    validations: list[tuple[int, int]] = field(default_factory=list)

    def stall_fraction(self) -> float:
        """The share of the steady steps in which the loop waited for a batch."""
        found = [
            (got_ns - asked_ns, ended_ns - before_ns - self._validation_ns(before_ns, ended_ns))
            for (asked_ns, got_ns), (epoch, _, ended_ns), (epoch_before, _, before_ns) in zip(
                self.fetches[1:], self.steps[1:], self.steps, strict=False
            )
            if epoch == epoch_before
        ]
        if len(found) >= 2 * WARMUP_STEPS:
            found = found[WARMUP_STEPS:]
        return sum(wait_ns for wait_ns, _ in found) / sum(wall_ns for _, wall_ns in found)

    def _validation_ns(self, from_ns: int, to_ns: int) -> int:
        return sum(end - begin for begin, end in self.validations if from_ns <= begin < to_ns)

    def lateness(self, step_s: float) -> float:
        """By how much of its time one sleep in ten is late, or more."""
        late = [(end - begin) / 1e9 / step_s - 1 for _, begin, end in self.steps]
        return quantiles(late, n=10)[-1]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One training run."""

    dataset: Dataset[Any]
    is_fast: bool = False
    """A ``FastDataLoader``; else torch's."""
    step_s: float = 0.04
    loader: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    callbacks: tuple[Callable[[], Any], ...] = ()
    validation_s: float = 0.0
    """Of one validation; 0 is none."""
    logger_s: float = 0.0
    """Of one call of a logger; 0 is no logger."""

    def changed(self, finding: Finding) -> "Setup":
        """The same run with the arguments that a finding advises."""
        setup = self
        for change in finding.changes:
            if change.name == "engine":
                loader = {**setup.loader, "engine": change.then}
                setup = replace(setup, is_fast=True, loader=loader)
            elif change.name in OF_THE_LOADER:
                setup = replace(setup, loader={**setup.loader, change.name: change.then})
            else:
                setup = replace(setup, trainer={**setup.trainer, change.name: change.then})
        return setup


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of it."""

    summary: StallSummary
    truth: float
    lateness: float
    cores_of_others: float
    """That other programs used of the run's, by their mean."""

    @property
    def is_overloaded(self) -> bool:
        """Whether the machine had too much else to do."""
        return self.lateness > MOST_LATE or self.cores_of_others > MOST_BY_OTHERS


class CoreClock:
    """How much of some cores' time others use than this process and its children."""

    def __init__(self, cores: list[int]) -> None:
        self._cores = cores
        self._began = self._busy_s(), self._own_s(), time.perf_counter()

    def cores_of_others(self) -> float:
        """Since the beginning; the children have been waited for by now."""
        busy_s, own_s, began_s = self._began
        others_s = (self._busy_s() - busy_s) - (self._own_s() - own_s)
        return max(0.0, others_s / (time.perf_counter() - began_s))

    def _busy_s(self) -> float:
        each = psutil.cpu_times(percpu=True)
        busy_s = (sum(each[core]) - each[core].idle - each[core].iowait for core in self._cores)
        return float(sum(busy_s))

    def _own_s(self) -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system


class ClockedTorch(DataLoader[Any]):
    """torch's loader, whose every ``next`` is noted."""

    notes: Notes

    def __iter__(self) -> Any:
        return clocked(super().__iter__(), self.notes)


class ClockedFast(FastDataLoader):
    """Ours, whose every ``next`` is noted."""

    notes: Notes

    def __iter__(self) -> Any:
        return clocked(super().__iter__(), self.notes)


def clocked(batches: Iterator[Any], notes: Notes) -> Iterator[Any]:
    while True:
        asked_ns = time.perf_counter_ns()
        try:
            batch = next(batches)
        except StopIteration:
            return
        notes.fetches.append((asked_ns, time.perf_counter_ns()))
        yield batch


class Sleeper(lightning.pytorch.LightningModule):
    """Computes by sleeping."""

    def __init__(self, notes: Notes, setup: Setup) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.notes, self.setup_of_run = notes, setup

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        began_ns = time.perf_counter_ns()
        time.sleep(self.setup_of_run.step_s)
        self.notes.steps.append((self.current_epoch, began_ns, time.perf_counter_ns()))
        loss: torch.Tensor = self.layer(torch.zeros(1, 4)).sum()
        if self.setup_of_run.logger_s:
            self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Validated(Sleeper):
    """Sleeps in validation too."""

    def on_validation_start(self) -> None:
        self.began_ns = time.perf_counter_ns()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        time.sleep(self.setup_of_run.validation_s)

    def on_validation_end(self) -> None:
        self.notes.validations.append((self.began_ns, time.perf_counter_ns()))


class SlowLogger(lightning.pytorch.loggers.logger.DummyLogger):
    """Takes its time, as one that writes to a service does."""

    def __init__(self, takes_s: float) -> None:
        super().__init__()
        self.takes_s = takes_s

    def log_metrics(self, metrics: Any = None, step: int | None = None) -> None:
        time.sleep(self.takes_s)


class SlowCallback(lightning.pytorch.Callback):
    """Does something between steps."""

    def on_train_batch_end(self, *_: Any) -> None:
        time.sleep(0.01)


def run_once(setup: Setup, folder: Path, **options: Any) -> Run:
    """Train once; the profiler's reports go to ``folder``."""
    notes, profiler = Notes(), DataStallProfiler(folder, reports=("json",), log_every_n_steps=5)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:CORES])
    clock = CoreClock(sorted(cores)[:CORES])
    try:
        loader = (ClockedFast if setup.is_fast else ClockedTorch)(setup.dataset, **setup.loader)
        loader.notes = notes
        _trainer(setup, folder, profiler, options).fit(
            (Validated if setup.validation_s else Sleeper)(notes, setup),
            loader,
            DataLoader(TensorDataset(torch.zeros(1))) if setup.validation_s else None,
        )
    finally:
        os.sched_setaffinity(0, cores)
    assert profiler.summary is not None
    return Run(
        summary=profiler.summary,
        truth=notes.stall_fraction(),
        lateness=notes.lateness(setup.step_s),
        cores_of_others=clock.cores_of_others(),
    )


def _trainer(
    setup: Setup, folder: Path, profiler: DataStallProfiler, options: Mapping[str, Any]
) -> Any:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": SlowLogger(setup.logger_s) if setup.logger_s else False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
        "num_sanity_val_steps": 0,
    }
    callbacks = [profiler, *(make() for make in setup.callbacks)]
    return lightning.pytorch.Trainer(
        callbacks=callbacks, **(quiet | dict(setup.trainer) | dict(options))
    )
