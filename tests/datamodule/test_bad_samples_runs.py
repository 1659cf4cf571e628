"""A fit goes on with bad samples: training repeats others, evaluation counts each good one once."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.cli import LightningCLI
from toy_runs import BOTH, At, Model, Numbers, a_model, a_trainer, epochs, fit, samples

from lightning_fastdata import FastDataModule
from lightning_fastdata.errors import BadSampleWarning, SampleError, SettingsError

LENGTH = 20
BAD = (3, 11, 12, 19)
GOOD = [float(n) for n in range(LENGTH) if n not in BAD]
SKIP: dict[str, Any] = {"on_bad_sample": "skip", "max_bad_fraction": 0.5, "batch_size": 4}
WORKERS = pytest.mark.parametrize("num_workers", [0, 2])
told_bad = pytest.mark.filterwarnings("ignore::lightning_fastdata.errors.BadSampleWarning")


class Broken(Numbers):
    """Some of its samples cannot be made."""

    def __init__(self, length: int = LENGTH, bad: Any = None) -> None:
        super().__init__(length)
        self.bad = set(BAD if bad is None else bad)

    def __getitem__(self, index: int) -> Any:
        if index in self.bad:
            raise OSError(f"picture {index} is broken")
        return super().__getitem__(index)

    def sample_path(self, index: int) -> str:
        return f"/data/{index}.jpg"


@BOTH
@told_bad
@WORKERS
def test_training_repeats_good_samples_in_the_place_of_bad_ones(
    namespace: Any, num_workers: int, tmp_path: Path
) -> None:
    data = FastDataModule(Broken(), num_workers=num_workers, **SKIP)

    model = fit(data, tmp_path, namespace=namespace, max_epochs=2)

    for order in epochs(model.seen["train"]):
        assert len(order) == LENGTH
        assert set(order) == set(GOOD)


@BOTH
@told_bad
@WORKERS
def test_evaluation_and_prediction_count_each_good_sample_once(
    namespace: Any, num_workers: int, tmp_path: Path
) -> None:
    data = FastDataModule(None, Broken(), Broken(), Broken(), num_workers=num_workers, **SKIP)
    model = a_model(namespace)
    trainer = a_trainer(tmp_path, namespace=namespace)

    trainer.validate(model, datamodule=data, verbose=False)
    trainer.test(model, datamodule=data, verbose=False)
    trainer.predict(model, datamodule=data)

    for kind in ("val[0]", "test[0]", "predict[0]"):
        assert samples(model.seen[kind]) == GOOD


@told_bad
def test_the_validation_of_a_fit_counts_each_good_sample_once(tmp_path: Path) -> None:
    model = fit(FastDataModule(Broken(), Broken(), **SKIP), tmp_path, max_epochs=2)

    assert epochs(model.seen["val[0]"]) == [GOOD, GOOD]


class Averages(Model):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("mean", batch.mean(), batch_size=len(batch))


@told_bad
def test_a_logged_mean_is_that_of_the_good_samples(tmp_path: Path) -> None:
    trainer = a_trainer(tmp_path)

    (metrics,) = trainer.validate(
        Averages(), datamodule=FastDataModule(None, Broken(), **SKIP), verbose=False
    )

    assert metrics["mean"] == pytest.approx(sum(GOOD) / len(GOOD), rel=1e-6)


@told_bad
@WORKERS
@pytest.mark.parametrize(
    "bad", [range(4, 8), range(4), range(16, 20)], ids=["middle", "first", "last"]
)
def test_a_whole_batch_of_an_evaluation_may_be_bad(
    bad: range, num_workers: int, tmp_path: Path
) -> None:
    model = a_model()
    data = FastDataModule(None, Broken(bad=bad), num_workers=num_workers, **SKIP)

    a_trainer(tmp_path).validate(model, datamodule=data, verbose=False)

    assert samples(model.seen["val[0]"]) == [float(n) for n in range(LENGTH) if n not in bad]


def listed(path: Path) -> list[int]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted(record["index"] for record in records if "index" in record)


@told_bad
def test_bad_samples_are_listed_below_the_trainers_folder_by_loader(tmp_path: Path) -> None:
    fit(FastDataModule(Broken(bad=[3]), Broken(bad=[5, 6]), **SKIP), tmp_path)

    assert listed(tmp_path / "quarantine" / "train.jsonl") == [3]
    assert listed(tmp_path / "quarantine" / "val.jsonl") == [5, 6]


@told_bad
def test_bad_samples_are_listed_in_the_folder_that_was_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "lists"

    fit(FastDataModule(Broken(), quarantine=folder, **SKIP), tmp_path / "run")

    assert listed(folder / "train.jsonl") == sorted(BAD)
    assert not (tmp_path / "run" / "quarantine").exists()


def test_the_next_fit_says_once_what_it_will_not_try_again(tmp_path: Path) -> None:
    with pytest.warns(BadSampleWarning, match=r"is broken"):
        fit(FastDataModule(Broken(), **SKIP), tmp_path)

    with pytest.warns(BadSampleWarning) as heard:
        model = fit(FastDataModule(Broken(), **SKIP), tmp_path, max_epochs=2)

    (told,) = [one for one in heard if isinstance(one.message, BadSampleWarning)]
    assert "train.jsonl" in str(told.message)
    assert set(samples(model.seen["train"])) == set(GOOD)


def test_a_good_run_makes_no_list(tmp_path: Path) -> None:
    fit(FastDataModule(Broken(bad=()), Broken(bad=()), **SKIP), tmp_path)

    assert list(tmp_path.rglob("*.jsonl")) == []


@told_bad
def test_a_fit_resumed_in_the_middle_gets_the_same_samples(tmp_path: Path) -> None:
    saved = tmp_path / "half.ckpt"

    def save(trainer: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(saved)

    whole = fit(FastDataModule(Broken(), **SKIP), tmp_path / "a", At(save))
    rest = fit(FastDataModule(Broken(), num_workers=2, **SKIP), tmp_path / "b", ckpt_path=saved)

    assert rest.seen["train"] == whole.seen["train"][2:]


@WORKERS
def test_without_skip_a_fit_ends_with_the_samples_own_error(
    num_workers: int, tmp_path: Path
) -> None:
    data = FastDataModule(Broken(bad=[5]), num_workers=num_workers, batch_size=4)

    with pytest.raises(OSError, match=r"^picture 5 is broken"):
        fit(data, tmp_path)


@told_bad
def test_too_many_bad_samples_end_a_fit(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=r"wanted at most 2 \(max_bad_fraction=0\.1\)"):
        fit(FastDataModule(Broken(), **SKIP | {"max_bad_fraction": 0.1}), tmp_path)


class KillsItsWorker(Numbers):
    """Once, at one sample; told by a file, as workers share no memory."""

    def __init__(self, mark: Path) -> None:
        super().__init__(LENGTH)
        self.mark = mark

    def __getitem__(self, index: int) -> Any:
        if index == 7 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@pytest.mark.filterwarnings("ignore::lightning_fastdata.errors.WorkerWarning")
def test_a_fit_loses_nothing_when_a_worker_is_killed(tmp_path: Path) -> None:
    data = FastDataModule(KillsItsWorker(tmp_path / "mark"), num_workers=2, batch_size=4)

    model = fit(data, tmp_path)

    assert sorted(samples(model.seen["train"])) == [float(n) for n in range(LENGTH)]
    assert (tmp_path / "mark").exists()


QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "max_epochs": 1,
}


@told_bad
def test_a_command_line_sets_what_is_done_about_bad_samples(tmp_path: Path) -> None:
    ran = LightningCLI(
        Model,
        FastDataModule,
        save_config_callback=None,
        trainer_defaults=QUIET,
        seed_everything_default=False,  # type: ignore[arg-type]  # Lightning's own tests do so
        args=[
            "fit",
            "--data.train_dataset=test_bad_samples_runs.Broken",
            "--data.val_dataset=test_bad_samples_runs.Broken",
            "--data.on_bad_sample=skip",
            "--data.max_bad_fraction=0.5",
            "--data.sample_timeout_s=30",
            "--data.num_workers=1",
            f"--data.quarantine={tmp_path}",
        ],
    )

    assert ran.datamodule.sample_timeout_s == 30
    assert set(samples(ran.model.seen["train"])) == set(GOOD)
    assert listed(tmp_path / "train.jsonl") == sorted(BAD)


@pytest.mark.parametrize("wrong", [{"on_bad_sample": "leave_out"}, {"max_bad_fraction": -1}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        FastDataModule(Broken(), **wrong)
