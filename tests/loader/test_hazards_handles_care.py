"""Looking for handles takes nothing for one that is none, and runs no code of the dataset."""

import io
import sqlite3
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_fastdata.loader.hazards.handles import find_handles


class Holder:
    """Holds whatever it is given."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


def found_in(value: Any) -> list[tuple[str, str]]:
    return [(handle.path, handle.kind) for handle in find_handles(value, "dataset")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "data"
    file.write_bytes(bytes(100))
    return file


def test_a_users_subclass_of_a_file_is_found(data: Path) -> None:
    class Own(io.FileIO):
        def fileno(self) -> int:
            raise AssertionError("the user's method was called")

    with Own(str(data), "a") as file:
        assert found_in([file]) == [("dataset[0]", "an open file")]


def test_what_is_harmless_is_not_found(data: Path) -> None:
    closed = open(data)  # noqa: SIM115  # closed in the next line, which is the point
    closed.close()
    database = sqlite3.connect(":memory:")
    database.close()
    dataset = Holder(
        memory=io.BytesIO(b"abc"),
        text=io.StringIO("abc"),
        zip=zipfile.ZipFile(io.BytesIO(), "w"),
        stdout=sys.stdout,
        stderr=sys.stderr,
        real=sys.__stdout__,
        mapped=np.memmap(data, np.uint8, "r"),
        tensor=torch.zeros(3),
        closed=closed,
        database=database,
        path=data,
    )

    assert found_in(dataset) == []


class Touchy:
    """Breaks when any of its code is run."""

    def __init__(self, file: Any) -> None:
        object.__setattr__(self, "file", file)

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError("the user's code was run")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("the user's code was run")

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        raise AssertionError("the user's code was run")

    def __iter__(self) -> Any:
        raise AssertionError("the user's code was run")

    def __bool__(self) -> bool:
        raise AssertionError("the user's code was run")


def test_no_code_of_the_dataset_is_run(data: Path) -> None:
    with open(data, "a") as file:
        found = find_handles(Touchy(Touchy([file])), "dataset")

    assert [each.path for each in found] == ["dataset.file.file[0]"]


class TouchyList(list[Any]):
    def __iter__(self) -> Any:
        raise AssertionError("the user's code was run")

    def __len__(self) -> int:
        raise AssertionError("the user's code was run")

    def __getitem__(self, place: Any) -> Any:
        raise AssertionError("the user's code was run")


def test_no_code_of_a_list_is_run(data: Path) -> None:
    with open(data, "a") as file:
        assert found_in(TouchyList([file])) == [("dataset[0]", "an open file")]


def test_a_value_that_holds_itself_comes_to_an_end() -> None:
    dataset = Holder(items=[])
    dataset.items += [dataset, dataset.items]

    assert found_in(dataset) == []


def test_of_a_million_items_only_some_are_looked_at(data: Path) -> None:
    with open(data, "a") as file:
        items: list[Any] = ["path"] * 1_000_000
        items[1] = file

        assert found_in(Holder(items=items)) == []
