"""A run that waits too long for data can be made to fail, after it has trained and reported."""

from pathlib import Path

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from stall_runs import (
    THIRD_PARTY_WARNINGS,
    BreakAt,
    Model,
    Numbers,
    a_loader,
    a_trainer,
    summary_of,
)

from lightning_fastdata.callback import DataStallProfiler
from lightning_fastdata.datamodule import FastDataModule
from lightning_fastdata.errors import StallLimitError

pytestmark = THIRD_PARTY_WARNINGS


def test_a_run_above_the_limit_ends_with_an_error_that_has_figures_and_advice(
    tmp_path: Path,
) -> None:
    profiler = DataStallProfiler(tmp_path / "report", fail_above=0.05)
    trainer = a_trainer(tmp_path, profiler)

    with pytest.raises(
        StallLimitError, match=r"^training waited for data 0\.\d+ .*, wanted at most 0\.05"
    ):
        trainer.fit(Model(), a_loader(Numbers(wait_s=0.005)))

    assert trainer.global_step == 25
    assert (tmp_path / "report" / "report.html").exists()
    assert summary_of(profiler).stall_fraction is not None


def test_a_run_below_the_limit_ends_well(tmp_path: Path) -> None:
    trainer = a_trainer(tmp_path, DataStallProfiler(reports=(), fail_above=0.9))

    trainer.fit(Model(step_s=0.003), a_loader())

    assert trainer.global_step == 25


def test_what_training_saves_is_saved_before_the_error(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path / "saved", save_last=True)
    trainer = a_trainer(
        tmp_path, DataStallProfiler(reports=(), fail_above=0), checkpoint, enable_checkpointing=True
    )

    with pytest.raises(StallLimitError):
        trainer.fit(Model(), a_loader(Numbers(wait_s=0.003)))

    assert (tmp_path / "saved" / "last.ckpt").exists()


def test_a_run_that_broke_off_keeps_its_own_error(tmp_path: Path) -> None:
    breaks = BreakAt(5, RuntimeError("on its own"))
    trainer = a_trainer(tmp_path, DataStallProfiler(reports=(), fail_above=0), breaks)

    with pytest.raises(RuntimeError, match=r"^on its own"):
        trainer.fit(Model(), a_loader(Numbers(wait_s=0.003)))


def test_a_run_too_short_to_judge_does_not_pass_in_silence(tmp_path: Path) -> None:
    trainer = a_trainer(tmp_path, DataStallProfiler(reports=(), fail_above=0.5), max_steps=1)

    with pytest.raises(StallLimitError, match=r"^the stall of this run was not measured"):
        trainer.fit(Model(), a_loader())


def test_fast_dev_run_is_not_judged(tmp_path: Path) -> None:
    trainer = a_trainer(tmp_path, DataStallProfiler(fail_above=0), fast_dev_run=True)

    trainer.fit(Model(), a_loader(Numbers(wait_s=0.003)))

    assert trainer.global_step == 1


def test_workers_end_with_a_run_above_the_limit(tmp_path: Path) -> None:
    data = FastDataModule(Numbers(wait_s=0.003), batch_size=1, num_workers=1)
    trainer = a_trainer(tmp_path, DataStallProfiler(reports=(), fail_above=0))

    with pytest.raises(StallLimitError):
        trainer.fit(Model(), datamodule=data)  # the fixture sees whether a process is left
