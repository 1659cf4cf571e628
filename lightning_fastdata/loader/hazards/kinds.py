"""What is known of things that must not be carried into a forked worker."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lightning_fastdata.loader.hazards.lazily import OPEN_REMEDY
from lightning_fastdata.loader.hazards.parts import attributes_of, classes_of, full_name
from lightning_fastdata.loader.own_files import is_only_read


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One kind of thing that belongs to the process that made it."""

    name: str
    """With its article, as in "an open file"."""
    hazard: str
    """What a fork does to it."""
    remedy: str
    is_live: Callable[[type, Any], bool]
    """Whether a value is hazardous now: open, held or running. Gets the library's own class of it,
    whose methods are the library's too, whatever a user's subclass overrides."""


def kind_of(value: Any) -> Kind | None:
    """Find out what a value is, if it is open, held or running at this moment."""
    try:
        found = known_kind_of(value)
        return found[0] if found is not None and found[0].is_live(found[1], value) else None
    except Exception:  # a closed one raises, in each library another error
        return None


def known_kind_of(value: Any) -> tuple[Kind, type] | None:
    """Find out what a value is by its class alone, and which class of its library it is."""
    for each in classes_of(value):
        module, name = full_name(each)
        if module == "builtins":  # where the classes of lmdb say that they come from
            lmdb = sys.modules.get("lmdb")
            module = "lmdb" if lmdb is not None and vars(lmdb).get(name) is each else module
        known = KINDS.get((module, name))
        if known is not None:
            return known, each
    return None


def _has_descriptor(library_class: Any, value: Any) -> bool:
    is_standard = any(value is each for each in (sys.stdin, sys.stdout, sys.stderr))
    descriptor = library_class.fileno(value)  # raises without one
    # Workers get a position of their own in what is only read.
    return bool(descriptor > 2) and not is_standard and not is_only_read(descriptor)


def _holds_open_file(name: str) -> Callable[[type, Any], bool]:
    def check(_: type, value: Any) -> bool:
        inner = attributes_of(value).get(name)
        return (
            kind_of(inner) is not None or kind_of(attributes_of(inner).get("fileobj")) is not None
        )

    return check


def _is_valid(library_class: Any, value: Any) -> bool:
    return bool(library_class.__bool__(value))


def _is_open_sqlite(library_class: Any, value: Any) -> bool:
    return bool(library_class.total_changes.__get__(value) >= 0)  # raises once it is closed


def _is_open_lmdb(library_class: Any, value: Any) -> bool:
    return bool(library_class.path(value))


def _is_held(library_class: Any, value: Any) -> bool:
    # A re-entrant lock says only in its text, before Python 3.14, that any thread holds it.
    return bool(library_class.__repr__(value).startswith("<locked"))


def _is_held_anywhere(_: type, value: Any) -> bool:
    return bool(attributes_of(value)["_semlock"]._is_zero())


def _is_cuda(library_class: Any, value: Any) -> bool:
    with torch._C.DisableTorchFunctionSubclass():
        return bool(library_class.is_cuda.__get__(value))


def _has(name: str) -> Callable[[type, Any], bool]:
    return lambda _, value: bool(attributes_of(value)[name])


def _runs(_: type, value: Any) -> bool:
    return attributes_of(value)["returncode"] is None


def _is_alive(library_class: Any, value: Any) -> bool:
    return bool(library_class.is_alive(value))


def _is_connected(library_class: Any, value: Any) -> bool:
    return bool(library_class.fileno(value) >= 0)


def _always(_: type, __: Any) -> bool:
    return True


_MAKE_LATE = "Make pipes, processes and pools at the first sample, in the worker"
_POSITION = "forked workers share its position, so one that reads moves it for all"
_STREAM = "forked workers take bytes out of one stream from each other"
_NO_THREADS = "threads do not live on in a forked worker, so whoever waits for them waits for ever"


def _kind(name: str, hazard: str, remedy: str, is_live: Callable[[type, Any], bool]) -> Kind:
    return Kind(name=name, hazard=hazard, remedy=remedy, is_live=is_live)


_FILE = _kind("an open file", _POSITION, OPEN_REMEDY, _has_descriptor)
_SOCKET = _kind("an open socket", _STREAM, OPEN_REMEDY, _is_connected)
_PIPE = _kind("an open pipe", _STREAM, _MAKE_LATE, _has("_handle"))
_PROCESS = _kind("a running process", _STREAM, _MAKE_LATE, _runs)
_SQLITE = _kind(
    "an open SQLite connection",
    "SQLite forbids that a connection is carried through a fork",
    OPEN_REMEDY,
    _is_open_sqlite,
)
_HDF5 = _kind(
    "an open HDF5 file",
    "forked workers share the file, each with its own copy of what the library knows of it",
    OPEN_REMEDY,
    _is_valid,
)
_LMDB = _kind(
    "an open LMDB environment",
    "LMDB forbids that one is carried through a fork",
    OPEN_REMEDY,
    _is_open_lmdb,
)
_ZIP = _kind("an open archive", _POSITION, OPEN_REMEDY, _holds_open_file("fp"))
_TAR = _kind("an open archive", _POSITION, OPEN_REMEDY, _holds_open_file("fileobj"))
_QUEUE = _kind(
    "a queue between processes",
    "a worker that is killed while it uses it, or a full queue, lets all others wait for ever",
    "Return results from __getitem__ instead of putting them into a queue",
    _always,
)
_HELD = "it is held at this moment, and in a forked worker nobody ever lets it go"
_LET_GO = "Let go of locks before the first batch"
_LOCK = _kind("a held lock", _HELD, _LET_GO, _is_held)
_PROCESS_LOCK = _kind("a held lock", _HELD, _LET_GO, _is_held_anywhere)
_THREAD = _kind(
    "a running thread", _NO_THREADS, "Start threads at the first sample, in the worker", _is_alive
)
_THREADS = _kind("a pool with threads", _NO_THREADS, _MAKE_LATE, _has("_threads"))
_PROCESSES = _kind("a pool of processes", _NO_THREADS, _MAKE_LATE, _has("_executor_manager_thread"))
_POOL = _kind("a pool of processes", _NO_THREADS, _MAKE_LATE, _has("_pool"))
_CUDA = _kind(
    "a CUDA tensor",
    "CUDA cannot be used in forked workers",
    "Keep tensors on the CPU, or use them in device_transform",
    _is_cuda,
)

KINDS: dict[tuple[str, str], Kind] = {
    ("_io", "TextIOWrapper"): _FILE,
    ("_io", "BufferedReader"): _FILE,
    ("_io", "BufferedWriter"): _FILE,
    ("_io", "BufferedRandom"): _FILE,
    ("_io", "FileIO"): _FILE,
    ("gzip", "GzipFile"): _FILE,
    ("bz2", "BZ2File"): _FILE,
    ("lzma", "LZMAFile"): _FILE,
    ("zipfile", "ZipFile"): _ZIP,
    ("tarfile", "TarFile"): _TAR,
    ("_socket", "socket"): _SOCKET,
    ("sqlite3", "Connection"): _SQLITE,
    ("h5py", "File"): _HDF5,
    ("h5py", "Group"): _HDF5,
    ("h5py", "Dataset"): _HDF5,
    ("lmdb", "Environment"): _LMDB,
    ("subprocess", "Popen"): _PROCESS,
    ("multiprocessing", "Queue"): _QUEUE,
    ("multiprocessing", "SimpleQueue"): _QUEUE,
    ("multiprocessing", "Connection"): _PIPE,
    ("multiprocessing", "Lock"): _PROCESS_LOCK,
    ("multiprocessing", "RLock"): _PROCESS_LOCK,
    ("multiprocessing", "Pool"): _POOL,
    ("concurrent", "ThreadPoolExecutor"): _THREADS,
    ("concurrent", "ProcessPoolExecutor"): _PROCESSES,
    ("threading", "Thread"): _THREAD,
    ("_thread", "lock"): _LOCK,
    ("_thread", "RLock"): _LOCK,
    ("torch", "Tensor"): _CUDA,
}
"""By topmost module and name of a class or of one that it is derived from: no import needed."""
