"""Calling what a person wrote; what it raises becomes one sentence that says where."""

import os
import traceback
from collections.abc import Callable
from typing import TypeVar

from lightning_fastdata.errors import DatasetError, FastDataError

T = TypeVar("T")
_LONGEST = 300
_HERE = os.path.dirname(__file__)


def call_user(call: Callable[[], T], doing: str, wanted: str) -> T:
    """Call the user's code.

    Args:
        call: What to call.
        doing: What this is, such as ``building dataset``.
        wanted: What should have happened.

    Raises:
        DatasetError: It raised; the original error is the cause.
    """
    try:
        return call()
    except FastDataError:
        raise
    except (Exception, SystemExit) as error:
        theirs = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if os.path.dirname(frame.filename) != _HERE and "importlib" not in frame.filename
        ]
        where = ""
        if theirs:
            where = f" ({os.path.basename(theirs[-1].filename)}, line {theirs[-1].lineno})"
        raise DatasetError(
            f"{doing} failed with {one_line(error)}{where}, {wanted}. Try it in Python first."
        ) from error


def one_line(error: BaseException) -> str:
    """Give an error's type and the first line of what it says."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
