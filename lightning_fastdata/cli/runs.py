"""One training run of the demo, from the same first weights and for as many samples each time."""

import gc
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningDataModule, Trainer
from tqdm import tqdm  # type: ignore[import-untyped]  # tqdm ships no types
from typing_extensions import override

from lightning_fastdata.callback import DataStallProfiler
from lightning_fastdata.cli.feeds import Feed
from lightning_fastdata.cli.neighbours import others_fraction, read_cpu_clock
from lightning_fastdata.cli.network import SmallResNet
from lightning_fastdata.errors import DatasetError
from lightning_fastdata.stalls import StallSummary


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What is the same in every run."""

    accelerator: str
    """``cpu`` or ``gpu``."""
    max_steps: int
    """Training steps."""
    batch_size: int
    """Samples a batch."""
    size: int
    """Height and width of a sample in pixels."""
    width: int
    """Channels of the network."""
    classes: int
    """Kinds of pictures."""
    seed: int
    """Names the first weights and the random numbers."""
    compute_threads: int | None
    """Threads that compute, on a CPU; ``None`` leaves them to torch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """What one run came to."""

    feed: Feed
    """How it was fed."""
    summary: StallSummary
    """Where the time of its steps went."""
    fit_ns: int
    """Time of all of ``Trainer.fit``: choosing, starting workers and training. Low is good."""
    num_workers: int
    """Worker processes of the training loader."""
    val_accuracy: float
    """Share (0 to 1) of the validation pictures that were told right. High is good."""
    others_fraction: float | None
    """Share (0 to 1) of the machine's CPU time that other programs took meanwhile. High, or unlike
    that of the other runs: the times cannot be compared. ``None`` is not measured."""
    data: LightningDataModule
    """The data module, to ask how it loaded."""


class StepBar(Callback):
    """A bar of steps on a terminal; elsewhere one line a run.

    Args:
        title: Stands before the bar.
        steps: Its length.
    """

    def __init__(self, title: str, steps: int) -> None:
        if not sys.stderr.isatty():
            print(title, file=sys.stderr, flush=True)
        self._bar = tqdm(total=steps, desc=title, unit="step", disable=None, ncols=80)

    @override
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._bar.update()

    @override
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._bar.close()

    @override
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._bar.close()


class StepClock(Callback):
    """Notes when each training step ended."""

    def __init__(self) -> None:
        self.ended_ns: list[int] = []

    @override
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.ended_ns.append(time.perf_counter_ns())


def warm_up(feed: Feed, training: Training, *, steps: int) -> int | None:
    """Train some steps, so that the first run does not pay for what libraries do at first use.

    Returns:
        The median time of a step in nanoseconds, its wait for data included; ``None`` where there
        were too few.

    Raises:
        DatasetError: A picture cannot be read.
        KeyboardInterrupt: Ctrl-C.
    """
    clock = StepClock()
    data, model = feed.build(), _new_model(training)
    with _refusals_of(feed):
        _trainer(training, steps, [clock]).fit(model, datamodule=data)
    times_ns = [later - before for before, later in pairwise(clock.ended_ns)]
    return round(median(times_ns)) if times_ns else None


def train_and_validate(feed: Feed, training: Training, title: str) -> RunResult:
    """Train once and measure it, then validate.

    Args:
        feed: How training is fed.
        training: What is the same in every run.
        title: Stands before the bar.

    Raises:
        DatasetError: A picture cannot be read.
        KeyboardInterrupt: Ctrl-C, which Lightning would turn into another exit status.
    """
    gc.collect()  # workers of the run before end with their loader
    data, model = feed.build(), _new_model(training)
    profiler = DataStallProfiler(reports=(), log_every_n_steps=0)
    trainer = _trainer(training, training.max_steps, [profiler, StepBar(title, training.max_steps)])
    with _refusals_of(feed):
        before, started_ns = read_cpu_clock(), time.perf_counter_ns()
        trainer.fit(model, datamodule=data)
        fit_ns, after = time.perf_counter_ns() - started_ns, read_cpu_clock()
        loader: Any = trainer.train_dataloader
        num_workers: int = loader.num_workers
        [metrics] = trainer.validate(model, datamodule=data, verbose=False)
    assert profiler.summary is not None, "the first profiler of a trainer always measures"
    return RunResult(
        feed=feed,
        summary=profiler.summary,
        fit_ns=fit_ns,
        num_workers=num_workers,
        val_accuracy=metrics["accuracy"],
        others_fraction=others_fraction(before, after),
        data=data,
    )


@contextmanager
def compute_threads(count: int | None) -> Iterator[None]:
    """Let torch compute with so many threads; ``None`` leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _new_model(training: Training) -> SmallResNet:
    torch.manual_seed(training.seed)
    return SmallResNet(training.classes, training.width, steps=training.max_steps)


def _trainer(training: Training, max_steps: int, callbacks: list[Callback]) -> Trainer:
    return Trainer(
        accelerator=training.accelerator,
        devices=1,
        max_steps=max_steps,
        max_epochs=-1,
        callbacks=callbacks,
        limit_val_batches=1.0,
        val_check_interval=None,
        check_val_every_n_epoch=10**9,  # validated afterwards, in its own call
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        plugins=[LightningEnvironment()],  # one process, inside a cluster's job as well
    )


@contextmanager
def _refusals_of(feed: Feed) -> Iterator[None]:
    """Say in a sentence what stopped a run that is not a fault of ours.

    Ctrl-C comes out as ``KeyboardInterrupt``: Lightning would exit with 1, and listen no more.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    listener = signal.getsignal(signal.SIGINT)
    try:
        yield
    except (Exception, SystemExit) as error:
        if _follows_interrupt(error):
            raise KeyboardInterrupt from None
        if not isinstance(error, OSError):
            raise
        last_line = str(error).strip().splitlines()[-1]
        raise DatasetError(
            f"{feed.title} met a file that it cannot read ({last_line}), wanted whole pictures "
            "only. Replace or delete that file."
        ) from error
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, listener)


def _follows_interrupt(error: BaseException | None) -> bool:
    # Lightning 2.6 fails in its own clean-up where ctrl-C comes while the workers start.
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None
