"""From what a person types to a dataset: a folder, ``module:name`` or ``file.py:name``."""

import importlib
import importlib.util
import os
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning_fastdata.checkup.user_code import call_user
from lightning_fastdata.dataset.image_folder import ImageFolder
from lightning_fastdata.errors import DatasetError, SettingsError

_NAMES_TOLD = 12
_VAL_NAMES = ("val", "valid", "validation", "test")


def locate(text: str) -> Any:
    """Find what ``text`` names.

    Args:
        text: A folder of pictures (one folder a class, or ``train`` and ``val`` with such folders
            inside), or a module or Python file and a name in it.

    Returns:
        The object with that name; for a folder a dataset, or a dict of them.

    Raises:
        DatasetError: There is no such folder, module, file or name, or it cannot be read.
    """
    if os.path.isdir(text):
        return _pictures(Path(text))
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name:
        raise DatasetError(
            f"found no folder {text!r}, wanted a folder of pictures, module:name or file.py:name. "
            "Check the spelling and where you are."
        )
    load = _module_of_file if place.endswith(".py") else _module
    module = call_user(
        partial(load, place), f"importing {place}", "wanted a module that can be imported"
    )
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise DatasetError(
                f"{place} has no {name!r}, wanted a dataset, a loader, a data module, or a "
                f"function that builds one. It has: {_own_names(module) or 'nothing'}."
            )
        found = getattr(found, part)
    return found


def build(source: Any, name: str) -> Any:
    """Call ``source`` where it is a function or class that builds what is wanted.

    Raises:
        DatasetError: It raised, or needs arguments.
    """
    is_built = hasattr(source, "__getitem__") or hasattr(source, "__iter__")
    is_module = hasattr(source, "train_dataloader")
    if isinstance(source, type) or (callable(source) and not is_built and not is_module):
        return call_user(source, f"building {name}", "wanted it to work without arguments")
    return source


def _pictures(root: Path) -> Any:
    val_root = next((root / name for name in _VAL_NAMES if (root / name).is_dir()), None)
    if val_root is not None and (root / "train").is_dir():
        return {
            "train": ImageFolder(root / "train", train=True),
            val_root.name: ImageFolder(val_root),
        }
    return ImageFolder(root, train=True)


def _own_names(module: ModuleType) -> str:
    """List what a module made itself, as far as a person reads it."""
    names = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", module.__name__) == module.__name__
    ]
    more = ", ..." if len(names) > _NAMES_TOLD else ""
    return ", ".join(names[:_NAMES_TOLD]) + more


def _module(name: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:  # as `python -m` has it, and an installed command has not
        sys.path.insert(0, here)
    return importlib.import_module(name)


def _module_of_file(path: str) -> ModuleType:
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise DatasetError(f"found no file {path}, wanted a Python file. Check the spelling.")
    if str(file.parent) not in sys.path:  # as `python file.py` has it
        sys.path.insert(0, str(file.parent))
    known = getattr(sys.modules.get(file.stem), "__file__", None)
    if file.stem in sys.modules and known != str(file):  # the same file again may have changed
        raise SettingsError(
            f"{path} has the name of a module that is imported already, {file.stem}, wanted a name "
            "of its own. Rename the file."
        )
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None, "the name ends in .py"
    assert spec.loader is not None, "the name ends in .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # where pickle looks for its classes
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[file.stem]
        raise
    return module
