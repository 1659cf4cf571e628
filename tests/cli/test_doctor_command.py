"""``lightning-fastdata doctor``: its exit status, and where its words go."""

import json
from pathlib import Path

import pytest

from lightning_fastdata.cli import main

LOOK = ["doctor", "--num-workers", "0"]


@pytest.mark.parametrize(
    ("arguments", "first_words"),
    [
        (["/no/such/folder"], "found no folder '/no/such/folder', wanted"),
        (["no_such_module:name"], "importing no_such_module failed with ModuleNotFoundError"),
        (["string:nothing"], "string has no 'nothing', wanted"),
        ([""], "argument DATA: found an empty name, wanted a folder"),
        (["--max-samples", "0"], "argument --max-samples: found '0', wanted a whole number from 1"),
        (["--timeout", "0"], "argument --timeout: found '0', wanted a number of seconds above 0"),
        (["--timeout", "soon"], "argument --timeout: found 'soon', wanted a number of seconds"),
        (["--num-workers", "-1"], "argument --num-workers: found '-1', wanted a whole number"),
        (["--json", ""], "argument --json: found an empty name, wanted a file"),
        (["--json", "/"], "--json / cannot be written (it is a folder), wanted a file."),
        (["--strikt"], "unrecognized arguments: --strikt"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_status_2(
    arguments: list[str], first_words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["doctor", *arguments])

    printed = capsys.readouterr()
    assert status == 2
    assert printed.err.startswith(f"lightning-fastdata: {first_words}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_sound_pictures_are_status_0(
    folder_of_pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*LOOK, str(folder_of_pictures)]) == 0
    assert "every one can be made (20 looked at)" in capsys.readouterr().out


def test_a_broken_picture_is_status_1_and_named(
    folder_of_pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = folder_of_pictures / "red" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:400])

    assert main([*LOOK, str(folder_of_pictures)]) == 1
    assert str(broken) in capsys.readouterr().out


def test_warnings_are_status_1_only_where_they_count(tmp_path: Path) -> None:
    program = tmp_path / "with_own_generator.py"
    program.write_text(
        "import random\n"
        "class Data(list):\n"
        "    def __getitem__(self, index):\n"
        "        return random.SystemRandom().random()\n"
        "data = Data([1, 2, 3])\n"
    )
    other = tmp_path / "with_own_generator_too.py"
    other.write_text(program.read_text())

    assert main([*LOOK, f"{program}:data"]) == 0
    assert main([*LOOK, f"{other}:data", "--strict"]) == 1


def test_json_on_standard_output_stands_alone(
    folder_of_pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*LOOK, str(folder_of_pictures), "--max-samples", "7", "--json", "-"]) == 0

    values = json.loads(capsys.readouterr().out)
    assert values["facts"]["datasets"][0]["samples_looked_at"] == 7


def test_json_in_a_file_comes_beside_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results" / "doctor.json"

    assert main([*LOOK, "--json", str(path)]) in (0, 1)

    assert json.loads(path.read_text())["bad_samples"] == []
    assert "This machine" in capsys.readouterr().out
