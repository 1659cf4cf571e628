"""``FastDataModule.wrap`` feeds training from an existing data module and changes nothing of it."""

from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from toy_runs import (
    BATCH,
    BOTH,
    LENGTH,
    At,
    Noisy,
    Numbers,
    Stream,
    a_model,
    a_trainer,
    epochs,
    fit,
    samples,
)

from lightning_fastdata import FastDataLoader, FastDataModule
from lightning_fastdata.errors import DatasetError, SettingsError

ALL = [float(n) for n in range(LENGTH)]


class _Existing:
    def __init__(self, **loader: Any) -> None:
        super().__init__()
        self.loader = loader
        self.calls: list[str] = []

    def prepare_data(self) -> None:
        self.calls.append("prepare_data")

    def setup(self, stage: str) -> None:
        assert self.trainer is not None  # type: ignore[attr-defined]  # the module's
        self.calls.append(f"setup {getattr(stage, 'value', stage)}")
        self.dataset = Numbers()

    def train_dataloader(self) -> Any:
        return DataLoader(self.dataset, **{"batch_size": BATCH, "shuffle": True} | self.loader)

    def val_dataloader(self) -> Any:
        return [DataLoader(self.dataset, batch_size=5), DataLoader(Numbers(3), batch_size=5)]

    def teardown(self, stage: str) -> None:
        self.calls.append(f"teardown {getattr(stage, 'value', stage)}")

    def state_dict(self) -> dict[str, Any]:
        return {"mine": 7}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls.append(f"load {state}")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch + 100

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch + 1000


class Existing(_Existing, lightning.pytorch.LightningDataModule):
    pass


class LegacyExisting(_Existing, pytorch_lightning.LightningDataModule):
    pass


def existing_in(namespace: Any, **loader: Any) -> Any:
    return (Existing if namespace is lightning.pytorch else LegacyExisting)(**loader)


@BOTH
def test_gives_the_same_samples_through_every_hook(namespace: Any, tmp_path: Path) -> None:
    existing = existing_in(namespace)

    model = fit(FastDataModule.wrap(existing), tmp_path, namespace=namespace, max_epochs=2)

    shifted = [n + 1100 for n in ALL]
    orders = epochs(model.seen["train"])
    assert [sorted(order) for order in orders] == [shifted] * 2
    assert orders[0] != orders[1]
    assert epochs(model.seen["val[0]"]) == [shifted] * 2
    assert epochs(model.seen["val[1]"]) == [[1100, 1101, 1102]] * 2
    assert existing.calls == ["prepare_data", "setup fit", "teardown fit"]


def test_resumes_exactly_and_gives_the_others_state_back(tmp_path: Path) -> None:
    path, existing = tmp_path / "saved.ckpt", Existing()

    def save(trainer: Any) -> None:
        if trainer.global_step == 8:
            trainer.save_checkpoint(path)

    whole = fit(FastDataModule.wrap(Existing()), tmp_path, At(save), max_epochs=2).seen["train"]
    resumed = fit(FastDataModule.wrap(existing), tmp_path, ckpt_path=path, max_epochs=2)

    assert resumed.seen["train"] == whole[8:]
    assert "load {'mine': 7}" in existing.calls


def test_replaces_stock_loaders_and_leaves_others_alone() -> None:
    own, own_kind = [torch.zeros(2)], Special(Numbers())
    loaders = {"stock": DataLoader(Numbers()), "own": own, "own kind": own_kind}
    data = FastDataModule.wrap(Hooks(train=lambda: loaders))

    made = data.train_dataloader()

    assert type(made["stock"]) is FastDataLoader
    assert made["own"] == own
    assert made["own kind"] is own_kind


class Special(DataLoader[Any]):
    pass


class Hooks(lightning.pytorch.LightningDataModule):
    def __init__(self, train: Any, val: Any = None) -> None:
        super().__init__()
        self.train, self.val = train, val

    def train_dataloader(self) -> Any:
        return self.train()


def batches_of(loader: DataLoader[Any]) -> list[Any]:
    wrapped = FastDataModule.wrap(Hooks(train=lambda: loader)).train_dataloader()
    assert type(wrapped) is FastDataLoader
    return [batch.tolist() for batch in wrapped]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("make", [SequentialSampler, RandomSampler], ids=["in order", "shuffled"])
def test_keeps_torchs_own_batch_sampler(make: Any, drop_last: bool) -> None:
    dataset = Numbers()

    batches = batches_of(
        DataLoader(dataset, batch_sampler=BatchSampler(make(dataset), BATCH, drop_last))
    )

    assert [len(batch) for batch in batches] == [4] * 5 + [2] * (not drop_last)
    flat = [n for batch in batches for (n,) in batch]
    assert (flat == ALL[: len(flat)]) == (make is SequentialSampler)
    assert len(set(flat)) == len(flat)


def test_keeps_a_batch_sampler_of_another_make() -> None:
    pairs = [[3, 1], [2], [0, 0, 5]]

    batches = batches_of(DataLoader(Numbers(), batch_sampler=pairs))

    assert batches == [[[float(n)] for n in pair] for pair in pairs]


def test_keeps_a_sampler() -> None:
    some = batches_of(DataLoader(Numbers(), sampler=SubsetRandomSampler([3, 5, 8]), batch_size=2))
    weighted = WeightedRandomSampler([0.0] * 4 + [1.0] + [0.0] * 17, 6)
    one = batches_of(DataLoader(Numbers(), sampler=weighted, batch_size=3))

    assert sorted(n for batch in some for (n,) in batch) == [3, 5, 8]
    assert one == [[[4.0]] * 3] * 2


def test_keeps_a_shuffle_that_draws_fewer_or_repeats() -> None:
    dataset = Numbers()
    few = batches_of(DataLoader(dataset, sampler=RandomSampler(dataset, num_samples=5)))
    repeats = RandomSampler(dataset, replacement=True, num_samples=50)
    many = batches_of(DataLoader(dataset, sampler=repeats))

    assert len(few) == 5
    assert len(many) == 50


def test_keeps_collate_fn_drop_last_and_unbatched_samples() -> None:
    loader = DataLoader(Numbers(), batch_size=BATCH, drop_last=True, collate_fn=torch.cat)
    single = DataLoader(Numbers(), batch_size=None)

    assert batches_of(loader) == [ALL[k : k + 4] for k in range(0, 20, 4)]
    assert batches_of(single) == [[n] for n in ALL]


def test_keeps_a_stream_and_its_batches() -> None:
    batches = batches_of(DataLoader(Stream(), batch_size=BATCH))

    assert [n for batch in batches for (n,) in batch] == ALL
    assert len(batches) == 6


def test_loads_by_the_wrappers_settings() -> None:
    stock = DataLoader(Numbers(), batch_size=BATCH, num_workers=1)

    def wrapped(**settings: Any) -> Any:
        return FastDataModule.wrap(Hooks(train=lambda: stock), **settings).train_dataloader()

    assert wrapped(num_workers=2).num_workers == 2
    assert wrapped(engine="inline").num_workers == 0
    assert wrapped(seed=5).seed == 5


def test_a_batch_transform_given_to_wrap_acts() -> None:
    stock = DataLoader(Numbers(), batch_size=BATCH)
    data = FastDataModule.wrap(
        Hooks(train=lambda: stock), batch_transform=lambda batch: batch + 1, num_workers=0
    )

    assert next(iter(data.train_dataloader())).flatten().tolist() == [1, 2, 3, 4]


def test_a_start_method_given_to_wrap_acts() -> None:
    stock = DataLoader(Numbers(), batch_size=BATCH)
    data = FastDataModule.wrap(
        Hooks(train=lambda: stock), multiprocessing_context="forkserver", num_workers=1
    )

    context: Any = data.train_dataloader().multiprocessing_context
    assert context.get_start_method() == "forkserver"


@BOTH
def test_serves_lightnings_own_from_datasets(namespace: Any, tmp_path: Path) -> None:
    own = namespace.LightningDataModule.from_datasets(Numbers(), Numbers(5), batch_size=BATCH)

    model = fit(FastDataModule.wrap(own), tmp_path, namespace=namespace)

    assert sorted(samples(model.seen["train"])) == ALL
    assert samples(model.seen["val[0]"]) == [0, 1, 2, 3, 4]


def test_serves_lightnings_own_demo(tmp_path: Path) -> None:
    trainer = a_trainer(tmp_path)

    trainer.fit(BoringModel(), datamodule=FastDataModule.wrap(BoringDataModule()))

    assert trainer.global_step == 64


@BOTH
def test_what_the_other_does_not_have_is_absent(namespace: Any, tmp_path: Path) -> None:
    """Warnings are errors: neither of a missing val loader nor of a step without one."""
    data = FastDataModule.wrap(Hooks(train=lambda: DataLoader(Numbers(), batch_size=BATCH)))

    model = a_model(namespace, evaluates=False)
    fit(data, tmp_path, namespace=namespace, model=model)

    assert sorted(samples(model.seen["train"])) == ALL
    with pytest.raises(DatasetError, match=r"^a test loader was asked for, but"):
        data.test_dataloader()


@pytest.mark.parametrize(
    "setting",
    [
        {"batch_size": 3},
        {"shuffle": False},
        {"drop_last": True},
        {"train_dataset": Numbers()},
        {"val_fraction": 0.5},
        {"collate_fn": list},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_refuses_what_the_other_decides(setting: dict[str, Any]) -> None:
    with pytest.raises(
        SettingsError, match=rf"^wrap\(\) was given {next(iter(setting))}, which the"
    ):
        FastDataModule.wrap(Existing(), **setting)


def test_the_others_trainer_is_there_in_every_hook(tmp_path: Path) -> None:
    class Asks(Existing):
        def prepare_data(self) -> None:
            assert self.trainer is not None

    fit(FastDataModule.wrap(Asks()), tmp_path)


def test_random_samples_are_the_same_for_any_number_of_workers() -> None:
    stock = DataLoader(Noisy(), batch_size=BATCH, shuffle=True, num_workers=1)

    def batches(num_workers: int) -> list[Any]:
        data = FastDataModule.wrap(Hooks(train=lambda: stock), num_workers=num_workers)
        return [batch.tolist() for batch in data.train_dataloader()]

    assert batches(0) == batches(2)


@pytest.mark.parametrize("wrong", [None, "data", BoringDataModule, DataLoader([1, 2])], ids=str)
def test_what_is_no_data_module_is_not_wrapped(wrong: Any) -> None:
    with pytest.raises(
        SettingsError, match=r"^wrap\(\) was given .*, wanted a LightningDataModule"
    ):
        FastDataModule.wrap(wrong)
