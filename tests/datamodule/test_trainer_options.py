"""The Trainer's options act on our loaders as on torch's; nothing is warned of or left over."""

import gc
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch
from lightning.pytorch.tuner.tuning import Tuner
from torch.utils.data import DataLoader
from toy_runs import (
    BATCH,
    BOTH,
    LENGTH,
    At,
    Noisy,
    Numbers,
    SizedStream,
    a_model,
    a_trainer,
    epochs,
    fit,
    samples,
)

from lightning_fastdata import FastDataModule

ALL = [float(n) for n in range(LENGTH)]


def some_data(**settings: Any) -> FastDataModule:
    return FastDataModule(Numbers(), Numbers(), batch_size=BATCH, **settings)


def workers() -> int:
    return len(psutil.Process().children(recursive=True))


@BOTH
def test_the_batch_size_finder_acts_and_reads_samples_once(namespace: Any, tmp_path: Path) -> None:
    tuner = Tuner if namespace is lightning.pytorch else namespace.tuner.Tuner
    dataset = Counted(200)
    data, model = FastDataModule(dataset, batch_size=2), a_model(namespace, evaluates=False)
    trainer = a_trainer(tmp_path, namespace=namespace)

    found = tuner(trainer).scale_batch_size(
        model, datamodule=data, init_val=2, max_trials=3, steps_per_trial=1
    )

    assert found == data.batch_size > 2
    assert dataset.probes == 1
    model.seen.clear()
    trainer.fit(model, datamodule=data)
    assert {len(batch) for _, batch in model.seen["train"]} == {found, 200 % found or found}


class Counted(Numbers):
    """Counts how often its first probed sample was read before training asked for it."""

    probes = 0

    def __copy__(self) -> "Counted":
        self.probes += 1  # a probe works on a copy
        return Counted(self.length)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_reloading_each_epoch_leaves_no_workers_of_older_loaders(
    num_workers: int, tmp_path: Path
) -> None:
    alive: list[int] = []
    counter = At(lambda trainer: alive.append(workers()))

    model = fit(
        some_data(num_workers=num_workers),
        tmp_path,
        counter,
        max_epochs=4,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=0,
    )

    assert [sorted(order) for order in epochs(model.seen["train"])] == [ALL] * 4
    processes = num_workers + 1 if num_workers else 0  # with the one that runs the workers
    assert max(alive) <= processes


def test_a_dataset_made_anew_each_epoch_is_let_go(tmp_path: Path) -> None:
    made: list[Any] = []

    class Fresh(lightning.pytorch.LightningDataModule):
        def train_dataloader(self) -> Any:
            import weakref

            dataset = Noisy()
            made.append(weakref.ref(dataset))
            return DataLoader(dataset, batch_size=BATCH)

    fit(
        FastDataModule.wrap(Fresh()),
        tmp_path,
        model=a_model(evaluates=False),
        max_epochs=6,
        reload_dataloaders_every_n_epochs=1,
    )
    gc.collect()

    assert len(made) == 6
    assert sum(dataset() is not None for dataset in made) <= 1


@BOTH
@pytest.mark.parametrize("overfit", [2, 0.5])
def test_overfitting_repeats_the_same_unshuffled_batches(
    overfit: Any, namespace: Any, tmp_path: Path
) -> None:
    """Lightning warns where it must turn shuffling off; warnings are errors here."""
    model = fit(some_data(), tmp_path, namespace=namespace, overfit_batches=overfit, max_epochs=3)

    batches = 2 if overfit == 2 else 3
    assert epochs(model.seen["train"]) == [ALL[: batches * BATCH]] * 3
    assert epochs(model.seen["val[0]"]) == [ALL[: batches * BATCH]] * 3


@pytest.mark.parametrize(("limit", "batches"), [(4, 4), (0.5, 3), (1.0, 6), (100, 6)])
def test_limited_epochs_take_the_beginning_of_each_order(
    limit: Any, batches: int, tmp_path: Path
) -> None:
    whole = fit(some_data(), tmp_path, max_epochs=2)
    limited = fit(
        some_data(), tmp_path, max_epochs=2, limit_train_batches=limit, limit_val_batches=limit
    )

    for kind in ("train", "val[0]"):
        for all_of, some_of in zip(
            epochs(whole.seen[kind]), epochs(limited.seen[kind]), strict=True
        ):
            assert some_of == all_of[: batches * BATCH]


@pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined")
@pytest.mark.parametrize("limit", [2, 0.5])
def test_a_sized_stream_can_be_limited(limit: Any, tmp_path: Path) -> None:
    data = FastDataModule(SizedStream(), batch_size=BATCH, num_workers=0)

    model = fit(data, tmp_path, limit_train_batches=limit)

    assert samples(model.seen["train"]) == ALL[: 4 * (2 if limit == 2 else 3)]


def test_a_dry_run_takes_one_batch_and_measures_nothing(tmp_path: Path) -> None:
    dataset = Counted()

    model = fit(FastDataModule(dataset, batch_size=BATCH), tmp_path, fast_dev_run=True)

    assert len(model.seen["train"]) == 1
    assert dataset.probes == 0


def test_a_sanity_check_changes_nothing_of_what_follows(tmp_path: Path) -> None:
    checked = fit(some_data(), tmp_path, num_sanity_val_steps=2, max_epochs=2)
    unchecked = fit(some_data(), tmp_path, max_epochs=2)

    assert checked.seen["train"] == unchecked.seen["train"]
    assert checked.seen["val[0]"][2:] == unchecked.seen["val[0]"]


def test_accumulated_gradients_and_validation_within_an_epoch_change_no_batch(
    tmp_path: Path,
) -> None:
    plain = fit(some_data(), tmp_path, max_epochs=2)
    mixed = fit(
        some_data(), tmp_path, max_epochs=2, accumulate_grad_batches=4, val_check_interval=2
    )

    assert mixed.seen["train"] == plain.seen["train"]
    assert mixed.seen["val[0]"] == [
        note for epoch in (0, 1) for note in [n for n in plain.seen["val[0]"] if n[0] == epoch] * 3
    ]


def has_advice(folder: Path, **settings: Any) -> bool:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(some_data(**settings), folder)
    return any("does not have many workers" in str(warning.message) for warning in caught)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning gives its advice only where there are cores to follow it."""
    for namespace in ("lightning.pytorch", "pytorch_lightning"):
        path = f"{namespace}.trainer.connectors.data_connector.suggested_max_num_workers"
        monkeypatch.setattr(path, lambda num_devices: 3)


@pytest.mark.usefixtures("two_cores")
def test_lightnings_advice_is_silenced_only_where_we_decided(tmp_path: Path) -> None:
    assert not has_advice(tmp_path)
    assert has_advice(tmp_path, num_workers=0)
    assert has_advice(tmp_path, num_workers=1)


@pytest.mark.usefixtures("two_cores")
def test_lightnings_advice_comes_back_in_the_same_process(tmp_path: Path) -> None:
    """A run that we decided for says nothing of a later run that somebody else did."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(some_data(), tmp_path)
        fit(some_data(num_workers=0), tmp_path)

    assert any("does not have many workers" in str(warning.message) for warning in caught)


@BOTH
def test_an_error_in_a_step_leaves_no_worker(namespace: Any, tmp_path: Path) -> None:
    """The fixture of all tests looks for processes left over."""
    model = a_model(namespace, fails_at=3)
    data = some_data(num_workers=2)

    with pytest.raises(RuntimeError, match="the step broke"):
        fit(data, tmp_path, namespace=namespace, model=model)

    assert len(model.seen["train"]) == 3
    assert workers() == 0


def test_no_worker_is_left_after_a_fit_while_the_module_lives(tmp_path: Path) -> None:
    data = some_data(num_workers=2)

    fit(data, tmp_path)

    assert workers() == 0
    assert data.train_dataset is not None


def test_no_worker_is_left_after_a_loop_without_a_trainer_while_the_module_lives() -> None:
    data = some_data(num_workers=1)

    assert len(list(data.train_dataloader())) == 6

    assert workers() == 0
    assert data.train_dataset is not None


def test_workers_live_on_between_epochs(tmp_path: Path) -> None:
    seen: set[int] = set()

    def look(trainer: Any) -> None:
        seen.update(child.pid for child in psutil.Process().children())

    fit(some_data(num_workers=1), tmp_path, At(look), max_epochs=3)

    assert len(seen) == 2, "one for training and one for validation"


def test_training_draws_the_same_numbers_with_our_loaders_as_without_data(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)

    torch.manual_seed(7)
    data = FastDataModule(Noisy(), batch_size=BATCH)
    model = a_model(evaluates=False)
    torch.manual_seed(7)
    a_trainer(tmp_path).fit(model, datamodule=data)

    assert torch.equal(torch.rand(3), expected)
