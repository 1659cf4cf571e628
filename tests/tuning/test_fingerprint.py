"""A dataset's fingerprint is the same in every process, and another one when the dataset is."""

import functools
import pickle
import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from lightning_fastdata import ImageFolder
from lightning_fastdata.dataset.views import split_dataset
from lightning_fastdata.machine import read_machine
from lightning_fastdata.tuning.fingerprint import fingerprint, machine_kind, plan_key

MACHINE = replace(
    read_machine({}, 1),
    cpu_model="A CPU",
    cores=4.5,
    memory_total_bytes=126 * 2**30,
    accelerators=("NVIDIA H100", "NVIDIA H100"),
    local_world_size=2,
)


class Crop:
    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, sample: Any) -> Any:
        return sample


class Samples(Dataset[Any]):
    def __init__(self, length: int = 10, transform: Any = None, **attributes: Any) -> None:
        self.length, self.transform = length, transform
        vars(self).update(attributes)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return index


class Slotted:
    __slots__ = ("never_set", "size")

    def __init__(self, size: int) -> None:
        self.size = size


class Refuses:
    @property
    def __dict__(self) -> Any:  # type: ignore[override]  # it is meant to be odd
        raise RuntimeError("this class refuses")


class Counted(Dataset[Any]):
    """Counts how often its own code is run."""

    calls = 0

    def __len__(self) -> int:
        return 3

    def __getattr__(self, name: str) -> Any:
        type(self).calls += 1
        raise AttributeError(name)

    def __getitem__(self, index: int) -> Any:
        type(self).calls += 1
        return index


class Lazy(Samples):
    @functools.cached_property
    def table(self) -> int:
        return 1


class Records(list[Any]):
    def __getitem__(self, index: Any) -> Any:
        raise RuntimeError("data was read")

    def __iter__(self) -> Any:
        raise RuntimeError("data was read")

    def __len__(self) -> int:
        raise RuntimeError("data was read")


def add(amount: int) -> Callable[[int], int]:
    return lambda value: value + amount


def class_with(body: str, constant: str = "SIZE = 3", setting: str = "pass") -> Any:
    """A dataset of a class that is written as a user would edit it."""
    source = f"""
        {constant}
        def helper(x):
            return x * 2
        class Edited:
            {setting}
            def __len__(self):
                return 4
            def __getitem__(self, index):
                {body}
    """
    namespace: dict[str, Any] = {"__name__": "edited"}
    exec(textwrap.dedent(source), namespace)
    return namespace["Edited"]()


DIFFERENT: dict[str, tuple[Any, Any]] = {
    "more samples": (Samples(10), Samples(11)),
    "another size": (Samples(size=224), Samples(size=225)),
    "another kind of number": (Samples(size=1), Samples(size=True)),
    "another folder": (Samples(root=Path("/a")), Samples(root=Path("/b"))),
    "another text": (Samples(split="train"), Samples(split="val")),
    "the middle of a short list": (Samples(items=[1, 2, 3]), Samples(items=[1, 9, 3])),
    "the length of a long list": (Samples(i=list(range(99))), Samples(i=[*range(98), 98, 98])),
    "the end of a long list": (Samples(i=list(range(99))), Samples(i=[*range(98), 0])),
    "the value of a dict": (Samples(d={"a": 1}), Samples(d={"a": 2})),
    "another set": (Samples(s=set("abcdefgh")), Samples(s=set("abcdefgi"))),
    "another transform": (Samples(transform=Crop(1)), Samples(transform=Crop(2))),
    "one transform more": (Samples(transform=[Crop(1)]), Samples(transform=[Crop(1), Crop(1)])),
    "another function": (Samples(transform=len), Samples(transform=repr)),
    "another of NumPy's": (Samples(transform=np.sin), Samples(transform=np.cos)),
    "another lambda": (Samples(transform=lambda x: x + 1), Samples(transform=lambda x: x + 2)),
    "another closure": (Samples(transform=add(1)), Samples(transform=add(2))),
    "another method": (Samples(transform=Crop(1).__call__), Samples(transform=Crop(2).__call__)),
    "a partial's argument": (
        Samples(transform=functools.partial(max, 1)),
        Samples(transform=functools.partial(max, 2)),
    ),
    "a module's setting": (
        Samples(transform=torch.nn.Dropout(0.1)),
        Samples(transform=torch.nn.Dropout(0.2)),
    ),
    "a slot": (Samples(transform=Slotted(1)), Samples(transform=Slotted(2))),
    "an array's shape": (Samples(a=np.zeros((2, 3))), Samples(a=np.zeros((3, 2)))),
    "a tensor's type": (
        Samples(a=torch.zeros(2)),
        Samples(a=torch.zeros(2, dtype=torch.uint8)),
    ),
    "the whole of a subset": (
        Subset(Samples(size=1), range(5)),
        Subset(Samples(size=2), range(5)),
    ),
    "the part of a subset": (Subset(Samples(), range(5)), Subset(Samples(), range(1, 6))),
    "a part of a concatenation": (
        ConcatDataset([Samples(size=1), Samples(size=2)]),
        ConcatDataset([Samples(size=1), Samples(size=3)]),
    ),
    "the side of a split": split_dataset(Samples(size=1), 0.5, 0),
    "edited code": (class_with("return index"), class_with("return index + 1")),
    "an edited constant": (class_with("return 'a'"), class_with("return 'b'")),
    "an edited inner function": (
        class_with("return [x + 1 for x in [index]]"),
        class_with("return [x + 2 for x in [index]]"),
    ),
    "a constant of the file": (
        class_with("return SIZE"),
        class_with("return SIZE", constant="SIZE = 4"),
    ),
    "a dict of the file": (
        class_with("return SIZE", constant="SIZE = {'edge': 3}"),
        class_with("return SIZE", constant="SIZE = {'edge': 4}"),
    ),
    "a tuple of the class": (
        class_with("return index", setting="mean = (0.5, 0.5)"),
        class_with("return index", setting="mean = (0.5, 0.4)"),
    ),
    "another set in the code": (
        class_with("return index in {'a', 'b'}"),
        class_with("return index in {'a', 'c'}"),
    ),
}

EQUAL: dict[str, tuple[Any, Any]] = {
    "the contents of an array": (Samples(a=np.zeros(3)), Samples(a=np.ones(3))),
    "the contents of a tensor": (TensorDataset(torch.zeros(3)), TensorDataset(torch.ones(3))),
    "another object": (Samples(transform=Crop(1)), Samples(transform=Crop(1))),
    "an address": (Samples(handle=object()), Samples(handle=object())),
    "the line where a class begins": (
        class_with("return index", setting="__firstlineno__ = 3"),
        class_with("return index", setting="__firstlineno__ = 5"),
    ),
    "drawn random numbers": (
        Samples(rng=np.random.default_rng(1)),
        Samples(rng=np.random.default_rng(2)),
    ),
    "Python's generator": (Samples(rng=random.Random(1)), Samples(rng=random.Random(1))),
}


@pytest.mark.parametrize("change", DIFFERENT)
def test_changes_with(change: str) -> None:
    one, other = DIFFERENT[change]

    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize("change", EQUAL)
def test_does_not_change_with(change: str) -> None:
    one, other = EQUAL[change]

    assert fingerprint(one) == fingerprint(other)


def test_does_not_change_with_what_a_lock_does() -> None:
    lock = threading.Lock()
    dataset = Samples(lock=lock)
    before = fingerprint(dataset)

    with lock:
        assert fingerprint(dataset) == before


def test_is_that_of_a_copy() -> None:
    dataset = Samples(transform=[Crop(1), add], table={"a": (1, 2)}, path=Path("x"))

    assert fingerprint(pickle.loads(pickle.dumps(dataset))) == fingerprint(dataset)


IN_ANOTHER_PROCESS = """
import sys
sys.path[:0] = {path!r}
import test_fingerprint as tests
print([tests.fingerprint(each) for pair in tests.DIFFERENT.values() for each in pair])
"""


def test_is_the_same_in_another_process() -> None:
    """Where ``hash()`` of a text, and so the order of a set, is another one."""
    script = IN_ANOTHER_PROCESS.format(path=[str(Path(__file__).parent)])
    here = [fingerprint(each) for pair in DIFFERENT.values() for each in pair]

    printed = subprocess.check_output([sys.executable, "-c", script], text=True)

    assert printed == f"{here}\n"


SCRIPT = """
import logging, sys
from lightning_fastdata.tuning.fingerprint import fingerprint
def scale(x):
    return x * 2
class Samples:
    def __init__(self):
        self.transform, self.also = scale, lambda x: logging.getLogger(__name__)
    def __len__(self):
        return 3
def show():
    print(fingerprint(Samples()))
if __name__ == "__main__":
    show()
"""


@pytest.mark.parametrize(
    ("run", "module"),
    [(["script.py"], "script"), (["-m", "kit.script"], "kit.script")],
    ids=["file", "module"],
)
def test_is_the_same_whether_a_script_is_run_or_imported(
    run: list[str], module: str, tmp_path: Path
) -> None:
    """As ``lightning-fastdata tune script.py:Samples`` imports what then trains as a script."""
    for folder in (tmp_path, tmp_path / "kit"):
        folder.mkdir(exist_ok=True)
        (folder / "script.py").write_text(SCRIPT)

    run_as_main, imported = (
        subprocess.check_output([sys.executable, *arguments], cwd=tmp_path, text=True)
        for arguments in (run, ["-c", f"import {module} as script; script.show()"])
    )

    assert run_as_main == imported


def test_reads_no_data_and_runs_no_code_of_the_users() -> None:
    fingerprint(Counted())

    assert Counted.calls == 0
    assert fingerprint(Samples(records=Records([1, 2]))) != fingerprint(
        Samples(records=Records([1, 3]))
    )


def test_leaves_out_what_refuses_to_be_read() -> None:
    assert fingerprint(Samples(odd=Refuses(), size=1)) != fingerprint(
        Samples(odd=Refuses(), size=2)
    )


def test_does_not_change_once_a_cached_property_is_there() -> None:
    dataset = Lazy()
    before = fingerprint(dataset)

    assert dataset.table == 1
    assert fingerprint(dataset) == before


def test_ends_with_a_dataset_that_holds_itself() -> None:
    one, other = Samples(size=1), Samples(size=2)
    for dataset in (one, other):
        dataset.me = [dataset]  # type: ignore[attr-defined]  # only here

    assert fingerprint(one) != fingerprint(other)


class Tree:
    def __init__(self, depth: int) -> None:
        self.parts = [Tree(depth - 1) for _ in range(10)] if depth else []


def test_looks_at_a_bounded_number_of_things(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_fastdata.tuning import fingerprint as module

    looks = []
    of = module._Description.of

    def counted(self: Any, value: Any, depth: int) -> str:
        looks.append(depth)
        return of(self, value, depth)

    monkeypatch.setattr(module._Description, "of", counted)
    fingerprint(Samples(records=list(range(10**6)), labels={n: n for n in range(10**5)}))
    of_lists = len(looks)
    looks.clear()
    fingerprint(Samples(tree=Tree(4)))

    assert of_lists < 100
    # Beyond the budget only the entries of what is open are named, without going into them.
    assert len(looks) < module._MOST_PIECES * 1.2


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(value=nested)
def test_takes_any_value_and_is_that_of_its_copy(value: Any) -> None:
    copied = pickle.loads(pickle.dumps(value))

    assert fingerprint(Samples(value=value)) == fingerprint(Samples(value=copied))


@pytest.mark.parametrize(
    "change",
    [{"root": "other"}, {"size": 32}, {"train": True}, {"transform": Crop(1)}, {"hflip": 0.0}],
    ids=str,
)
def test_tells_picture_folders_apart(change: dict[str, Any], tmp_path: Path) -> None:
    for root in ("one", "other"):
        (tmp_path / root / "a").mkdir(parents=True)
        (tmp_path / root / "a" / "1.jpg").touch()
    root = tmp_path / str(change.get("root", "one"))
    options = {name: value for name, value in change.items() if name != "root"}

    assert fingerprint(ImageFolder(root, **options)) != fingerprint(ImageFolder(tmp_path / "one"))


def test_does_not_mind_where_a_picture_folder_s_index_is_kept(tmp_path: Path) -> None:
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "1.jpg").touch()
    folders = [ImageFolder(tmp_path / "root", cache_dir=tmp_path / name) for name in ("x", "y")]

    assert fingerprint(folders[0]) == fingerprint(folders[1])


def test_a_machine_is_named_by_its_kind() -> None:
    assert machine_kind(MACHINE) == ("A CPU, 128 GiB, 2 x NVIDIA H100, cores a rank: 4, ranks: 2")


@pytest.mark.parametrize(
    "change",
    [
        {"cpu_model": "B CPU"},
        {"cores": 3.9},
        {"memory_total_bytes": 60 * 2**30},
        {"accelerators": None},
        {"local_world_size": 1},
    ],
    ids=str,
)
def test_another_machine_is_another_key(change: dict[str, Any]) -> None:
    other = replace(MACHINE, **change)

    assert plan_key(Samples(), 8, other).name != plan_key(Samples(), 8, MACHINE).name


def test_nodes_that_report_a_little_more_or_less_are_one_kind() -> None:
    other = replace(MACHINE, memory_total_bytes=125 * 2**30, cores=4.0, shm_free_bytes=1)

    assert plan_key(Samples(), 8, other) == plan_key(Samples(), 8, MACHINE)


def test_batch_size_and_what_becomes_of_a_batch_are_part_of_the_key() -> None:
    keys = [
        plan_key(Samples(), 8, MACHINE),
        plan_key(Samples(), 9, MACHINE),
        plan_key(Samples(), 8, MACHINE, collate_fn=list),
        plan_key(Samples(), 8, MACHINE, batch_transform=list),
        plan_key(Samples(), 8, MACHINE, collate_fn=add(1)),
        plan_key(Samples(), 8, MACHINE, collate_fn=add(2)),
    ]

    assert len({key.name for key in keys}) == len(keys)
