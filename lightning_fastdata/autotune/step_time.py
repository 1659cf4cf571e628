"""How long a training step takes: a short measured fit of a copy of the model."""

import copy
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from typing import Any

import torch

from lightning_fastdata.autotune.source import Source
from lightning_fastdata.checkup.user_code import one_line
from lightning_fastdata.datamodule import FastDataModule
from lightning_fastdata.datamodule.assemble import choose_delivery
from lightning_fastdata.errors import FastDataError, SettingsError
from lightning_fastdata.trials import StepTime
from lightning_fastdata.trials.subject import loader_of, plan_with

MOST_STEPS, LONGEST_S = 50, 3.0  # guess: steps repeat themselves
FEWEST_STEPS = 2  # however slow they are
WARM_UP_STEPS = 4  # guess: compilers, allocators and autotuning are done by then; of slow ones, 1
SAID_STEPS = 10_000  # guess: of an epoch, for who asks; more than are made
_CHATTY = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")


def measure_step(model: Any, source: Source) -> StepTime:
    """Train a copy of the model on one batch for a moment, and time its steps.

    Args:
        model: A ``LightningModule``; it is copied, and stays as it is.
        source: Where the batch comes from, and the data module whose hooks it goes through.

    Raises:
        SettingsError: If it is no ``LightningModule``, or cannot train so.
    """
    pl = _namespace_of(model)
    batch = _first_batch(source)
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        raise SettingsError(
            f"copying {type(model).__name__} to measure a step failed with {one_line(error)}, "
            "wanted a model that can be copied. Pass step_time_s instead."
        ) from error
    twin.configure_callbacks = list  # those that the user's run has may write files
    grad_was_on = torch.is_grad_enabled()
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        trainer = _quiet_trainer(pl, folder)
        batches = _SameBatch(batch, trainer, source)
        try:
            trainer.fit(twin, datamodule=_feeding(source.module, batches, pl))
        except FastDataError:
            raise
        except Exception as error:
            raise SettingsError(
                f"measuring a step of {type(model).__name__} failed with {one_line(error)}, wanted "
                "it to train on batches of the dataset. Pass step_time_s instead."
            ) from error
        finally:
            torch.set_grad_enabled(grad_was_on)
        return batches.step_time(type(model).__name__)


def _namespace_of(model: Any) -> Any:
    """The Lightning that a model belongs to, of its two names."""
    import lightning.pytorch  # here: whoever tunes without a model needs no Trainer
    import pytorch_lightning

    for pl in (lightning.pytorch, pytorch_lightning):
        if isinstance(model, pl.LightningModule):
            return pl
    raise SettingsError(
        f"model is {model!r:.80}, wanted a LightningModule. Pass an object of yours, or step_time_s"
        " in seconds."
    )


def _first_batch(source: Source) -> Any:
    """One real batch, made in this process."""
    subject = source.subject
    with closing(loader_of(subject, plan_with(subject, 0, None), 0)) as loader:
        for batch in loader:
            return batch
    raise SettingsError(f"{subject.name} gives no batch, wanted one. Look at its sampler.")


def _quiet_trainer(pl: Any, folder: str) -> Any:
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment as New
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment as Old

    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        default_root_dir=folder,
        # Inside a batch job, Lightning would else wait for the other tasks.
        plugins=[New() if pl.__name__.startswith("lightning.") else Old()],
    )
    # Those that installed packages add to every Trainer have their own business, such as files.
    trainer.callbacks = [
        each
        for each in trainer.callbacks
        if type(each).__module__.split(".")[0] in ("lightning", "pytorch_lightning")
    ]
    return trainer


def _feeding(module: Any, batches: "_SameBatch", pl: Any) -> Any:
    """A data module that gives one batch again and again, through the hooks of the user's own."""
    feeding = pl.LightningDataModule() if module is None else copy.copy(module)
    feeding.train_dataloader = lambda: batches
    for hook in ("prepare_data", "setup", "teardown"):  # done already; data is not to be removed
        setattr(feeding, hook, lambda stage=None: None)
    batches.module = feeding
    return feeding


class _SameBatch:
    """Gives the loop one batch until enough steps were seen, and notes when it asks."""

    def __init__(self, batch: Any, trainer: Any, source: Source) -> None:
        self._batch, self._trainer = batch, trainer
        self._dataset = source.subject.dataset
        self.module: Any = None
        self._marks: list[tuple[int, int]] = []
        """By the wall clock and by this process's CPU time, at each question for a batch."""
        self._warm_up: int | None = None
        """Steps that do not count; ``None`` while they go on."""

    def __len__(self) -> int:
        # Schedules of learning rates are laid over the epoch's steps; it ends long before.
        return SAID_STEPS

    def __iter__(self) -> Iterator[Any]:
        deliver = None
        if isinstance(self.module, FastDataModule):
            deliver = choose_delivery(self.module, self._dataset)
        marks = self._marks
        while True:
            is_last = self._is_enough()
            if self._warm_up is None and self._is_warm():
                self._warm_up = len(marks)
                self._wait_for_device()
            cpu_ns = time.process_time_ns()
            if is_last:  # what the host has queued is a part of its steps; waiting is no work
                self._wait_for_device()
            marks.append((time.perf_counter_ns(), cpu_ns))
            if is_last:
                return
            # What is delivered in training's own process is a part of its step.
            yield self._batch if deliver is None else deliver(self._batch, len(marks))

    def _is_warm(self) -> bool:
        """Whether the step that ends now is the last one of the warm-up."""
        steps = len(self._marks)
        return steps >= WARM_UP_STEPS or (steps >= 1 and self._is_over(self._marks[0][0]))

    def _is_enough(self) -> bool:
        if self._warm_up is None or len(self._marks) - self._warm_up < FEWEST_STEPS:
            return False
        is_over = self._is_over(self._marks[self._warm_up][0])
        return is_over or len(self._marks) - self._warm_up >= MOST_STEPS

    @staticmethod
    def _is_over(since_ns: int) -> bool:
        return time.perf_counter_ns() - since_ns > LONGEST_S * 1e9

    def _wait_for_device(self) -> None:
        device = self._trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    def step_time(self, name: str) -> StepTime:
        """Make a step's time of what was noted."""
        marks = [] if self._warm_up is None else self._marks[self._warm_up :]
        if len(marks) < 2:
            raise SettingsError(
                f"{name} trained {max(0, len(self._marks) - 1)} steps, wanted at least "
                f"{WARM_UP_STEPS + 1} to measure one. Pass step_time_s instead."
            )
        steps_ns = [later[0] - before[0] for before, later in pairwise(marks)]
        wall_ns, cpu_ns = (marks[-1][clock] - marks[0][clock] for clock in (0, 1))
        device = self._trainer.strategy.root_device.type
        # A device's host runs ahead by bursts, so that only all steps together tell.
        step_ns = statistics.median(steps_ns) if device == "cpu" else wall_ns / len(steps_ns)
        return StepTime(
            step_ns=max(1, round(step_ns)),
            host_cores=round(cpu_ns / max(1, wall_ns), 3),
            computes_on_host=device == "cpu",
            is_on_cuda=device == "cuda",
            source=f"measured over {len(steps_ns)} steps of {name} on {device}",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Lightning says of every run to itself; the user's own run says it again."""
    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
