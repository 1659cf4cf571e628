"""The profiler disturbs nothing: not the user's profiler, not a run that breaks, not a trial."""

import gc
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
from lightning.pytorch.profilers import SimpleProfiler
from stall_runs import (
    BATCHES,
    THIRD_PARTY_WARNINGS,
    BreakAt,
    KeepProfilers,
    Model,
    Numbers,
    Validated,
    a_loader,
    a_trainer,
    summary_of,
)

from lightning_fastdata.callback import DataStallProfiler

pytestmark = THIRD_PARTY_WARNINGS


def test_the_users_profiler_still_gets_every_action(tmp_path: Path) -> None:
    without, beside = SimpleProfiler(), SimpleProfiler()

    a_trainer(tmp_path, profiler=without).fit(Model(), a_loader())
    a_trainer(tmp_path, DataStallProfiler(), profiler=beside).fit(Model(), a_loader())

    ours = "[Callback]DataStallProfiler."
    calls = {
        action: len(lasted_s)
        for action, lasted_s in beside.recorded_durations.items()
        if not action.startswith(ours)
    }
    assert calls == {action: len(each) for action, each in without.recorded_durations.items()}
    assert f"{ours}setup" in beside.recorded_durations
    assert beside.current_actions == {}


def test_everything_else_asked_of_the_profiler_reaches_the_users_own(tmp_path: Path) -> None:
    own = AnsweringProfiler()
    keep = KeepProfilers()

    a_trainer(tmp_path, DataStallProfiler(), keep, profiler=own).fit(Model(), a_loader())

    stand_in = keep.while_training
    assert stand_in is not own
    stand_in.note = "kept"
    assert own.note == "kept"
    assert stand_in.answer() == 42
    assert stand_in.summary() == "a summary"
    assert stand_in.local_rank == own.local_rank
    stand_in.setup(stage="fit", local_rank=3, log_dir="there")
    stand_in.describe()
    stand_in.teardown(stage="test")
    a_fit = ["setup fit", "describe", "teardown fit"]
    assert own.heard == [*a_fit, *a_fit, "teardown test"]
    del stand_in, keep.while_training
    gc.collect()
    assert len(own.heard) == 7, "the user's profiler must outlive the one before it"


class AnsweringProfiler(SimpleProfiler):
    note = ""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def answer(self) -> int:
        return 42

    def summary(self) -> str:
        return "a summary"

    def setup(self, stage: Any, local_rank: Any = None, log_dir: Any = None) -> None:
        super().setup(stage, local_rank, log_dir)
        self.heard.append(f"setup {getattr(stage, 'value', stage)}")

    def describe(self) -> None:
        self.heard.append("describe")
        super().describe()

    def teardown(self, stage: Any) -> None:
        if hasattr(self, "heard"):
            self.heard.append(f"teardown {getattr(stage, 'value', stage)}")
        super().teardown(stage)


def test_the_users_profiler_is_back_in_place_after_the_run(tmp_path: Path) -> None:
    own, keep = SimpleProfiler(), KeepProfilers()
    trainer = a_trainer(tmp_path, DataStallProfiler(), keep, profiler=own)

    trainer.fit(Model(), a_loader())

    assert keep.while_training is not own
    assert trainer.profiler is own


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_breaks_off_gives_its_report_and_the_profiler_back(
    error: type[BaseException], tmp_path: Path
) -> None:
    own, profiler = SimpleProfiler(), DataStallProfiler()
    trainer = a_trainer(tmp_path, profiler, BreakAt(10, error), profiler=own)

    interrupt = signal.getsignal(signal.SIGINT)
    with pytest.raises((RuntimeError, SystemExit)):
        trainer.fit(Model(), a_loader())
    signal.signal(signal.SIGINT, interrupt)  # Lightning goes on ignoring ctrl-C

    assert trainer.profiler is own
    assert summary_of(profiler).steps == 10  # 0 was the first of its epoch, 11 never ran
    assert (tmp_path / "stall_report" / "summary.json").exists()


def test_an_exception_in_the_step_leaves_that_step_out(tmp_path: Path) -> None:
    profiler = DataStallProfiler()
    trainer = a_trainer(tmp_path, profiler)

    with pytest.raises(RuntimeError, match=r"^the step broke"):
        trainer.fit(Model(fails_at=10), a_loader())

    assert summary_of(profiler).steps == 9


def test_each_fit_is_measured_on_its_own(tmp_path: Path) -> None:
    profiler = DataStallProfiler()
    trainer = a_trainer(tmp_path, profiler, max_epochs=1)
    model = Model()

    trainer.fit(model, a_loader(Numbers(5)))
    first = summary_of(profiler)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, a_loader(Numbers(8)))

    assert (first.steps, summary_of(profiler).steps) == (4, 7)


def test_other_stages_are_not_measured_and_keep_the_summary(tmp_path: Path) -> None:
    profiler = DataStallProfiler()
    trainer = a_trainer(tmp_path, profiler)
    model = Validated()

    trainer.fit(model, a_loader(), a_loader(Numbers(1)))
    of_fit = profiler.summary
    trainer.validate(model, a_loader(Numbers(1)), verbose=False)

    assert of_fit is not None
    assert profiler.summary is of_fit


def test_barebones_is_left_alone_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profiler, keep = DataStallProfiler(), KeepProfilers()
    trainer = lightning.pytorch.Trainer(
        barebones=True, accelerator="cpu", max_epochs=1, callbacks=[profiler, keep]
    )

    trainer.fit(Model(), a_loader())

    assert profiler.summary is None
    assert keep.while_training is trainer.profiler
    assert capsys.readouterr().out.count("DataStallProfiler") == 1


def test_a_run_without_training_batches_gives_no_summary(tmp_path: Path) -> None:
    profiler = DataStallProfiler()
    trainer = a_trainer(tmp_path, profiler, limit_train_batches=0)

    trainer.fit(Model(), a_loader())

    assert profiler.summary is None


def test_a_second_profiler_stays_passive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = DataStallProfiler(), DataStallProfiler()

    a_trainer(tmp_path, first, second).fit(Model(), a_loader())

    assert first.summary is not None
    assert second.summary is None
    assert capsys.readouterr().out.count("Verdict") == 1


def broken_clock(after: int) -> Callable[[], int]:
    calls = iter(range(after))

    def clock() -> int:
        next(calls)  # StopIteration must not look like the end of the data
        return time.perf_counter_ns()

    return clock


@pytest.mark.parametrize("after", [0, 1, 5, 30, 60])
def test_measuring_that_fails_ends_no_run_and_is_not_hidden(
    after: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    profiler = DataStallProfiler()
    profiler._clock_ns = broken_clock(after)
    trainer = a_trainer(tmp_path, profiler)

    with caplog.at_level(logging.WARNING, logger="lightning_fastdata"):
        trainer.fit(Model(), a_loader())

    assert trainer.global_step == BATCHES
    assert [record.levelname for record in caplog.records if "stopped early" in record.message] == [
        "WARNING"
    ]
    problem = summary_of(profiler).problem
    assert problem is not None
    assert problem.startswith("measuring stopped early (StopIteration")
