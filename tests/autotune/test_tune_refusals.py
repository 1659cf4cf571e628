"""What ``tune`` refuses, in which words, and that nothing has been started by then."""

from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import DataLoader, IterableDataset
from tune_sets import Numbers, NumbersModule

from lightning_fastdata import FastDataError, FastDataModule, tune
from lightning_fastdata.errors import DatasetError, SettingsError


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(10))


class OwnLoader(DataLoader[Any]):
    """It may do anything."""


class TwoLoaders(NumbersModule):
    def train_dataloader(self) -> Any:
        return {"day": DataLoader(Numbers()), "night": DataLoader(Numbers())}


class CannotSetUp(NumbersModule):
    def setup(self, stage: str | None = None) -> None:
        raise FileNotFoundError("no such disk")


def built_too_early() -> Numbers:
    raise AssertionError("it was built before the arguments were looked at")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 0}, r"^batch_size=0, wanted"),
        ({"budget_s": 0}, r"^budget_s=0, wanted seconds above 0"),
        ({"budget_s": float("nan")}, r"^budget_s=nan, wanted seconds"),
        ({"step_time_s": -1.0}, r"^step_time_s=-1.0, wanted seconds"),
        ({"step_time_s": 1e12}, r"^step_time_s=1000000000000.0, wanted seconds above 0 and below"),
        ({"step_time_s": True}, r"^step_time_s=True, wanted seconds"),
        ({"max_stall_fraction": 1.5}, r"^max_stall_fraction=1.5, wanted a share from 0 to 1"),
        ({"local_world_size": 0}, r"^local_world_size=0, wanted 1 to 4,096: the ranks that will"),
        ({"local_world_size": 10**9}, r"^local_world_size=1000000000, wanted 1 to 4,096"),
        ({"local_world_size": 2.0}, r"^local_world_size=2.0, wanted a whole number"),
        ({"local_world_size": True}, r"^local_world_size=True, wanted a whole number"),
        ({"step_time_s": 0.1, "model": object()}, r"^step_time_s=0.1 with model=object, wanted"),
    ],
)
def test_arguments_are_looked_at_before_anything_is_built(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        tune(built_too_early, **settings)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Stream(), r"^Stream is an IterableDataset, wanted"),
        (DataLoader(Stream()), r"^Stream is an IterableDataset, wanted"),
        (
            [[0.5, 1]] * 10**6,
            r"^list has more than 8 training loaders \(\[0\], .*\[7\]\), wanted one",
        ),
        (FastDataModule(Stream()), r"^Stream is an IterableDataset, wanted"),
        (OwnLoader(Numbers()), r"^found a OwnLoader, wanted torch's DataLoader"),
        (TwoLoaders(), r"^TwoLoaders has 2 training loaders \(day, night\), wanted one"),
        ([Numbers(), Numbers()], r"^list has 2 training loaders \(\[0\], \[1\]\), wanted one"),
        (FastDataModule(Numbers(), engine="inline"), r'^engine="inline" has no workers'),
    ],
)
def test_what_leaves_nothing_to_choose_is_refused(source: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        tune(source, step_time_s=0.1)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("pictures", r"^found 'pictures', wanted a data module"),
        (Numbers(0), r"^the dataset \(Numbers\) has 0 samples"),
        (7, r"^the dataset is a int, wanted one with"),
        ([(0.5, 1)] * 10, r"^found a list of 10 samples, wanted a dataset or a DataLoader"),
        (FastDataModule(val_dataset=Numbers()), r"^found no training data in FastDataModule"),
        (CannotSetUp(), r'^CannotSetUp.setup\("fit"\) failed with FileNotFoundError: no such disk'),
    ],
)
def test_what_is_no_training_data_is_refused(source: Any, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        tune(source, step_time_s=0.1)


def test_a_batch_size_for_batches_that_the_user_cuts_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^batch_size=4 with a loader whose batches are cut"):
        tune(DataLoader(Numbers(), batch_sampler=[[0, 1]]), batch_size=4)


def test_a_model_that_is_no_lightning_module_is_refused() -> None:
    with pytest.raises(FastDataError, match=r"^model is 7, wanted a LightningModule"):
        tune(Numbers(), model=7)
