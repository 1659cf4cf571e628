"""Keeping a folder's index in a file, so that the next run need not list the folder again.

One file, mapped when it is used::

    magic 8 | length of the JSON 8 | checksum of all that follows 8 | JSON, padded to 8
    offsets int64 | folder times int64 | folder names, separated by NUL | names of the files

The checksum is read once, when a run opens the file; workers only compare its value.
"""

import hashlib
import json
import logging
import mmap
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_fastdata.dataset.image_index import ImageIndex, index_of_tree
from lightning_fastdata.dataset.image_scan import FolderTree, run_in_threads, scan_tree
from lightning_fastdata.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

_MAGIC = b"LFDINDX1"
_PREFIX_BYTES = 24
# A folder may change twice within one tick of its file system's clock (2 s on FAT), and its time
# would not show the second.
_SETTLED_NS = 2 * 10**9
_FOLDERS_A_TASK = 64  # a guess: enough work to be worth handing to a thread


@dataclass(frozen=True, kw_only=True, slots=True)
class _CacheParts:
    facts: dict[str, Any]
    checksum: int
    offsets: "NDArray[np.int64]"
    folder_mtimes_ns: "NDArray[np.int64]"
    folders: list[str]
    names: "NDArray[np.uint8]"


def default_cache_dir() -> Path:
    """Return this user's cache folder for this package, made or not."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "lightning_fastdata"


def load_or_scan(
    root: str,
    extensions: tuple[str, ...],
    cache_dir: Path,
    wall_ns: Callable[[], int] = time.time_ns,
) -> ImageIndex:
    """Return the index of a folder: from the cache where no folder has changed, else by listing it.

    Args:
        root: Absolute path of the folder.
        extensions: Lower-case endings of picture files.
        cache_dir: Where index files are kept. If it cannot be written, the index stays in memory.
        wall_ns: The clock that the folders' times are compared with, in nanoseconds since 1970.

    Returns:
        The index. Mapped from the cache file whenever there is one.

    Raises:
        DatasetError: The folder cannot be listed or is not one folder of pictures per class.
    """
    key = json.dumps([root, extensions])
    path = cache_dir / f"index-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    parts = _read(path)
    if parts is not None and parts.facts["key"] == key and _are_unchanged(root, parts):
        return _index_of_parts(root, parts, path)
    started_ns = wall_ns()
    tree = scan_tree(root, lambda name: name.lower().endswith(extensions))
    if int(tree.folder_mtimes_ns.max()) > started_ns - _SETTLED_NS:
        _log.debug("%s changed less than 2 s ago: its index is not cached yet", root)
        return index_of_tree(root, tree)
    try:
        _write(path, key, tree)
    except OSError as error:
        _log.info("the index of %s is not cached: %s", root, error)
        return index_of_tree(root, tree)
    parts = _read(path)
    return index_of_tree(root, tree) if parts is None else _index_of_parts(root, parts, path)


def map_arrays(path: Path, checksum: int) -> "tuple[NDArray[np.uint8], NDArray[np.int64]]":
    """Map names and offsets of a cache file that this run has opened before.

    Raises:
        DatasetError: The file is gone, or is another one by now.
    """
    try:
        parts = _map(path)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}, the index of the pictures, cannot be mapped ({error}), but this worker "
            "needs it. Start the run again, and do not empty the cache folder meanwhile."
        ) from error
    if parts.checksum != checksum:
        raise DatasetError(
            f"{path}, the index of the pictures, was written anew since this run opened it. "
            "The folder of pictures has changed: start the run again."
        )
    return parts.names, parts.offsets


def _index_of_parts(root: str, parts: _CacheParts, path: Path) -> ImageIndex:
    return ImageIndex(
        root=root,
        classes=tuple(parts.facts["classes"]),
        class_counts=tuple(parts.facts["class_counts"]),
        names=parts.names,
        offsets=parts.offsets,
        cache_path=path,
        cache_checksum=parts.checksum,
    )


def _are_unchanged(root: str, parts: _CacheParts) -> bool:
    def are_as_before(span: slice) -> bool:
        try:
            return all(
                os.stat(os.path.join(root, folder)).st_mtime_ns == mtime_ns
                for folder, mtime_ns in zip(parts.folders[span], times_ns[span], strict=True)
            )
        except OSError:  # a folder is gone
            return False

    times_ns = parts.folder_mtimes_ns.tolist()
    starts = range(0, len(times_ns), _FOLDERS_A_TASK)
    return all(run_in_threads(are_as_before, [slice(at, at + _FOLDERS_A_TASK) for at in starts]))


def _write(path: Path, key: str, tree: FolderTree) -> None:
    folders = "\0".join(tree.folders).encode(errors="surrogateescape")
    facts = {
        "key": key,
        "classes": tree.classes,
        "class_counts": tree.class_counts,
        "folders_bytes": len(folders),
        "folders": len(tree.folders),
        "names_bytes": len(tree.names),
    }
    header = json.dumps(facts).encode()
    header += b" " * (-len(header) % 8)
    bodies: list[bytes | memoryview] = [
        header,
        tree.offsets.data,
        tree.folder_mtimes_ns.data,
        folders,
        tree.names.data,
    ]
    checksum = 0
    for body in bodies:
        checksum = zlib.crc32(body, checksum)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix="unfinished-")
    try:
        with open(descriptor, "wb") as file:
            file.write(_MAGIC + len(header).to_bytes(8, "little") + checksum.to_bytes(8, "little"))
            for body in bodies:
                file.write(body)
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise


def _read(path: Path) -> _CacheParts | None:
    """Open a cache file and check every byte; ``None`` where it is missing or damaged."""
    try:
        return _map(path, checks=True)
    except OSError:  # missing or unreadable; writing the new one says what is wrong
        return None
    except (ValueError, KeyError, TypeError) as error:
        _log.info("the cached index %s is made anew: %s", path, error)
        return None


def _map(path: Path, checks: bool = False) -> _CacheParts:
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if mapped[:8] != _MAGIC:
        raise ValueError("it is not an index file")
    header_end = _PREFIX_BYTES + int.from_bytes(mapped[8:16], "little")
    checksum = int.from_bytes(mapped[16:24], "little")
    if checks and zlib.crc32(memoryview(mapped)[_PREFIX_BYTES:]) != checksum:
        raise ValueError("its checksum does not fit")
    facts = json.loads(mapped[_PREFIX_BYTES:header_end])
    samples = sum(facts["class_counts"])
    offsets = np.frombuffer(mapped, np.int64, samples + 1, header_end)
    times_at = header_end + offsets.nbytes
    folder_mtimes_ns = np.frombuffer(mapped, np.int64, facts["folders"], times_at)
    folders_at = times_at + folder_mtimes_ns.nbytes
    names_at = folders_at + facts["folders_bytes"]
    folders = mapped[folders_at:names_at].decode(errors="surrogateescape").split("\0")
    return _CacheParts(
        facts=facts,
        checksum=checksum,
        offsets=offsets,
        folder_mtimes_ns=folder_mtimes_ns,
        folders=folders,
        names=np.frombuffer(mapped, np.uint8, facts["names_bytes"], names_at),
    )
