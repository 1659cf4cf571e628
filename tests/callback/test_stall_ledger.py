"""The parts of the recorded steps are the wall time, whatever kind of loop Lightning runs."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.utilities import CombinedLoader
from stall_runs import (
    THIRD_PARTY_WARNINGS,
    Numbers,
    Validated,
    a_loader,
    a_trainer,
    summary_of,
)
from told_runs import (
    ToldClock,
    ToldFetches,
    ToldLogger,
    ToldModel,
    ToldNumbers,
    ToldSteps,
    ToldStream,
    ToldValidated,
    recorded_parts_ns,
    told_trainer,
)
from torch.utils.data import DataLoader

from lightning_fastdata import FastDataLoader
from lightning_fastdata.callback import DataStallProfiler
from lightning_fastdata.trace import Part

pytestmark = THIRD_PARTY_WARNINGS


def numbers(clock: ToldClock) -> Any:
    return DataLoader(ToldNumbers(clock), batch_size=1)


def stream(clock: ToldClock) -> Any:
    return DataLoader(ToldStream(clock), batch_size=1)


def combined(mode: str, kind: type) -> Callable[[ToldClock], Any]:
    def make(clock: ToldClock) -> Any:
        one, other = (DataLoader(ToldNumbers(clock, length)) for length in (9, 6))
        return CombinedLoader({"a": one, "b": other} if kind is dict else [one, other], mode)

    return make


RUNS: dict[str, tuple[type[ToldModel], Callable[[ToldClock], Any], dict[str, Any]]] = {
    "plain": (ToldModel, numbers, {}),
    "ours": (ToldModel, lambda clock: FastDataLoader(ToldNumbers(clock), num_workers=0), {}),
    "accumulating": (ToldModel, numbers, {"accumulate_grad_batches": 4}),
    "manual": (ToldSteps, numbers, {}),
    "dataloader_iter": (ToldFetches, numbers, {}),
    "dataloader_iter of a stream": (ToldFetches, stream, {}),
    "stream": (ToldModel, stream, {}),
    "limited stream": (ToldModel, stream, {"limit_train_batches": 5}),
    "limited": (ToldModel, numbers, {"limit_train_batches": 5}),
    "max_steps": (ToldModel, numbers, {"max_steps": 13, "max_epochs": -1}),
    "overfit": (ToldModel, numbers, {"overfit_batches": 4}),
    "reloading": (ToldModel, numbers, {"reload_dataloaders_every_n_epochs": 1}),
    "validating": (ToldValidated, numbers, {"val_check_interval": 3}),
    "validating by steps": (
        ToldValidated,
        numbers,
        {"val_check_interval": 5, "check_val_every_n_epoch": None},
    ),
    "validating at the end": (ToldValidated, numbers, {"num_sanity_val_steps": 0}),
    "logging each step": (ToldModel, numbers, {"log_every_n_steps": 1}),
    "dict, min_size": (ToldModel, combined("min_size", dict), {}),
    "list, max_size": (ToldModel, combined("max_size", list), {}),
    "list, max_size_cycle": (ToldModel, combined("max_size_cycle", list), {}),
}


@pytest.mark.parametrize("run", RUNS)
def test_each_nanosecond_of_a_step_is_counted_once_and_as_what_it_was(
    run: str, tmp_path: Path
) -> None:
    clock = ToldClock()
    make_model, make_loader, options = RUNS[run]
    trainer, watch = told_trainer(tmp_path, clock, **options)
    validation = DataLoader(ToldNumbers(clock, 2, Part.VALIDATION))
    loaders = [make_loader(clock), *([validation] if make_model is ToldValidated else [])]

    trainer.fit(make_model(clock), *loaders)

    assert recorded_parts_ns(watch.record) == watch.parts_ns
    assert sum(recorded_parts_ns(watch.record)) == watch.wall_ns
    assert watch.wall_ns > 0
    assert watch.record is not None
    assert len(watch.record.stall.epochs) == len(watch.epochs)
    assert sum(each.steps + 1 for each in watch.record.stall.epochs) == sum(map(len, watch.epochs))


def test_the_start_of_an_epoch_lasts_until_its_first_batch(tmp_path: Path) -> None:
    clock = ToldClock()
    trainer, watch = told_trainer(tmp_path, clock, logger=False)

    trainer.fit(ToldModel(clock), numbers(clock))

    assert watch.record is not None
    assert [each.start_ns for each in watch.record.stall.epochs] == [10, 10]


def test_the_start_of_a_later_epoch_of_a_stream_has_both_batches_that_come_first(
    tmp_path: Path,
) -> None:
    clock = ToldClock()
    trainer, watch = told_trainer(tmp_path, clock)

    trainer.fit(ToldModel(clock), stream(clock))

    assert watch.record is not None
    assert watch.record.stall.epochs[1].start_ns == 10 + 11


class SearchesAgain(LearningRateFinder):
    """Searches before the second epoch too, as Lightning's documentation shows."""

    def on_fit_start(self, *_: Any) -> None: ...

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1:
            self.lr_find(trainer, module)


def test_a_search_in_the_middle_of_a_run_is_not_part_of_it(tmp_path: Path) -> None:
    clock = ToldClock()
    search = SearchesAgain(num_training_steps=3, update_attr=False)
    trainer, watch = told_trainer(tmp_path, clock, callbacks=[search], max_epochs=3)
    model = ToldModel(clock)
    model.lr = 0.1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the search warns of is not the subject
        trainer.fit(model, numbers(clock))

    assert watch.record is not None
    assert len(watch.record.stall.epochs) == len(watch.epochs)
    assert recorded_parts_ns(watch.record) == watch.parts_ns


def test_several_loggers_are_each_timed_once(tmp_path: Path) -> None:
    clock = ToldClock()
    twice = ToldLogger(clock)
    trainer, watch = told_trainer(tmp_path, clock, logger=[twice, twice, ToldLogger(clock)])

    trainer.fit(ToldModel(clock), numbers(clock))

    assert watch.parts_ns[Part.LOGGING] > 0
    assert recorded_parts_ns(watch.record) == watch.parts_ns


class WallClock(lightning.pytorch.Callback):
    def __init__(self) -> None:
        self.ended_ns: list[int] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ended_ns.append(time.perf_counter_ns())


def test_the_parts_add_up_to_the_time_on_the_wall_within_a_hundredth(tmp_path: Path) -> None:
    wall, profiler = WallClock(), DataStallProfiler(reports=())
    trainer = a_trainer(tmp_path, wall, profiler, val_check_interval=10, accumulate_grad_batches=2)

    trainer.fit(Validated(step_s=0.02), a_loader(Numbers(wait_s=0.01)), a_loader(Numbers(1)))

    summary = summary_of(profiler)
    wall_ns = wall.ended_ns[-1] - wall.ended_ns[0]
    assert summary.wall_ns + summary.validation_ns == pytest.approx(wall_ns, rel=0.01)


def test_the_settings_that_advice_may_change_are_kept_as_plain_values(tmp_path: Path) -> None:
    clock = ToldClock()
    trainer, watch = told_trainer(tmp_path, clock, val_check_interval=0.5, max_epochs=1)

    trainer.fit(ToldModel(clock), numbers(clock))

    assert watch.record is not None
    assert watch.record.settings == {
        "max_epochs": 1,
        "max_steps": -1,
        "val_check_interval": 0.5,
        "check_val_every_n_epoch": 1,
        "accumulate_grad_batches": 1,
        "log_every_n_steps": 2,
        "precision": "32-true",
        "strategy": "SingleDeviceStrategy",
        "devices": 1,
        "num_nodes": 1,
        "reload_dataloaders_every_n_epochs": 0,
    }
    assert watch.record.rank == 0
    assert watch.record.ranks == []


def test_what_goes_on_now_can_be_asked_while_training_runs(tmp_path: Path) -> None:
    clock = ToldClock()
    trainer, watch = told_trainer(tmp_path, clock, max_epochs=1)
    run_of = watch.profiler
    seen: list[Part | None] = []

    class Asks(ToldModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert run_of._run is not None
            seen.append(run_of._run.part_now)
            return super().training_step(batch, batch_idx)

    trainer.fit(Asks(clock), numbers(clock))

    assert seen == [None, *[Part.COMPUTE] * 8]
