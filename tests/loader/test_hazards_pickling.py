"""What cannot be pickled is found by its path."""

import functools
import pickle
import threading
import tracemalloc
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset
from torchvision.transforms import Compose

from lightning_fastdata.loader.hazards.pickling import explain_unpicklable, find_unpicklable


class Holder(Dataset[Any]):
    """Holds whatever it is given."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)

    def __len__(self) -> int:
        return 1


class Slotted:
    __slots__ = ("_lock", "never_set")

    def __init__(self) -> None:
        self._lock = threading.Lock()


class Careful(Holder):
    """Leaves its lock out of its pickle."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: part for name, part in vars(self).items() if name != "lock"}


class Reduced(Holder):
    """Is pickled without any of its state."""

    def __reduce__(self) -> Any:
        return Reduced, ()


class Refusing:
    def __getstate__(self) -> Any:
        raise ValueError("not this one")


class Locked(list[Any]):
    """A list with an attribute."""


def path_of(value: Any, name: str = "dataset") -> str | None:
    with pytest.raises((TypeError, pickle.PicklingError, ValueError)):
        cloudpickle.dumps(value)  # the truth of each case
    found = find_unpicklable(value, name)
    return None if found is None else found.path


def test_a_lock_deep_in_a_transform_is_found_by_its_path() -> None:
    steps = [torch.relu, torch.relu, Holder(_lock=threading.Lock())]
    dataset = Holder(transform=Holder(steps=steps), paths=["a"] * 1000)

    found = find_unpicklable(dataset, "dataset")

    assert found is not None
    assert (found.path, found.kind) == ("dataset.transform.steps[2]._lock", "_thread.lock")
    assert found.error.startswith("TypeError: cannot pickle '_thread.lock'")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "dataset"),
        (Subset(Holder(lock=threading.Lock()), [0]), "dataset.dataset.lock"),
        (ConcatDataset([Holder(), Holder(lock=threading.Lock())]), "dataset.datasets[1].lock"),
        (Compose([Holder(lock=threading.Lock())]), "dataset.transforms[0].lock"),
        (Holder(by_name={"a b": [threading.Lock()]}), "dataset.by_name['a b'][0]"),
        (Holder(slotted=Slotted()), "dataset.slotted._lock"),
        (Holder(rows=(i for i in range(3))), "dataset.rows"),
        (Holder(part=Refusing()), "dataset.part"),
        (Careful(lock=threading.Lock(), other=threading.Lock()), "dataset.other"),
        (functools.partial(max, key=threading.Lock()), "dataset.keywords['key']"),
        (Holder(lock=threading.Lock()).__len__, "dataset.__self__.lock"),
        (Holder(array=np.array([threading.Lock()])), "dataset.array.<part of its pickle>[0]"),
    ],
)
def test_each_way_to_hold_something_has_its_words(value: Any, path: str) -> None:
    assert path_of(value) == path


def test_what_a_function_took_along_is_named() -> None:
    lock = threading.Lock()

    def collate(samples: Any) -> Any:
        with lock:
            return samples

    assert path_of(collate, "collate_fn") == "collate_fn.<closure 'lock'>"


def test_what_a_function_of_a_notebook_reads_is_named() -> None:
    """cloudpickle sends functions of the main module with the globals that they read."""
    main: dict[str, Any] = {"__name__": "__main__", "lock": threading.Lock()}
    exec("def collate(samples):\n    with lock:\n        return samples.locks", main)

    assert path_of(main["collate"], "collate_fn") == "collate_fn.<global 'lock'>"


def test_what_a_function_does_not_read_is_no_culprit() -> None:
    main: dict[str, Any] = {"__name__": "__main__", "lock": threading.Lock()}
    exec("def collate(samples):\n    return samples.lock", main)

    assert find_unpicklable(main["collate"], "collate_fn") is None


def test_what_a_class_of_a_notebook_reads_is_named() -> None:
    main: dict[str, Any] = {"__name__": "__main__", "lock": threading.Lock()}
    exec(
        "class Own:\n    def __getitem__(self, index):\n        with lock:\n            pass", main
    )

    path = "dataset.<class Own>.__getitem__.<global 'lock'>"
    assert path_of(main["Own"]()) == path


def test_the_shortest_path_is_given_where_parts_refer_to_each_other() -> None:
    dataset = Holder(transform=Holder())
    dataset.transform.owner = dataset
    dataset.lock = threading.Lock()

    assert path_of(dataset) == "dataset.lock"


@pytest.mark.parametrize(
    "value",
    [
        Careful(lock=threading.Lock()),
        Reduced(lock=threading.Lock()),
        Holder(tensor=torch.zeros(3), array=np.zeros(3), weight=torch.nn.Linear(2, 2)),
        Holder(function=lambda x: x, kind=Holder, module=np, path=find_unpicklable),
        [1, "a", None, {2}, b"x"],
    ],
)
def test_what_can_be_pickled_has_no_culprit(value: Any) -> None:
    cloudpickle.dumps(value)

    assert find_unpicklable(value, "dataset") is None


def test_a_culprit_among_a_million_paths_costs_no_look_at_all_of_them() -> None:
    looked = [0]

    class Counting:
        def __reduce__(self) -> Any:
            looked[0] += 1
            return str, ()

    dataset = Holder(paths=[Counting() for _ in range(100_000)], lock=threading.Lock())

    found = find_unpicklable(dataset, "dataset")

    assert found is not None
    assert found.path == "dataset.lock"
    assert looked[0] <= 100


def test_nothing_large_is_written_while_looking() -> None:
    size_bytes = 50 * 2**20
    deep: Any = Refusing()  # so deep that all else is looked at before
    for _ in range(9):
        deep = Holder(part=deep)
    large = Holder(
        tensor=torch.zeros(size_bytes, dtype=torch.uint8),
        array=np.zeros(size_bytes, np.uint8),
        text=Holder(raw=bytes(size_bytes)),
        deep=deep,
    )
    tracemalloc.start()

    try:
        find_unpicklable(large, "dataset")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < size_bytes / 10


def test_a_readable_text_file_is_not_read(tmp_path: Any) -> None:
    """cloudpickle sends all that is in it, so it is no culprit, but it may be long."""
    (tmp_path / "labels").write_text("abc")
    with open(tmp_path / "labels") as file:
        found = find_unpicklable(Holder(file=file), "dataset")

        assert found is None
        assert file.read() == "abc"


def test_a_file_of_bytes_is_a_culprit(tmp_path: Any) -> None:
    (tmp_path / "data").write_bytes(b"abc")
    with open(tmp_path / "data", "rb") as file:
        assert path_of(Holder(file=file)) == "dataset.file"


def test_the_words_say_what_was_found_what_was_wanted_and_what_to_do() -> None:
    found = find_unpicklable(Holder(lock=threading.Lock()), "dataset")

    assert found is not None
    words = explain_unpicklable(found)
    assert words.startswith(
        "dataset.lock (of class _thread.lock) cannot be sent to new processes (TypeError: cannot"
    )
    assert "wanted parts that cloudpickle can pickle. Leave it out in __getstate__" in words
