"""Whose line to blame for what a Python stack is doing."""

import os
import threading
from enum import IntEnum
from types import FrameType

from lightning_fastdata.trace.work import Line

_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
_STANDARD_LIBRARY = os.path.join(os.path.dirname(threading.__file__), "")
_INSTALLED = ("site-packages", "dist-packages")
_TYPED_IN = ("<ipython-input", "<python-input", "<stdin>")  # of notebooks and prompts
_DATA_LOADER = {"dataloader.py", "_utils/fetch.py", "_utils/worker.py"}
_LIGHTNING = {"lightning", "pytorch_lightning", "lightning_fabric"}
_MOST_FRAMES = 500  # guess: deeper is a recursion, and what ran last is known by then
_MOST_FILES = 4096  # guess: as many files as large programs have


class Owner(IntEnum):
    """Whose a file is; the lowest one on a stack is to blame."""

    USER = 0
    ADDON = 1
    """A callback or a logger of Lightning: what the user chose, whatever it calls."""
    LIBRARY = 2
    """An installed package."""
    DATASET = 3
    """Our own datasets."""
    MACHINERY = 4
    """Python, torch and the rest of Lightning: they do what others ask for."""
    LOOP = 5
    """What calls the user's code. Whoever called that in turn is not to blame."""


class Blame:
    """Finds the line to blame; what it learns of a file is kept, since deciding costs more."""

    def __init__(self) -> None:
        self._owners: dict[str, Owner] = {}

    def line_of(self, frame: FrameType) -> Line:
        """Choose the line of a stack, given by its innermost frame.

        From there outwards to the first frame of a loop that calls the user's code: the user's own
        line, else one of the next owner in the order of ``Owner``, each time the innermost.
        """
        blamed, lowest = frame, Owner.LOOP
        walked: FrameType | None = frame
        for _ in range(_MOST_FRAMES):
            if walked is None:
                break
            owner = self._owner_of(walked.f_code.co_filename)
            if owner is Owner.LOOP:
                break
            if owner < lowest:
                blamed, lowest = walked, owner
                if owner is Owner.USER:
                    break
            walked = walked.f_back
        code = blamed.f_code
        # Since Python 3.11 a frame may be between lines.
        return Line(code.co_filename, blamed.f_lineno or code.co_firstlineno, code.co_name)

    def _owner_of(self, file: str) -> Owner:
        owner = self._owners.get(file)
        if owner is None:
            if len(self._owners) >= _MOST_FILES:
                self._owners.clear()
            owner = self._owners[file] = owner_of(file)
        return owner


def owner_of(file: str) -> Owner:
    """Tell whose a file is by its name, as Python states it in a code object.

    Outside the standard library and the folders of installed packages everything is the user's:
    projects, editable installs, cells of notebooks. Code that libraries generate is nobody's.
    """
    if file.startswith("<"):
        return Owner.USER if file.startswith(_TYPED_IN) else Owner.MACHINERY
    if file.startswith(_PACKAGE):
        return _owner_of_ours(file.removeprefix(_PACKAGE).replace(os.sep, "/"))
    parts = file.split(os.sep)
    for folder in _INSTALLED:
        if folder in parts:
            last = len(parts) - parts[::-1].index(folder)
            return _owner_of_installed(parts[last:])
    return Owner.MACHINERY if file.startswith(_STANDARD_LIBRARY) else Owner.USER


def _owner_of_ours(path: str) -> Owner:
    if path.startswith("dataset/"):
        return Owner.DATASET
    # A ``with stage(...)`` is reached from the user's line.
    return Owner.MACHINERY if path == "trace/stages.py" else Owner.LOOP


def _owner_of_installed(parts: list[str]) -> Owner:
    package, *inside = parts
    if package in _LIGHTNING:
        # Not all of its trainer and strategies: ``self.log`` and ``manual_backward`` lead into them
        # from the user's line, ``save_checkpoint`` from a callback's.
        if "loops" in inside:
            return Owner.LOOP
        return Owner.ADDON if {"callbacks", "loggers"} & set(inside) else Owner.MACHINERY
    if package != "torch":
        return Owner.LIBRARY
    is_loop = inside[:2] == ["utils", "data"] and "/".join(inside[2:]) in _DATA_LOADER
    return Owner.LOOP if is_loop else Owner.MACHINERY
