"""What all commands share: how one is added, and how a single word is read."""

import argparse
from typing import Any


def add_command(
    commands: "argparse._SubParsersAction[Any]",
    name: str,
    *,
    help: str,  # argparse's own word
    description: str,
    epilog: str,
) -> argparse.ArgumentParser:
    """Add a command whose description is printed as it stands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the argument ``--json``, which every command that has a result understands."""
    parser.add_argument(
        "--json", type=_file, metavar="FILE", help="write everything as JSON; - prints only that"
    )


def _file(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("found an empty name, wanted a file. Name one, or -")
    return text


def whole_number(text: str, *, lowest: int, highest: int | None = None) -> int:
    """Read a whole number between two bounds.

    Raises:
        argparse.ArgumentTypeError: It is none; argparse puts the argument's name before it.
    """
    try:
        number: int | None = int(text)
    except ValueError:
        number = None
    if number is None or number < lowest or (highest is not None and number > highest):
        wanted = f"from {lowest}" if highest is None else f"from {lowest} to {highest}"
        raise argparse.ArgumentTypeError(
            f"found {text!r}, wanted a whole number {wanted}. Leave it out for the default"
        )
    return number
