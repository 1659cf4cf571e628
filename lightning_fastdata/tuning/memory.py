"""Decisions about loading that outlive a run: one small file each, in the user's cache folder.

What cannot be read counts as absent and is written anew; what cannot be written is not kept. No
trouble with these files is ever an error, since a run can decide without them.
"""

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning_fastdata.dataset.index_cache import default_cache_dir
from lightning_fastdata.tuning.fingerprint import PlanKey
from lightning_fastdata.tuning.remembered import Remembered, as_plain, from_plain

_log = logging.getLogger(__name__)

_VERSION = 1
_MOST_FILES = 500  # guess: datasets x batch sizes x machines of one person; 1 kB each
_MOST_BYTES = 1_000_000  # of a file that is still read; ours have about 1 kB
_PREFIX, _UNFINISHED = "plan-", "unfinished-"
_ABANDONED_S = 3600.0  # guess: writing takes far less, so a process died over it
_ABOUT = (
    "How lightning_fastdata decided to load this dataset on this kind of machine. The next run "
    'with num_workers="auto" starts from it. It may be deleted at any time.'
)


class PlanMemory:
    """Keeps decisions in files, one a key; any number of processes may use it at once.

    Args:
        folder: Where; ``None`` is ``plans`` in this user's cache folder for this package.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def recall(self, key: PlanKey) -> Remembered | None:
        """Give what was kept for a key; ``None`` where there is nothing that can be used."""
        with contextlib.suppress(RuntimeError):
            values = _read(self._path(key))
            if values.get("version") == _VERSION and values.get("key") == asdict(key):
                return from_plain(values.get("decision"))
        return None

    def keep(self, key: PlanKey, remembered: Remembered, description: str) -> None:
        """Keep a decision instead of an earlier one.

        Args:
            key: What it is for.
            remembered: The decision.
            description: A few words about the dataset, for a person who opens the file.
        """
        values = {
            "about": _ABOUT,
            "for": f"{description}, batches of {key.batch_size}, on {key.machine}",
            "version": _VERSION,
            "key": asdict(key),
            "decision": as_plain(remembered),
        }
        try:
            _write(self._path(key), values)
        except (OSError, RuntimeError) as error:
            _log.info("how to load is not remembered for the next run: %s", error)
            return
        self._drop_old()

    def forget(self, dataset: str | None = None, batch_size: int | None = None) -> int:
        """Delete what was kept, on whatever machine and for however many ranks.

        Args:
            dataset: A fingerprint, as keys have it; ``None`` is any.
            batch_size: Of one fingerprint, only what was kept for batches of this size; ``None`` is
                all.

        Returns:
            How many decisions were deleted.
        """
        paths: list[Path] = []
        with contextlib.suppress(RuntimeError):
            paths = self._plans()
        if dataset is not None:
            wanted: dict[str, str | int] = {"dataset": dataset}
            if batch_size is not None:
                wanted["batch_size"] = batch_size
            paths = [path for path in paths if wanted.items() <= _key_in(path).items()]
        return sum(map(_delete, paths))

    def _path(self, key: PlanKey) -> Path:
        return self._plans_folder() / f"{_PREFIX}{key.name}.json"

    def _plans_folder(self) -> Path:
        """Give the folder.

        Raises:
            RuntimeError: Where this user has no home, and nothing else names a cache folder.
        """
        return default_cache_dir() / "plans" if self._folder is None else self._folder

    def _plans(self) -> list[Path]:
        return [path for path, _ in _files(self._plans_folder(), _PREFIX)]

    def _drop_old(self) -> None:
        """Delete the oldest beyond the bound, and what processes left that died while writing."""
        folder = self._plans_folder()
        newest_first = sorted(_files(folder, _PREFIX), key=lambda file: file[1], reverse=True)
        for path, _ in newest_first[_MOST_FILES:]:
            _delete(path)
        for path, written_s in _files(folder, _UNFINISHED):
            if written_s < time.time() - _ABANDONED_S:
                _delete(path)


def _files(folder: Path, prefix: str) -> Iterator[tuple[Path, float]]:
    """Yield each file of ours in a folder with the time it was written, in seconds since 1970."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(".json"):
                with contextlib.suppress(OSError):  # another process deleted it
                    yield Path(entry.path), entry.stat().st_mtime


def _read(path: Path) -> dict[str, Any]:
    """Read a file's values; none where it is not one of ours."""
    with contextlib.suppress(OSError, ValueError, RecursionError), open(path, "rb") as file:
        values = json.loads(file.read(_MOST_BYTES))
        if isinstance(values, dict):
            return values
    return {}


def _key_in(path: Path) -> dict[str, str | int]:
    """Give the plain values of a file's key, as far as it has one."""
    key = _read(path).get("key")
    if not isinstance(key, dict):
        return {}
    return {name: value for name, value in key.items() if isinstance(value, (str, int))}


def _delete(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _write(path: Path, values: dict[str, Any]) -> None:
    """Write a file so that readers see the old one or the new one, whole."""
    text = json.dumps(values, indent=1, ensure_ascii=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=_UNFINISHED, suffix=".json")
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
        os.replace(unfinished, path)
    except BaseException:
        _delete(Path(unfinished))
        raise
