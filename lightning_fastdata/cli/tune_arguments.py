"""What can be typed after ``lightning-fastdata tune``. Imports neither torch nor Lightning."""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fastdata.cli.words import add_command, add_json, whole_number
from lightning_fastdata.errors import SettingsError

_PICTURES = (".png", ".svg", ".pdf")
_SUFFIXES = f"{', '.join(_PICTURES[:-1])} or {_PICTURES[-1]}"
_BUDGET_S, _MAX_STALL_PERCENT = 10.0, 2.0

_TUNE = """\
Find the fewest workers that keep training fed: read some samples, predict what each
number of workers comes to, and try the best with the real dataset. The choice is
remembered: the next run on this machine with as many ranks (--local-world-size,
else 1 or the launcher's) starts with it, where num_workers is left to
FastDataModule or FastDataLoader.

TARGET is a folder of pictures (one folder a class, or train/ and val/ with such
folders inside), or MODULE:NAME or FILE.py:NAME, where NAME is a dataset, a loader,
a data module, or a function or class without arguments that gives one.

Fewest for what? Say how long a training step takes without waiting for data
(--step-time), or name the model and have its step measured (--model). Without
either, the workers are found that give the most batches a second.
"""
_EXAMPLES = """\
exit status:
  0  done
  2  it could not be done, for example because TARGET does not exist

examples:
  lightning-fastdata tune ~/pictures --batch-size 64 --step-time 50
  lightning-fastdata tune train.py:build_data --model train.py:Net --plot tune.png
  lightning-fastdata tune train.py:build_data --step-time 80 --exhaustive --json -
  lightning-fastdata tune train.py:build_data --step-time 80 --local-world-size 8
  lightning-fastdata tune --forget
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneOptions:
    """What was asked of ``tune``."""

    target: str
    """What to tune."""
    batch_size: int | None
    """Samples a batch; ``None`` is the target's own."""
    step_time_s: float | None
    """Seconds of a training step without its stall; ``None`` is not given."""
    model: str | None
    """The model whose step is measured; ``None`` is none."""
    max_stall_fraction: float
    """Share of a step (0 to 1) that training may wait."""
    budget_s: float
    """Seconds that it may take; no limit where all are tried."""
    is_exhaustive: bool
    """Whether every number of workers is tried."""
    local_world_size: int | None
    """Ranks that will train on this machine; ``None`` is as the environment says."""
    json: str | None
    """File for the JSON; ``-`` is standard output, ``None`` is none."""
    plot: Path | None
    """File for the picture; ``None`` is none."""
    is_kept: bool
    """Whether the next run starts with the choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgetOptions:
    """What is to be forgotten."""

    target: str | None
    """Whose choices; ``None`` is all."""
    batch_size: int | None
    """For which size of batch; ``None`` is any."""


def add_tune(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its arguments."""
    tune = add_command(
        commands,
        "tune",
        help="find the fewest workers that keep training fed, by trying",
        description=_TUNE,
        epilog=_EXAMPLES,
    )
    tune.add_argument("target", nargs="?", type=_target, metavar="TARGET", help="what to tune")
    tune.add_argument(
        "--batch-size",
        type=lambda text: whole_number(text, lowest=1),
        metavar="N",
        help="samples a batch (default: the loader's own, else 32)",
    )
    tune.add_argument(
        "--step-time",
        type=lambda text: _positive(text, "milliseconds"),
        metavar="MS",
        help="milliseconds that a training step takes without waiting for data",
    )
    tune.add_argument(
        "--model",
        type=_place,
        metavar="MODULE:NAME",
        help="the model, or what builds it: its step is measured in a short fit of a copy",
    )
    _add_limits(tune)
    add_json(tune)
    tune.add_argument(
        "--plot",
        type=_picture,
        metavar="FILE",
        help=f"draw what was weighed, into a file that ends in {_SUFFIXES}",
    )
    tune.add_argument("--no-save", action="store_true", help="do not remember the choice")
    tune.add_argument(
        "--forget",
        action="store_true",
        help="forget what is remembered of TARGET (of one --batch-size, or any), or without it all",
    )


def _add_limits(tune: argparse.ArgumentParser) -> None:
    tune.add_argument(
        "--max-stall",
        type=_percentage,
        metavar="PERCENT",
        help=f"how much of a step training may wait (default: {_MAX_STALL_PERCENT:g})",
    )
    tune.add_argument(
        "--budget",
        type=lambda text: _positive(text, "seconds"),
        metavar="SECONDS",
        help=f"how long it may take (default: {_BUDGET_S:g})",
    )
    tune.add_argument(
        "--exhaustive",
        action="store_true",
        help="try every number of workers up to twice the cores, however long it takes",
    )
    tune.add_argument(
        "--local-world-size",
        type=lambda text: whole_number(text, lowest=1),
        metavar="N",
        help="ranks that will train on this machine: one of them is tried, on its share of cores "
        "(default: 1, or the launcher's)",
    )


def tune_options(arguments: argparse.Namespace) -> TuneOptions | ForgetOptions:
    """Take the options of ``tune`` out of what was parsed.

    Raises:
        SettingsError: Arguments are missing, or do not go together.
    """
    if arguments.forget:
        return _forget_options(arguments)
    if arguments.target is None:
        raise SettingsError(
            "TARGET is missing, wanted a folder of pictures, MODULE:NAME or FILE.py:NAME. "
            "See lightning-fastdata tune --help."
        )
    for one, other in (("step_time", "model"), ("exhaustive", "budget")):
        if getattr(arguments, one) and getattr(arguments, other):
            raise SettingsError(
                f"found {_flag(one)} and {_flag(other)}, wanted one of them. Leave one out."
            )
    percentage = _MAX_STALL_PERCENT if arguments.max_stall is None else arguments.max_stall
    return TuneOptions(
        target=arguments.target,
        batch_size=arguments.batch_size,
        step_time_s=None if arguments.step_time is None else arguments.step_time / 1000,
        model=arguments.model,
        max_stall_fraction=percentage / 100,
        budget_s=_BUDGET_S if arguments.budget is None else arguments.budget,
        is_exhaustive=arguments.exhaustive,
        local_world_size=arguments.local_world_size,
        json=arguments.json,
        plot=arguments.plot,
        is_kept=not arguments.no_save,
    )


def _forget_options(arguments: argparse.Namespace) -> ForgetOptions:
    limits = ("step_time", "model", "max_stall", "budget", "exhaustive", "local_world_size")
    without_target = ("batch_size",) if arguments.target is None else ()
    for name in (*limits, "json", "plot", "no_save", *without_target):
        value = getattr(arguments, name)
        if value is not None and value is not False:  # 0.0 was said, and equals False
            raise SettingsError(
                f"found --forget and {_flag(name)}, wanted --forget with nothing but a TARGET and "
                "its --batch-size. Leave one out."
            )
    return ForgetOptions(target=arguments.target, batch_size=arguments.batch_size)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _target(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("found an empty name, wanted a folder or MODULE:NAME")
    return text


def _place(text: str) -> str:
    place, colon, name = text.rpartition(":")
    if not (place and colon and name):
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted MODULE:NAME or FILE.py:NAME")
    return text


def _picture(text: str) -> Path:
    path = Path(text).expanduser()
    if path.suffix.lower() not in _PICTURES:
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted a file that ends in {_SUFFIXES}")
    return path


def _positive(text: str, unit: str) -> float:
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted a number of {unit} above 0")
    return number


def _percentage(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, wanted a percentage from 0 to 100. Leave it out for the default"
        )
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
