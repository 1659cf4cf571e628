"""What can be typed after ``lightning-fastdata doctor``. Imports neither torch nor Lightning."""

import argparse
import math
from dataclasses import dataclass
from typing import Any

from lightning_fastdata.cli.words import add_command, add_json, whole_number

_DOCTOR = """\
Look at this machine, and at a dataset if one is named: make every sample once in
worker processes, and say what would break a run, change its data or slow it down.
Nothing is changed.

DATA is a folder of pictures (one folder a class, or train/ and val/ with such
folders inside), or MODULE:NAME or FILE.py:NAME, where NAME is a dataset, a loader,
a data module, or a function or class without arguments that gives one.
"""
_EXAMPLES = """\
exit status:
  0  healthy; notes and warnings may be there
  1  an error was found, or with --strict a warning
  2  it could not be done, for example because DATA does not exist

examples:
  lightning-fastdata doctor
  lightning-fastdata doctor ~/pictures --json doctor.json
  lightning-fastdata doctor train.py:build_dataset --max-samples 10000 --strict
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorOptions:
    """What was asked of the doctor."""

    data: str | None
    """What to look at beside the machine; ``None`` is nothing."""
    json: str | None
    """File for the JSON; ``-`` is standard output, ``None`` is none."""
    max_samples: int | None
    """Samples to look at in each dataset; ``None`` is all."""
    num_workers: int | None
    """Worker processes; ``None`` is one a core."""
    batch_size: int
    """Samples a batch, where a loader does not say."""
    timeout_s: float | None
    """Seconds that a sample may take before it is said that it hangs; ``None`` is a minute or
    more."""
    strict: bool
    """Whether warnings count as errors."""


def add_doctor(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its arguments."""
    doctor = add_command(
        commands,
        "doctor",
        help="look for what would break or slow down a run: in this machine, in a dataset",
        description=_DOCTOR,
        epilog=_EXAMPLES,
    )
    doctor.add_argument(
        "data", nargs="?", type=_data, metavar="DATA", help="what to look at (default: the machine)"
    )
    doctor.add_argument(
        "--max-samples",
        type=lambda text: whole_number(text, lowest=1),
        metavar="N",
        help="look at N samples from all over the dataset (default: all)",
    )
    doctor.add_argument(
        "--num-workers",
        type=lambda text: whole_number(text, lowest=0),
        metavar="N",
        help="worker processes that make samples (default: one a core; 0: none)",
    )
    doctor.add_argument(
        "--batch-size",
        type=lambda text: whole_number(text, lowest=1),
        default=32,
        metavar="N",
        help="samples a batch, to judge memory by (default: 32)",
    )
    doctor.add_argument(
        "--timeout",
        type=_seconds,
        metavar="S",
        help="seconds that a sample may take before it is said that it hangs (default: far more "
        "than the slowest one seen, and 60 or more)",
    )
    add_json(doctor)
    doctor.add_argument("--strict", action="store_true", help="let warnings count as errors")


def doctor_options(arguments: argparse.Namespace) -> DoctorOptions:
    """Take the doctor's options out of what was parsed."""
    return DoctorOptions(
        data=arguments.data,
        json=arguments.json,
        max_samples=arguments.max_samples,
        num_workers=arguments.num_workers,
        batch_size=arguments.batch_size,
        timeout_s=arguments.timeout,
        strict=arguments.strict,
    )


def _data(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("found an empty name, wanted a folder or MODULE:NAME")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, wanted a number of seconds above 0. Leave it out for the default"
        )
    return seconds
