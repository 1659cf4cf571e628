"""What cannot work is refused early, naming what was found, what was wanted and what to do."""

from pathlib import Path
from typing import Any

import pytest
from toy_runs import BATCH, BOTH, Model, Numbers, Stream, a_model, a_trainer, fit

from lightning_fastdata import FastDataModule
from lightning_fastdata.errors import DatasetError, SettingsError

LIGHTNING_SAYS_WHOSE_HOOK = pytest.mark.filterwarnings(
    r"ignore:You have overridden `on_\w+_batch_transfer` in `LightningModule` but have passed in"
)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"batch_size": 0}, "batch_size=0, wanted a whole number of 1"),
        ({"eval_batch_size": -1}, "batch_size=-1, wanted a whole number of 1"),
        ({"num_workers": -1}, "num_workers=-1, wanted 0 or more"),
        ({"num_workers": "many"}, "num_workers='many', wanted 0 or more"),
        ({"engine": "rings"}, "engine='rings', wanted"),
        ({"engine": "inline", "num_workers": 2}, 'engine="inline" with num_workers=2'),
        ({"val_fraction": 0}, "val_fraction=0 with val_dataset=None, wanted a number"),
        ({"val_fraction": 1.5}, "val_fraction=1.5 with val_dataset=None, wanted a number"),
        ({"val_fraction": 0.1, "val_dataset": Numbers()}, "val_fraction=0.1 with val_dataset=<"),
        ({"max_stall_fraction": 1}, "max_stall_fraction=1, wanted 0 to 1"),
        ({"max_stall_fraction": -0.1}, "max_stall_fraction=-0.1, wanted 0 to 1"),
        ({"prefetch_factor": 0}, "prefetch_factor=0 with num_workers=auto"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_work_is_refused_at_once(settings: Any, says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        FastDataModule(Numbers(), **settings)

    assert str(raised.value).startswith(says)


def test_an_unknown_argument_is_an_error() -> None:
    with pytest.raises(TypeError, match="num_worker"):
        FastDataModule(Numbers(), num_worker=2)  # type: ignore[call-arg]  # on purpose


@BOTH
def test_training_without_training_data_is_refused(namespace: Any, tmp_path: Path) -> None:
    data = FastDataModule(val_dataset=Numbers())

    with pytest.raises(DatasetError, match=r"^a train loader was asked for, but there is no"):
        fit(data, tmp_path, namespace=namespace)


@pytest.mark.parametrize("kind", ["train", "val", "test", "predict"])
def test_a_loader_without_data_is_refused(kind: str) -> None:
    with pytest.raises(DatasetError, match=rf"^a {kind} loader was asked for, but there is no"):
        getattr(FastDataModule(), f"{kind}_dataloader")()


@BOTH
@pytest.mark.parametrize("loop", ["validate", "test", "predict"])
def test_a_loop_without_data_is_refused(loop: str, namespace: Any, tmp_path: Path) -> None:
    trainer = a_trainer(tmp_path, namespace=namespace)

    kind = loop.removesuffix("idate")

    with pytest.raises(DatasetError, match=rf"^a {kind} loader was asked for, but there is no"):
        getattr(trainer, loop)(a_model(namespace), datamodule=FastDataModule(Numbers()))


@pytest.mark.parametrize("kind", ["train", "val"])
def test_an_empty_dataset_is_refused_in_setup(kind: str) -> None:
    data = FastDataModule(**{f"{kind}_dataset": Numbers(0)})  # type: ignore[arg-type]  # of this kind

    with pytest.raises(DatasetError, match=r"^the dataset \(Numbers\) has 0 samples, wanted 1"):
        data.setup("fit")


@pytest.mark.parametrize("wrong", [7, "imagenet/train", [Numbers(), 7]], ids=str)
def test_what_is_no_dataset_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(DatasetError, match=r"^train_dataset is .*, wanted a torch Dataset"):
        FastDataModule(wrong)


@pytest.mark.parametrize("wrong", [lambda: "imagenet", lambda: None], ids=["text", "none"])
def test_what_builds_no_dataset_is_refused_in_setup(wrong: Any) -> None:
    with pytest.raises(DatasetError, match=r"^train_dataset is .*, wanted a torch Dataset"):
        FastDataModule(wrong).setup("fit")


def test_a_batch_that_would_be_dropped_whole_is_refused() -> None:
    data = FastDataModule(Numbers(3), batch_size=BATCH, drop_last=True)

    with pytest.raises(SettingsError, match=r"^batch_size=4 with drop_last=True of 3 samples"):
        data.train_dataloader()


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_a_fraction_that_leaves_a_side_empty_is_refused(fraction: float) -> None:
    with pytest.raises(SettingsError, match=r"^val_fraction=.* of 22 samples leaves"):
        FastDataModule(Numbers(), val_fraction=fraction).setup("fit")


@pytest.mark.parametrize("whole", [Stream(), [Numbers()], {"a": Numbers()}], ids=str)
def test_a_fraction_of_what_cannot_be_split_is_refused(whole: Any) -> None:
    with pytest.raises(SettingsError, match=r"^val_fraction=0.5 with a train_dataset of type"):
        FastDataModule(whole, val_fraction=0.5).setup("fit")


def test_a_fraction_of_nothing_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"^train_dataset is None, wanted a torch Dataset"):
        FastDataModule(val_fraction=0.5).setup("fit")


@BOTH
@pytest.mark.parametrize("owner", ["model", "data"])
def test_a_device_transform_and_an_earlier_hook_are_refused_by_name(
    owner: str, namespace: Any, tmp_path: Path
) -> None:
    model: Any = a_model(namespace, evaluates=False)
    data: Any = FastDataModule(Numbers(), device_transform=add_one)
    chosen = type({"model": model, "data": data}[owner])
    early = type("Early", (chosen,), {"on_before_batch_transfer": before})
    if owner == "model":
        model = early()
    else:
        data = early(Numbers(), device_transform=add_one)

    with pytest.raises(SettingsError) as raised:
        fit(data, tmp_path, namespace=namespace, model=model)

    says = "device_transform is add_one, and Early.on_before_batch_transfer must see batches"
    assert str(raised.value).startswith(says)


def add_one(batch: Any) -> Any:
    return batch + 1


def before(self: Any, batch: Any, dataloader_idx: int) -> Any:
    return batch


@LIGHTNING_SAYS_WHOSE_HOOK
def test_an_earlier_hook_alone_is_called(tmp_path: Path) -> None:
    class Early(Model):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch + 100

    model = Early()

    fit(FastDataModule(Numbers(), Numbers(), batch_size=BATCH), tmp_path, model=model)

    assert model.seen["val[0]"][0] == (0, [100, 101, 102, 103])


@LIGHTNING_SAYS_WHOSE_HOOK
@BOTH
def test_a_hook_after_the_transfer_comes_after_the_device_transform(
    namespace: Any, tmp_path: Path
) -> None:
    model = a_model(namespace)
    model.on_after_batch_transfer = lambda batch, dataloader_idx: batch * 10
    data = FastDataModule(Numbers(), Numbers(), batch_size=BATCH, device_transform=add_one)

    fit(data, tmp_path, namespace=namespace, model=model)

    assert model.seen["val[0]"][0] == (0, [10, 20, 30, 40])


def test_an_error_of_the_dataset_names_the_sample(tmp_path: Path) -> None:
    class Broken(Numbers):
        def __getitem__(self, index: int) -> Any:
            if index == 7:
                raise ValueError("cannot be read")
            return super().__getitem__(index)

    with pytest.raises(ValueError, match="cannot be read"):
        fit(FastDataModule(Broken(), batch_size=BATCH, num_workers=1), tmp_path)


def test_a_fraction_beside_a_method_that_builds_is_refused_at_once() -> None:
    class Builds(FastDataModule):
        def build_val_dataset(self) -> Any:
            return Numbers(4)

    with pytest.raises(SettingsError, match=r"^val_fraction=0\.5 with Builds\.build_val_dataset"):
        Builds(Numbers(8), val_fraction=0.5)


def test_an_unknown_stage_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"^setup\(stage='training'\), wanted one of"):
        FastDataModule(Numbers(8)).setup("training")


def test_a_seed_below_zero_is_refused_at_once() -> None:
    with pytest.raises(SettingsError, match=r"^seed=-1, wanted 0 or more"):
        FastDataModule(Numbers(), seed=-1)
