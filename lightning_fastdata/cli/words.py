"""Reading single words of the command line; what cannot be read is said in a sentence."""

import argparse


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
