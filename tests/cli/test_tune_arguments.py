"""What ``tune`` refuses, in one sentence and before torch is imported."""

import subprocess
import sys

import pytest

from lightning_fastdata.cli import main
from lightning_fastdata.cli.arguments import build_parser
from lightning_fastdata.cli.tune_arguments import ForgetOptions, TuneOptions, tune_options

TARGET = "train.py:data"


def asked(*arguments: str) -> TuneOptions | ForgetOptions:
    return tune_options(build_parser().parse_args(["tune", *arguments]))


@pytest.mark.parametrize(
    ("arguments", "first_words"),
    [
        ([], "TARGET is missing, wanted a folder of pictures, MODULE:NAME or FILE.py:NAME."),
        ([""], "argument TARGET: found an empty name, wanted a folder or MODULE:NAME"),
        (["--batch-size", "0"], "argument --batch-size: found '0', wanted a whole number from 1"),
        (["--step-time", "0"], "argument --step-time: found '0', wanted a number of milliseconds"),
        (["--step-time", "inf"], "argument --step-time: found 'inf', wanted a number"),
        (["--max-stall", "101"], "argument --max-stall: found '101', wanted a percentage from 0"),
        (["--max-stall", "-1"], "argument --max-stall: found '-1', wanted a percentage from 0"),
        (["--max-stall", "nan"], "argument --max-stall: found 'nan', wanted a percentage from 0"),
        (["--budget", "soon"], "argument --budget: found 'soon', wanted a number of seconds above"),
        (["--model", "train.py"], "argument --model: found 'train.py', wanted MODULE:NAME or"),
        (["--plot", "x.gif"], "argument --plot: found 'x.gif', wanted a file that ends in .png,"),
        (["--json", ""], "argument --json: found an empty name, wanted a file"),
        (["--exhaust"], "unrecognized arguments: --exhaust"),
        (
            ["--step-time", "9", "--model", "train.py:Net"],
            "found --step-time and --model, wanted one of them. Leave one out.",
        ),
        (
            ["--exhaustive", "--budget", "60"],
            "found --exhaustive and --budget, wanted one of them. Leave one out.",
        ),
        (
            ["--forget", "--json", "-"],
            "found --forget and --json, wanted --forget with nothing but",
        ),
        (["--forget", "--no-save"], "found --forget and --no-save, wanted --forget with nothing"),
        (["--forget", "--max-stall", "0"], "found --forget and --max-stall, wanted --forget with"),
        (["--forget", "--batch-size", "8"], "found --forget and --batch-size, wanted --forget"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence_and_status_2(
    arguments: list[str], first_words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    has_target = arguments[:1] not in ([], [""]) and arguments != ["--forget", "--batch-size", "8"]

    status = main(["tune", *([TARGET] if has_target else []), *arguments])

    printed = capsys.readouterr()
    assert status == 2
    assert printed.err.startswith(f"lightning-fastdata: {first_words}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_milliseconds_and_percent_become_seconds_and_shares() -> None:
    options = asked(TARGET, "--step-time", "50", "--max-stall", "5", "--budget", "2.5")

    assert isinstance(options, TuneOptions)
    assert (options.step_time_s, options.max_stall_fraction, options.budget_s) == (0.05, 0.05, 2.5)


def test_what_is_not_said_is_the_usual() -> None:
    assert asked(TARGET) == TuneOptions(
        target=TARGET,
        batch_size=None,
        step_time_s=None,
        model=None,
        max_stall_fraction=0.02,
        budget_s=10.0,
        is_exhaustive=False,
        local_world_size=None,
        json=None,
        plot=None,
        is_kept=True,
    )


def test_no_stall_at_all_may_be_asked_for() -> None:
    options = asked(TARGET, "--max-stall", "0")

    assert isinstance(options, TuneOptions)
    assert options.max_stall_fraction == 0


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], ForgetOptions(target=None, batch_size=None)),
        ([TARGET], ForgetOptions(target=TARGET, batch_size=None)),
        ([TARGET, "--batch-size", "8"], ForgetOptions(target=TARGET, batch_size=8)),
    ],
)
def test_forgetting_takes_a_target_and_its_batch_size(
    arguments: list[str], options: ForgetOptions
) -> None:
    assert asked("--forget", *arguments) == options


def test_a_refusal_needs_no_heavy_library() -> None:
    statement = (
        "import sys; from lightning_fastdata.cli import main; main(['tune', '--forget', '--json',"
        " '-']); print({'torch', 'numpy', 'lightning', 'matplotlib'} & set(sys.modules))"
    )

    printed = subprocess.check_output(
        [sys.executable, "-c", statement], text=True, stderr=subprocess.DEVNULL
    )

    assert printed.splitlines()[-1] == "set()"
