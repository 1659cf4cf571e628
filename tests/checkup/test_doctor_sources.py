"""What the doctor can be given, and what it says where that cannot work."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
from check_sets import Plain, Raising, check_of, looked_at
from PIL import Image
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_fastdata.checkup.locate import locate
from lightning_fastdata.checkup.subjects import subjects_of
from lightning_fastdata.datamodule import FastDataModule
from lightning_fastdata.errors import DatasetError, SettingsError


class Module(lightning.LightningDataModule):
    @override
    def train_dataloader(self) -> Any:
        return [DataLoader(Plain(), batch_size=7), DataLoader(Raising(), batch_size=3)]


@pytest.fixture
def user_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "file_of_a_user.py"
    path.write_text("class Box:\n    numbers = [1, 2, 3]\n\ndef fails():\n    return 1 / 0\n")
    yield path
    sys.modules.pop(path.stem, None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def sources(source: Any) -> list[tuple[str, str, int]]:
    return [
        (subject.name, type(subject.dataset).__name__, subject.batch_size)
        for subject in subjects_of(source, 32)
    ]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (Plain(), [("Plain", "Plain", 32)]),
        (Plain, [("Plain", "Plain", 32)]),
        (lambda: DataLoader(Plain(), batch_size=5), [("Plain", "Plain", 5)]),
        ({"a": Plain(), "b": [Plain, Plain]}, [(n, "Plain", 32) for n in ("a", "b[0]", "b[1]")]),
        ([1, 2, 3], [("list", "list", 32)]),
        (Module, [("train[0]", "Plain", 7), ("train[1]", "Raising", 3)]),
        (lambda: FastDataModule(Plain(), batch_size=9), [("train", "Plain", 9)]),
        (
            lambda: FastDataModule.wrap(Module()),
            [("train[0]", "Plain", 7), ("train[1]", "Raising", 3)],
        ),
        (
            lambda: lightning.utilities.CombinedLoader({"x": DataLoader(Plain(), batch_size=2)}),
            [("x", "Plain", 2)],
        ),
    ],
    ids=str,
)
def test_datasets_are_found_in_whatever_holds_them(source: Any, found: Any) -> None:
    assert sources(source) == found


def test_a_fast_data_module_reads_no_sample_to_be_looked_at() -> None:
    class Untouchable(Plain):
        def __getitem__(self, index: int) -> Any:
            raise AssertionError("read in this process")

    assert sources(FastDataModule(Untouchable())) == [("train", "Untouchable", 32)]


def test_a_name_in_a_file_is_found(user_file: Path) -> None:
    assert locate(f"{user_file}:Box.numbers") == [1, 2, 3]


def test_a_name_in_a_module_is_found() -> None:
    assert locate("string:ascii_letters").startswith("abc")


def test_a_folder_of_pictures_is_looked_at_whole(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / name / "sound.png")
    broken = tmp_path / "val" / "b" / "broken.jpg"
    broken.write_bytes(b"<html>not found</html>")

    report = looked_at(str(tmp_path))

    assert [(one.dataset, one.path) for one in report.bad_samples] == [("val", str(broken))]
    assert [facts["length"] for facts in report.facts["datasets"]] == [2, 3]


@pytest.mark.parametrize(
    ("text", "first_words"),
    [
        ("/no/such/folder", "found no folder '/no/such/folder', wanted a folder of pictures"),
        ("no_such_module:name", "importing no_such_module failed with ModuleNotFoundError: No mod"),
        ("/no/such/file.py:name", "found no file /no/such/file.py, wanted a Python file."),
        ("string:no_such_name", "string has no 'no_such_name', wanted a dataset, a loader, a data"),
        ("string:ascii_letters", "found the text 'abc"),
    ],
)
def test_what_is_not_there_is_one_sentence(text: str, first_words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        looked_at(text)

    assert str(caught.value).startswith(first_words)
    assert "\n" not in str(caught.value)


def test_an_error_of_the_users_code_says_where_it_is(user_file: Path) -> None:
    with pytest.raises(DatasetError, match=r"^building fails failed with ZeroDivisionError: divi"):
        looked_at(f"{user_file}:fails")
    with pytest.raises(DatasetError, match=r"\(file_of_a_user.py, line 5\), wanted it to work"):
        looked_at(f"{user_file}:fails")


def test_an_empty_dataset_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"^the dataset \(Plain\) has 0 samples, wanted 1"):
        looked_at(Plain(0))


@pytest.mark.parametrize(
    ("arguments", "first_words"),
    [
        ({"max_samples": 0}, "max_samples=0, wanted a whole number"),
        ({"timeout_s": 0}, "timeout_s=0, wanted a number of seconds above 0"),
        ({"num_workers": -1}, "num_workers=-1, wanted 0 or more"),
        ({"batch_size": 0}, "batch_size=0, wanted a whole number"),
    ],
)
def test_numbers_that_cannot_work_are_refused(arguments: dict[str, Any], first_words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        looked_at(Plain(), **arguments)

    assert str(caught.value).startswith(first_words)


def test_open_handles_and_what_cannot_be_pickled_are_named() -> None:
    dataset = Plain()
    dataset.database = sqlite3.connect(":memory:")  # type: ignore[attr-defined]  # a user's own

    report = looked_at(dataset)

    dataset.database.close()  # type: ignore[attr-defined]  # see above
    assert check_of(report, "open handles").found.startswith("dataset.database is an open SQLite")
    assert check_of(report, "pickling").found.startswith("dataset.database (sqlite3.Connection)")


def test_what_cannot_be_sent_to_fresh_workers_is_looked_at_in_this_process() -> None:
    program = (
        "import multiprocessing, sqlite3\n"
        "from lightning_fastdata import doctor\n"
        "class Data(list):\n"
        "    def __getitem__(self, index):\n"
        "        return self.rows.execute('select 1').fetchone()[0] // (index != 1)\n"
        "data = Data([1, 2, 3])\n"
        "data.rows = sqlite3.connect(':memory:')\n"
        "multiprocessing.set_start_method('spawn')\n"
        "report = doctor(data, num_workers=2)\n"
        "print([check.name for check in report.checks if check.level == 'error'])\n"
        "print([one.index for one in report.bad_samples])\n"
    )

    printed = subprocess.check_output([sys.executable, "-c", program], text=True)

    assert printed.splitlines() == ["['pickling', 'samples']", "[1]"]
