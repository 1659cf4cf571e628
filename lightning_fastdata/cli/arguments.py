"""What can be typed, and what it means. Imports neither torch nor Lightning."""

import argparse
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from typing_extensions import override

from lightning_fastdata.cli.doctor_arguments import add_doctor
from lightning_fastdata.cli.report_arguments import add_compare, add_report
from lightning_fastdata.cli.tune_arguments import add_tune
from lightning_fastdata.cli.words import add_command, whole_number
from lightning_fastdata.errors import SettingsError

ACCELERATORS = ("auto", "cpu", "gpu")
_MAX_PIXELS = 16_384  # ImageFolder's own limit

_DEMO = """\
Train a small network three times from the same weights, on the same pictures,
for as many steps, and show side by side where a training step goes:

  DataLoader()    torchvision's ImageFolder, DataLoader with default arguments
  num_workers=N   the same, with as many workers as Lightning advises
  FastDataModule  FastDataModule and ImageFolder of this package, all "auto"

Without --data, some thousand JPEG files are cut from the photographs inside the
scikit-image package and kept in the cache folder. Nothing is downloaded.
"""
_DEMO_EXAMPLES = """\
examples:
  lightning-fastdata demo
  lightning-fastdata demo --data ~/pictures --max-steps 300
  lightning-fastdata demo --accelerator gpu --batch-size 256 --out results
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoOptions:
    """What was asked of the demo; ``None`` leaves the choice to it."""

    data: Path | None
    """The user's own pictures; ``None`` is pictures made for the demo."""
    cache_dir: Path | None
    """Where made pictures and lists of files are kept; ``None`` is the user's cache folder."""
    out: Path | None
    """Folder for the JSON files; ``None`` is one in the cache folder."""
    accelerator: str
    """``auto``, ``cpu`` or ``gpu``."""
    max_steps: int | None
    """Training steps of each run; ``None`` suits the device."""
    batch_size: int | None
    """Samples a batch; ``None`` suits the device."""
    size: int | None
    """Height and width of a sample in pixels; ``None`` suits the device."""
    seed: int
    """Names the weights, the orders and the split."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as the rest of the package does, instead of printing the usage."""

    @override
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message.rstrip('.')}. See {self.prog} --help.")


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line.

    Returns:
        A parser whose errors are ``SettingsError``; it prints no usage and does not exit by them.
    """
    parser = _Parser(
        prog="lightning-fastdata",
        description="Keep a Lightning training run fed with data, and see where it waits.",
        allow_abbrev=False,
    )
    version = import_module(__name__.partition(".")[0]).__version__
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    demo = add_command(
        commands,
        "demo",
        help="see a training run that waits for its data, and the same run fed",
        description=_DEMO,
        epilog=_DEMO_EXAMPLES,
    )
    _add_demo_arguments(demo)
    add_doctor(commands)
    add_tune(commands)
    add_report(commands)
    add_compare(commands)
    return parser


def demo_options(arguments: argparse.Namespace) -> DemoOptions:
    """Take the demo's options out of what was parsed."""
    return DemoOptions(
        data=arguments.data,
        cache_dir=arguments.cache_dir,
        out=arguments.out,
        accelerator=arguments.accelerator,
        max_steps=arguments.max_steps,
        batch_size=arguments.batch_size,
        size=arguments.size,
        seed=arguments.seed,
    )


def _add_demo_arguments(demo: argparse.ArgumentParser) -> None:
    demo.add_argument(
        "--data",
        type=_folder,
        metavar="DIR",
        help="your own pictures: one folder a class, or train/ and val/ with such folders inside",
    )
    demo.add_argument(
        "--accelerator",
        type=_accelerator,
        default="auto",
        metavar="{auto,cpu,gpu}",
        help="what to train on (default: auto, a GPU where there is one)",
    )
    demo.add_argument(
        "--max-steps",
        type=_count,
        metavar="N",
        help="training steps of each run (default: up to 100, fewer on a slow machine)",
    )
    demo.add_argument(
        "--batch-size",
        type=_count,
        metavar="N",
        help="samples a batch (default: 32; 128 on a GPU)",
    )
    demo.add_argument(
        "--size",
        type=_pixels,
        metavar="PIXELS",
        help="height and width of a sample (default: 128; 224 on a GPU)",
    )
    demo.add_argument(
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="names the first weights, the orders and the split (default: 0)",
    )
    demo.add_argument(
        "--out",
        type=_folder,
        metavar="DIR",
        help="where the JSON files go (default: demo-results in the cache folder)",
    )
    demo.add_argument(
        "--cache-dir",
        type=_folder,
        metavar="DIR",
        help="where the pictures are kept (default: ~/.cache/lightning_fastdata)",
    )


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("found an empty name, wanted a folder. Name one")
    return Path(text).expanduser().absolute()


def _accelerator(text: str) -> str:
    if text not in ACCELERATORS:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, wanted {', '.join(ACCELERATORS[:-1])} or {ACCELERATORS[-1]}. "
            "Leave it out to take a GPU where there is one"
        )
    return text


def _count(text: str) -> int:
    return whole_number(text, lowest=1)


def _pixels(text: str) -> int:
    return whole_number(text, lowest=1, highest=_MAX_PIXELS)


def _seed(text: str) -> int:
    return whole_number(text, lowest=0)
