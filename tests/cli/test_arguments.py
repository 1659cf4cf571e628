"""The command line refuses what cannot work, in one sentence and before it starts anything."""

import subprocess
import sys
from pathlib import Path

import pytest

from lightning_fastdata import __version__
from lightning_fastdata.cli import main
from lightning_fastdata.cli.demo import choose_accelerator, steps_in_time
from lightning_fastdata.errors import SettingsError

HEAVY = "{'torch', 'numpy', 'lightning', 'PIL'}"


@pytest.mark.parametrize(
    ("arguments", "first_words"),
    [
        (["--max-steps", "0"], "argument --max-steps: found '0', wanted a whole number from 1."),
        (["--max-steps", "ten"], "argument --max-steps: found 'ten', wanted a whole number"),
        (["--batch-size", "0"], "argument --batch-size: found '0', wanted a whole number from 1."),
        (["--size", "-3"], "argument --size: found '-3', wanted a whole number from 1 to 16384."),
        (["--seed", "-1"], "argument --seed: found '-1', wanted a whole number from 0."),
        (["--accelerator", "abacus"], "argument --accelerator: found 'abacus', wanted auto, cpu"),
        (["--data", ""], "argument --data: found an empty name, wanted a folder."),
        (["--max", "3"], "unrecognized arguments: --max 3."),
        (["--data", "/there/is/no/such/folder"], "/there/is/no/such/folder does not exist, wanted"),
    ],
)
def test_what_cannot_work_is_one_sentence_and_status_2(
    arguments: list[str],
    first_words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["demo", "--cache-dir", str(tmp_path / "cache"), *arguments])

    printed = capsys.readouterr()
    assert status == 2
    assert printed.err.startswith(f"lightning-fastdata: {first_words}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_a_results_folder_that_cannot_be_written_is_refused_before_training(
    folder_of_pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    data = ["--data", str(folder_of_pictures), "--cache-dir", str(tmp_path / "cache")]

    status = main(["demo", "--accelerator", "cpu", *data, "--out", str(in_the_way)])

    assert status == 2
    assert capsys.readouterr().err.startswith(f"lightning-fastdata: --out {in_the_way} cannot be")


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^--accelerator gpu was asked for, but torch sees no"):
        choose_accelerator("gpu", has_gpu=False)


@pytest.mark.parametrize(
    ("wanted", "has_gpu", "chosen"),
    [("auto", False, "cpu"), ("auto", True, "gpu"), ("cpu", True, "cpu"), ("gpu", True, "gpu")],
)
def test_auto_takes_a_gpu_where_there_is_one(wanted: str, has_gpu: bool, chosen: str) -> None:
    assert choose_accelerator(wanted, has_gpu=has_gpu) == chosen


@pytest.mark.parametrize(
    ("step_ms", "most", "steps"),
    [(None, 100, 100), (10, 100, 100), (300, 100, 100), (500, 100, 60), (9000, 100, 30)],
)
def test_a_slow_machine_gets_fewer_steps_but_enough(
    step_ms: int | None, most: int, steps: int
) -> None:
    step_ns = None if step_ms is None else step_ms * 10**6

    assert steps_in_time(step_ns, most=most) == steps


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--version"], f"lightning-fastdata {__version__}"),
        (["--help"], "see a training run that waits for its data"),
        (["demo", "--help"], "Nothing is downloaded."),
    ],
)
def test_help_and_version_are_shown(
    arguments: list[str], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(arguments)

    assert shown in capsys.readouterr().out


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out


def test_help_needs_no_heavy_library() -> None:
    printed = subprocess.check_output(
        [
            sys.executable,
            "-c",
            f"import sys; from lightning_fastdata.cli import main\n"
            f"main([]); print({HEAVY} & set(sys.modules))",
        ],
        text=True,
    )

    assert printed.splitlines()[-1] == "set()"
