"""Finding the picture files of a class-per-folder tree, in torchvision's order.

Folders are listed by threads, since a network file system answers each listing after a round trip.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]  # tqdm ships no types

from lightning_fastdata.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCAN_THREADS = (
    8  # a guess: on a local disk one is as fast (0.3 s for 100,000 files), not on a network
)
_QUIET_S = 2.0

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderTree:
    """What a scan found: the files as one run of bytes, and the folders with their ages."""

    classes: tuple[str, ...]
    """Class names, sorted."""
    class_counts: tuple[int, ...]
    """Files of each class."""
    names: "NDArray[np.uint8]"
    """Paths relative to the root, one after the other, in the order of the samples."""
    offsets: "NDArray[np.int64]"
    """Where each path starts in ``names``; one more entry than files."""
    folders: tuple[str, ...]
    """Every folder that was listed, relative to the root, the root (``""``) first."""
    folder_mtimes_ns: "NDArray[np.int64]"
    """When each folder last changed, taken before it was listed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _ClassScan:
    names: bytes
    lengths: "NDArray[np.int64]"
    folders: list[str]
    mtimes_ns: list[int]


def scan_tree(root: str, accepts: Callable[[str], bool]) -> FolderTree:
    """List the files below each class folder of ``root``.

    Args:
        root: Absolute path of a folder that has one folder per class. Symbolic links are followed.
        accepts: Whether a file, given by its whole path, is a picture.

    Returns:
        Classes sorted by name; inside a class the folders sorted by path, then files by name.

    Raises:
        DatasetError: The root is not a folder, a folder cannot be listed or contains itself, there
            is no class folder, or a class has no picture.
    """
    root_mtime_ns, class_names = _find_classes(root)
    names, folders, mtimes_ns = bytearray(), [""], [root_mtime_ns]
    lengths: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
    tasks = [(root, name, accepts) for name in class_names]
    for scan in _shown(run_in_threads(_scan_class, tasks), len(tasks)):
        names += scan.names
        lengths.append(scan.lengths)
        folders += scan.folders
        mtimes_ns += scan.mtimes_ns
    counts = tuple(len(of_class) for of_class in lengths[1:])
    _refuse_empty_classes(root, class_names, counts)
    return FolderTree(
        classes=tuple(class_names),
        class_counts=counts,
        names=np.frombuffer(names, np.uint8),
        offsets=np.cumsum(np.concatenate(lengths)),
        folders=tuple(folders),
        folder_mtimes_ns=np.array(mtimes_ns, np.int64),
    )


def run_in_threads(
    work: Callable[[Task], Result], tasks: list[Task], threads: int = SCAN_THREADS
) -> Iterator[Result]:
    """Yield ``work(task)`` for every task, in order; at most ``threads`` run at once."""
    with ThreadPoolExecutor(min(threads, len(tasks))) as pool:
        yield from pool.map(work, tasks)


def _find_classes(root: str) -> tuple[int, list[str]]:
    try:
        mtime_ns = os.stat(root).st_mtime_ns
        with os.scandir(root) as entries:
            class_names = sorted(entry.name for entry in entries if _is_folder(entry))
    except FileNotFoundError as error:
        raise DatasetError(
            f"{root} does not exist, wanted a folder with one folder of pictures per class. "
            "Check the path, and that the disk is mounted on this machine."
        ) from error
    except OSError as error:
        raise DatasetError(
            f"{root} cannot be listed ({error.strerror}), wanted a folder with one folder of "
            "pictures per class. Pass that folder, readable by this user."
        ) from error
    if not class_names:
        raise DatasetError(
            f"{root} has no class folder, wanted one folder of pictures per class, like "
            f"{os.path.join(root, 'cat', '1.jpg')}. Pass the folder above the class folders."
        )
    return mtime_ns, class_names


def _scan_class(task: tuple[str, str, Callable[[str], bool]]) -> _ClassScan:
    root, class_name, accepts = task
    found: list[tuple[str, int, list[str]]] = []
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(class_name, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        path = os.path.join(root, folder)
        mtime_ns, identity, inner, files = _list_folder(path)
        if identity in above:
            raise DatasetError(
                f"{path} is a link to a folder that contains it, wanted a tree that ends. "
                "Remove the link."
            )
        found.append(
            (folder, mtime_ns, [name for name in files if accepts(f"{path}{os.sep}{name}")])
        )
        # Windows reports no identity for some file systems: (0, 0) says nothing.
        above = above | {identity} if identity[1] else above
        waiting += [(os.path.join(folder, name), above) for name in inner]
    found.sort()  # as torchvision sorts os.walk: by the folder's whole path
    names = [
        os.fsencode(os.path.join(folder, name))
        for folder, _, files in found
        for name in sorted(files)
    ]
    return _ClassScan(
        names=b"".join(names),
        lengths=np.fromiter(map(len, names), np.int64, len(names)),
        folders=[folder for folder, _, _ in found],
        mtimes_ns=[mtime_ns for _, mtime_ns, _ in found],
    )


def _list_folder(path: str) -> tuple[int, tuple[int, int], list[str], list[str]]:
    inner: list[str] = []
    files: list[str] = []
    try:
        status = os.stat(path)  # before listing: a change while listing then shows as a newer time
        with os.scandir(path) as entries:
            for entry in entries:
                (inner if _is_folder(entry) else files).append(entry.name)
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be listed ({error.strerror}), wanted a readable folder. "
            "Correct its permissions or take it out of the dataset."
        ) from error
    return status.st_mtime_ns, (status.st_dev, status.st_ino), inner, files


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; as os.walk does, leave it to whoever reads the file
        return False


def _refuse_empty_classes(root: str, class_names: list[str], counts: tuple[int, ...]) -> None:
    empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if empty:
        more = f" and {len(empty) - 10} more" if len(empty) > 10 else ""
        raise DatasetError(
            f"{len(empty)} of {len(class_names)} class folders in {root} hold no picture: "
            f"{', '.join(empty[:10])}{more}. Wanted at least one each. "
            "Remove these folders, or name their files' endings in extensions."
        )


class _Bar(tqdm):  # type: ignore[misc]  # untyped, see its import
    monitor_interval = 0  # no helper thread that outlives the scan


def _shown(scans: Iterator[_ClassScan], count: int) -> Iterator[_ClassScan]:
    """Show a bar once the scan has lasted 2 s, on a terminal, in the first process of a launch."""
    is_first = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
    yield from _Bar(
        scans,
        total=count,
        desc="listing pictures",
        unit="class",
        delay=_QUIET_S,
        leave=False,
        disable=None if is_first else True,  # None: only on a terminal
    )
