"""Changes that a user makes to a dataset are seen, and nothing else is."""

import functools
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Subset, default_collate
from torchvision.transforms import v2

from lightning_fastdata.loader.hazards.state import StateGlance, glance_at


class Step:
    def __init__(self) -> None:
        self.p = 0.5


class Slotted:
    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 3


class Pictures:
    """A dataset such as people write."""

    def __init__(self) -> None:
        self.epoch = 0
        self.size = 128
        self.crop = (4, 4)
        self.root = Path("data")
        self.paths = [f"{index}.jpg" for index in range(1000)]
        self.transform: Any = v2.Compose([v2.RandomHorizontalFlip(), v2.Resize(8)])
        self.transforms = [Step(), Step()]
        self.options: dict[str, Any] = {"a": 1}
        self.slotted = Slotted()
        self.mean = torch.zeros(3)
        self.pixels = np.zeros(3)
        self.not_a_number = float("nan")
        self.load = functools.partial(max, key=len)
        self.itself = self

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> int:
        return index


def glance(dataset: Any) -> StateGlance:
    return glance_at({"dataset": dataset, "collate_fn": default_collate})


def set_transform(dataset: Pictures) -> None:
    dataset.transform = v2.Compose([v2.RandomHorizontalFlip(), v2.Resize(8)])


def swap_the_tensors_memory(dataset: Pictures) -> None:
    dataset.mean.data = torch.zeros(3)


CHANGES: dict[str, Callable[[Pictures], object]] = {
    "dataset.dataset.transform": set_transform,
    "dataset.dataset.size": lambda dataset: setattr(dataset, "size", 160),
    "dataset.dataset.crop[1]": lambda dataset: setattr(dataset, "crop", (4, 5)),
    "dataset.dataset.root": lambda dataset: setattr(dataset, "root", Path("other")),
    "dataset.dataset.new": lambda dataset: setattr(dataset, "new", None),
    "dataset.dataset.load": lambda dataset: delattr(dataset, "load"),
    "dataset.dataset.paths": lambda dataset: dataset.paths.append("more.jpg"),
    "dataset.dataset.transforms[0].p": lambda dataset: setattr(dataset.transforms[0], "p", 0.9),
    "dataset.dataset.transforms[0]": lambda dataset: dataset.transforms.reverse(),
    "dataset.dataset.options": lambda dataset: dataset.options.update(b=2),
    "dataset.dataset.options['a']": lambda dataset: dataset.options.update(a=2),
    "dataset.dataset.slotted.size": lambda dataset: setattr(dataset.slotted, "size", 4),
    "dataset.dataset.mean": lambda dataset: dataset.mean.add_(1),
    "dataset.dataset.pixels": lambda dataset: setattr(dataset, "pixels", np.zeros(3)),
    "dataset.dataset.transform.transforms[0].p": (
        lambda dataset: setattr(dataset.transform.transforms[0], "p", 0.9)
    ),
}


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_is_seen_and_named(path: str) -> None:
    dataset = Pictures()
    view = Subset(dataset, [0])  # type: ignore[arg-type]  # torch wants its own class
    before = glance(view)

    CHANGES[path](dataset)

    after = glance(view)
    assert before.first_change(after) == path
    assert before != after


def test_the_memory_of_a_tensor_that_was_replaced_is_seen() -> None:
    dataset = Pictures()
    before = glance(dataset)

    swap_the_tensors_memory(dataset)

    assert before.first_change(glance(dataset)) == "dataset.mean"


def test_another_dataset_that_looks_the_same_is_a_change() -> None:
    first, second = Pictures(), Pictures()

    assert glance(first).first_change(glance(second)) == "dataset"


def test_what_a_function_took_along_is_looked_at() -> None:
    size = 3

    def collate(samples: Any) -> Any:
        return samples[:size]

    before = glance_at({"collate_fn": collate})
    size = 4

    assert before.first_change(glance_at({"collate_fn": collate})) == "collate_fn.<closure 'size'>"


def test_nothing_changed_is_no_change() -> None:
    dataset = Pictures()

    assert glance(dataset) == glance(dataset)


def test_reading_samples_is_no_change() -> None:
    dataset = Pictures()
    before = glance(dataset)

    default_collate([dataset[0], dataset[1]])
    dataset.transform(torch.zeros(3, 9, 9))
    dataset.root.joinpath("a").exists()

    assert before == glance(dataset)


def test_an_equal_value_set_anew_is_no_change() -> None:
    dataset = Pictures()
    before = glance(dataset)

    dataset.size, dataset.crop, dataset.options = int("128"), (int("4"), 4), {"a": 1}

    assert before == glance(dataset)


@pytest.mark.parametrize("name", ["epoch", "_epoch"])
def test_the_epoch_is_left_out(name: str) -> None:
    dataset = Pictures()
    before = glance(dataset)

    setattr(dataset, name, 7)

    assert before == glance(dataset)


def test_a_write_into_shared_memory_is_no_change() -> None:
    """It reaches the workers by itself: a shared counter of epochs is such a tensor."""
    clock = torch.zeros(1).share_memory_()
    before = glance([clock])

    clock.add_(1)

    assert before == glance([clock])


def test_an_old_tensor_is_not_kept_alive() -> None:
    dataset = Pictures()
    old = weakref.ref(dataset.mean)
    before = glance(dataset)

    dataset.mean = torch.zeros(3)
    gc.collect()

    assert old() is None
    assert before != glance(dataset)


def test_a_dataset_is_not_kept_alive() -> None:
    dataset = Step()
    old = weakref.ref(dataset)
    seen = glance(dataset)

    del dataset

    assert old() is None
    assert seen.marks


class Touchy:
    """Breaks when any of its code is run."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError("the user's code was run")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("the user's code was run")

    __hash__ = None  # type: ignore[assignment]


def test_no_code_of_the_dataset_is_run() -> None:
    parts = [Touchy(), {1: Touchy()}]
    before = glance(parts)

    parts[0] = Touchy()

    assert before.first_change(glance(parts)) == "dataset[0]"


def test_tensors_that_tell_nothing_of_themselves_are_told_by_themselves() -> None:
    with torch.inference_mode():
        tensor = torch.zeros(3)

    assert glance([tensor]) == glance([tensor])
    assert glance([tensor]) != glance([tensor.clone()])


def test_a_glance_at_endless_records_stays_small() -> None:
    records = [[[str(number)] * 50 for number in range(90)] for _ in range(90)]

    seen = glance(records)

    assert len(seen.marks) <= 2000
    assert seen == glance(records)
