"""Every loop of the Trainer gets each sample exactly once an epoch, however the data is given."""

from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
from toy_runs import (
    BATCH,
    BOTH,
    LENGTH,
    Model,
    Noisy,
    Numbers,
    SizedStream,
    Stream,
    a_model,
    a_trainer,
    epochs,
    fit,
    plain,
    samples,
)

from lightning_fastdata import FastDataModule

ALL = [float(n) for n in range(LENGTH)]
WORKERS = pytest.mark.parametrize("num_workers", [0, 2])


@BOTH
def test_training_gets_each_sample_once_an_epoch_in_a_new_order(
    namespace: Any, tmp_path: Path
) -> None:
    model = fit(
        FastDataModule(Numbers(), batch_size=BATCH), tmp_path, namespace=namespace, max_epochs=3
    )

    orders = epochs(model.seen["train"])
    assert [sorted(order) for order in orders] == [ALL] * 3
    assert len({tuple(order) for order in [*orders, ALL]}) == 4


@BOTH
def test_validation_tests_and_predictions_get_each_sample_once_in_order(
    namespace: Any, tmp_path: Path
) -> None:
    data = FastDataModule(None, Numbers(), Numbers(), Numbers(), batch_size=BATCH)
    model = a_model(namespace)
    trainer = a_trainer(tmp_path, namespace=namespace)

    trainer.validate(model, datamodule=data, verbose=False)
    trainer.test(model, datamodule=data, verbose=False)
    predictions = trainer.predict(model, datamodule=data)

    for kind in ("val[0]", "test[0]", "predict[0]"):
        assert samples(model.seen[kind]) == ALL
    assert samples([(0, plain(batch)) for batch in predictions]) == ALL


@WORKERS
def test_a_prediction_writer_is_told_which_samples_each_batch_had(
    num_workers: int, tmp_path: Path
) -> None:
    writer = NotesIndices()
    data = FastDataModule(predict_dataset=Numbers(), batch_size=BATCH, num_workers=num_workers)

    a_trainer(tmp_path, writer).predict(a_model(), datamodule=data)

    assert writer.batches == [
        list(range(k, min(k + BATCH, LENGTH))) for k in range(0, LENGTH, BATCH)
    ]
    assert writer.epoch == [writer.batches]


class NotesIndices(lightning.pytorch.callbacks.BasePredictionWriter):
    def __init__(self) -> None:
        super().__init__("batch_and_epoch")
        self.batches: list[Any] = []

    def write_on_batch_end(self, _: Any, __: Any, prediction: Any, indices: Any, *___: Any) -> None:
        assert plain(prediction) == indices
        self.batches.append(indices)

    def write_on_epoch_end(self, _: Any, __: Any, ___: Any, indices: Any) -> None:
        self.epoch = indices


def test_batches_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    inline, workers = (
        fit(
            FastDataModule(Noisy(), Noisy(), batch_size=BATCH, num_workers=num_workers),
            tmp_path,
            max_epochs=2,
        )
        for num_workers in (0, 2)
    )

    assert inline.seen == workers.seen
    draws = [sample[2:] for _, batch in inline.seen["train"] for sample in batch]
    assert len({tuple(draw) for draw in draws}) == 2 * LENGTH


def test_seeding_workers_as_lightning_does_changes_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseeded = fit(FastDataModule(Noisy(), batch_size=BATCH, num_workers=0), tmp_path)
    monkeypatch.setenv("PL_SEED_WORKERS", "1")
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")

    seeded = fit(FastDataModule(Noisy(), batch_size=BATCH, num_workers=2), tmp_path)

    assert seeded.seen == unseeded.seen


@WORKERS
def test_the_epoch_reaches_the_dataset_in_workers_that_live_on(
    num_workers: int, tmp_path: Path
) -> None:
    data = FastDataModule(Noisy(), Noisy(5), batch_size=BATCH, num_workers=num_workers)

    model = fit(data, tmp_path, max_epochs=3)

    for kind in ("train", "val[0]"):
        told = [(epoch, sample[1]) for epoch, batch in model.seen[kind] for sample in batch]
        assert {epoch for epoch, _ in told} == {0, 1, 2}
        assert all(epoch == heard for epoch, heard in told)


def test_a_builder_is_called_once_and_not_before_setup(tmp_path: Path) -> None:
    built: list[str] = []

    def builder(kind: str) -> Any:
        return lambda: built.append(kind) or Numbers()  # type: ignore[func-returns-value]  # None

    data = FastDataModule(*(builder(kind) for kind in ("train", "val", "test", "predict")))
    trainer, model = a_trainer(tmp_path, max_epochs=2), a_model()
    assert built == []

    trainer.fit(model, datamodule=data)
    assert built == ["train", "val"]
    trainer.validate(model, datamodule=data, verbose=False)
    trainer.test(model, datamodule=data, verbose=False)
    trainer.predict(model, datamodule=data)

    assert built == ["train", "val", "test", "predict"]


def test_subclasses_may_build_their_own_datasets(tmp_path: Path) -> None:
    data, model = Built(batch_size=BATCH), a_model()
    trainer = a_trainer(tmp_path, max_epochs=2)

    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    trainer.predict(model, datamodule=data)

    assert data.calls == ["prepare", "train", "val", "prepare", "test", "prepare", "predict"]
    firsts = {kind: min(samples(notes)) for kind, notes in model.seen.items()}
    assert firsts == {"train": 0, "val[0]": 100, "test[0]": 200, "predict[0]": 300}


class Built(FastDataModule):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.calls: list[str] = []

    def prepare_data(self) -> None:
        self.calls.append("prepare")

    def build_train_dataset(self) -> Numbers:
        self.calls.append("train")
        return Numbers()

    def build_val_dataset(self) -> Numbers:
        self.calls.append("val")
        return Numbers(first=100)

    def build_test_dataset(self) -> Numbers:
        self.calls.append("test")
        return Numbers(first=200)

    def build_predict_dataset(self) -> Numbers:
        self.calls.append("predict")
        return Numbers(first=300)


@BOTH
@pytest.mark.parametrize("num_workers", [0, "auto"])
def test_several_evaluation_datasets_come_as_lightning_has_them(
    namespace: Any, num_workers: Any, tmp_path: Path
) -> None:
    sets: Any = [Numbers(5), lambda: Numbers(7, first=50)]
    data = FastDataModule(None, sets, sets, sets, batch_size=BATCH, num_workers=num_workers)
    model, trainer = a_model(namespace), a_trainer(tmp_path, namespace=namespace)

    trainer.validate(model, datamodule=data, verbose=False)
    trainer.test(model, datamodule=data, verbose=False)
    predictions = trainer.predict(model, datamodule=data)

    for kind in ("val", "test", "predict"):
        assert samples(model.seen[f"{kind}[0]"]) == [0, 1, 2, 3, 4]
        assert samples(model.seen[f"{kind}[1]"]) == [50, 51, 52, 53, 54, 55, 56]
    assert [len(batches) for batches in predictions] == [2, 2]


@BOTH
def test_a_dict_of_training_datasets_comes_combined_and_the_short_one_in_new_orders(
    namespace: Any, tmp_path: Path
) -> None:
    data = FastDataModule({"long": Numbers(), "short": Numbers(8)}, batch_size=BATCH)

    model = fit(data, tmp_path, namespace=namespace, max_epochs=2)

    long, short = (
        [
            [n for at, batch in model.seen["train"] if at == epoch for n in batch[key]]
            for epoch in (0, 1)
        ]
        for key in ("long", "short")
    )
    assert [sorted(epoch) for epoch in long] == [ALL] * 2
    cycles = [epoch[k : k + 8] for epoch in short for k in (0, 8, 16)]
    assert [sorted(cycle) for cycle in cycles] == [list(range(8))] * 6
    assert len({tuple(cycle) for cycle in cycles}) == 6, "each pass has an order of its own"


@pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined")
@WORKERS
@pytest.mark.parametrize("stream", [Stream, SizedStream])
def test_a_stream_is_delivered_whole_each_epoch(
    stream: Any, num_workers: int, tmp_path: Path
) -> None:
    data = FastDataModule(stream(), stream(), batch_size=BATCH, num_workers=num_workers)

    model = fit(data, tmp_path, max_epochs=2)

    assert [sorted(epoch) for epoch in epochs(model.seen["train"])] == [ALL] * 2
    assert [sorted(epoch) for epoch in epochs(model.seen["val[0]"])] == [ALL] * 2


def test_evaluation_may_have_a_batch_size_of_its_own(tmp_path: Path) -> None:
    data = FastDataModule(Numbers(), Numbers(), batch_size=BATCH, eval_batch_size=11)

    model = fit(data, tmp_path)

    assert [len(batch) for _, batch in model.seen["val[0]"]] == [11, 11]
    assert [len(batch) for _, batch in model.seen["train"]] == [4, 4, 4, 4, 4, 2]


def test_drop_last_leaves_out_only_a_training_batch(tmp_path: Path) -> None:
    data = FastDataModule(Numbers(), Numbers(), batch_size=BATCH, drop_last=True)

    model = fit(data, tmp_path)

    assert [len(batch) for _, batch in model.seen["train"]] == [4] * 5
    assert samples(model.seen["val[0]"]) == ALL


def test_without_shuffle_training_keeps_the_datasets_order(tmp_path: Path) -> None:
    model = fit(FastDataModule(Numbers(), batch_size=BATCH, shuffle=False), tmp_path, max_epochs=2)

    assert epochs(model.seen["train"]) == [ALL, ALL]


def test_collate_fn_and_batch_transform_make_the_batch(tmp_path: Path) -> None:
    data = FastDataModule(
        Numbers(), batch_size=BATCH, shuffle=False, collate_fn=list, batch_transform=len
    )

    model = fit(data, tmp_path)

    assert [batch for _, batch in model.seen["train"]] == [4, 4, 4, 4, 4, 2]


class TestAFractionForValidation:
    def sides(self, folder: Path, **settings: Any) -> tuple[list[float], list[float]]:
        data = FastDataModule(Numbers(), batch_size=BATCH, val_fraction=0.3, **settings)
        model = fit(data, folder, max_epochs=2)
        train, val = epochs(model.seen["train"]), epochs(model.seen["val[0]"])
        assert sorted(train[0]) == sorted(train[1])
        assert val[0] == val[1]
        return sorted(train[0]), val[0]

    def test_the_two_sides_are_disjoint_and_complete(self, tmp_path: Path) -> None:
        train, val = self.sides(tmp_path)

        assert len(val) == 7
        assert sorted(train + val) == ALL
        assert sorted(val) != val

    def test_every_instance_splits_alike(self, tmp_path: Path) -> None:
        import torch

        torch.manual_seed(1)
        one = self.sides(tmp_path)
        torch.manual_seed(2)

        assert self.sides(tmp_path) == one

    def test_another_seed_splits_otherwise(self, tmp_path: Path) -> None:
        assert set(self.sides(tmp_path)[1]) != set(self.sides(tmp_path, seed=1)[1])

    def test_validating_alone_sees_the_same_side(self, tmp_path: Path) -> None:
        _, val = self.sides(tmp_path)
        model, data = a_model(), FastDataModule(Numbers(), batch_size=BATCH, val_fraction=0.3)

        a_trainer(tmp_path).validate(model, datamodule=data, verbose=False)

        assert samples(model.seen["val[0]"]) == val


class TestFromDatasets:
    @BOTH
    def test_takes_what_lightnings_own_takes(self, namespace: Any, tmp_path: Path) -> None:
        model, trainer = a_model(namespace), a_trainer(tmp_path, namespace=namespace)
        data = FastDataModule.from_datasets(
            Numbers(),
            [Numbers(5), Numbers(7)],
            test_dataset=(Numbers(n) for n in (3, 4)),
            predict_dataset=Numbers(6),
            batch_size=2,
            num_workers=0,
        )

        trainer.fit(model, datamodule=data)
        trainer.test(model, datamodule=data, verbose=False)
        trainer.predict(model, datamodule=data)

        assert sorted(samples(model.seen["train"])) == ALL
        lengths = {kind: len(samples(notes)) for kind, notes in model.seen.items()}
        assert lengths == {
            "train": 22,
            "val[0]": 5,
            "val[1]": 7,
            "test[0]": 3,
            "test[1]": 4,
            "predict[0]": 6,
        }
        assert {len(batch) for _, batch in model.seen["train"]} == {2}

    def test_has_lightnings_default_batch_size(self) -> None:
        assert FastDataModule.from_datasets(Numbers()).batch_size == 1

    def test_a_subclass_gets_its_own_arguments(self) -> None:
        data = Named.from_datasets(Numbers(), name="mine")

        assert isinstance(data, Named)
        assert data.name == "mine"

    def test_an_unknown_argument_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="batchsize"):
            FastDataModule.from_datasets(Numbers(), batchsize=3)


class Named(FastDataModule):
    def __init__(self, *datasets: Any, name: str, **settings: Any) -> None:
        super().__init__(*datasets, **settings)
        self.name = name


def test_two_fits_in_a_row_and_a_second_trainer_get_everything(tmp_path: Path) -> None:
    data, model = FastDataModule(Numbers(), Numbers(), batch_size=BATCH, num_workers=2), a_model()
    trainer = a_trainer(tmp_path)

    trainer.fit(model, datamodule=data)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, datamodule=data)
    assert [sorted(order) for order in epochs(model.seen["train"])] == [ALL] * 2
    again = fit(data, tmp_path)

    assert again.seen["train"] == [note for note in model.seen["train"] if note[0] == 0]


@BOTH
def test_a_model_that_only_trains_is_not_told_about_validation(
    namespace: Any, tmp_path: Path
) -> None:
    """Warnings are errors here, and Lightning warns about a val_dataloader without its step."""
    model = a_model(namespace, evaluates=False)
    data = FastDataModule(Numbers(), batch_size=BATCH)

    fit(data, tmp_path, namespace=namespace, model=model)

    assert sorted(samples(model.seen["train"])) == ALL


def test_validation_data_is_left_alone_by_a_fit_without_it(tmp_path: Path) -> None:
    """A model with validation_step but no data gets Lightning's own warning, no error of ours."""
    with pytest.warns(UserWarning, match="no `val_dataloader`"):
        model = fit(FastDataModule(Numbers(), batch_size=BATCH), tmp_path, model=Model())

    assert set(model.seen) == {"train"}
