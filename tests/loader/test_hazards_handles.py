"""What belongs to one process is found in a dataset, without running the dataset's code."""

import gzip
import multiprocessing
import socket
import sqlite3
import subprocess
import sys
import tarfile
import threading
import types
import warnings
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Subset

from lightning_fastdata.errors import HazardWarning
from lightning_fastdata.loader.hazards.handles import (
    describe_handles,
    find_all_handles,
    find_handles,
    warn_of_handles,
)


class Holder:
    """Holds whatever it is given."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


class Fake:
    """Stands in for a class of a library that is not installed."""

    def __init__(self, is_open: bool) -> None:
        self.is_open = is_open

    def __bool__(self) -> bool:
        return self.is_open

    def path(self) -> bytes:
        if not self.is_open:
            raise RuntimeError("closed")
        return b"/data"


def fake_class(module: str, name: str) -> type[Fake]:
    return type(name, (Fake,), {"__module__": module})


def found_in(value: Any) -> list[tuple[str, str]]:
    return [(handle.path, handle.kind) for handle in find_handles(value, "dataset")]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "data"
    file.write_bytes(bytes(100))
    return file


@pytest.mark.parametrize("mode", ["a", "wb", "r+b"])
def test_a_file_open_for_writing_is_found(data: Path, mode: str) -> None:
    with open(data, mode) as file:
        assert found_in(Holder(file=file)) == [("dataset.file", "an open file")]


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_a_file_that_is_only_read_is_no_hazard(data: Path, mode: str) -> None:
    with open(data, mode) as file:
        assert found_in(Holder(file=file)) == []


def test_a_raw_file_and_a_compressed_one_are_found_once_each(data: Path) -> None:
    with gzip.open(data, "wb") as written:
        written.write(b"abc")

    with open(data, "ab", buffering=0) as raw, gzip.open(data, "ab") as packed:
        assert [path for path, _ in found_in([raw, packed])] == ["dataset[0]", "dataset[1]"]


def test_an_open_zip_and_an_open_tar_are_found(tmp_path: Path) -> None:
    zip_path, tar_path = tmp_path / "a.zip", tmp_path / "a.tar"

    with zipfile.ZipFile(zip_path, "w") as zipped, tarfile.open(tar_path, "w") as tarred:
        found = found_in(Holder(zip=zipped, tar=tarred))

    assert found == [("dataset.zip", "an open archive"), ("dataset.tar", "an open archive")]


def test_a_connection_a_socket_and_a_pipe_are_found(stack: ExitStack) -> None:
    database = sqlite3.connect(":memory:")
    stack.callback(database.close)
    sockets = [stack.enter_context(each) for each in socket.socketpair()]
    ends = [stack.enter_context(each) for each in multiprocessing.Pipe()]

    found = found_in(Holder(database=database, socket=sockets[0], pipe=ends[0]))

    assert found == [
        ("dataset.database", "an open SQLite connection"),
        ("dataset.socket", "an open socket"),
        ("dataset.pipe", "an open pipe"),
    ]


def test_a_queue_between_processes_is_found() -> None:
    queue = multiprocessing.get_context("fork").SimpleQueue()

    found = found_in(Holder(queue=queue))
    queue.close()

    assert found == [("dataset.queue", "a queue between processes")]


def test_a_running_process_is_found_and_an_ended_one_is_not() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        running = found_in(Holder(process=process))

    assert running == [("dataset.process", "a running process")]
    assert found_in(Holder(process=process)) == []


def test_a_lock_is_a_hazard_only_while_it_is_held() -> None:
    locks = [threading.Lock(), threading.RLock(), multiprocessing.get_context("fork").Lock()]
    dataset = Holder(locks=locks, condition=threading.Condition())

    free = found_in(dataset)
    with locks[0], locks[1], locks[2]:
        held = found_in(dataset)

    assert free == []
    assert held == [(f"dataset.locks[{place}]", "a held lock") for place in range(3)]


def test_a_thread_is_a_hazard_only_while_it_runs() -> None:
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    dataset = Holder(thread=thread)

    before = found_in(dataset)
    thread.start()
    running = found_in(dataset)
    go_on.set()
    thread.join()

    assert before == found_in(dataset) == []
    assert running == [("dataset.thread", "a running thread")]


def test_a_pool_is_a_hazard_once_it_has_threads() -> None:
    with ThreadPoolExecutor(1) as pool:
        before = found_in(Holder(pool=pool))
        pool.submit(int).result()

        assert before == []
        assert found_in(Holder(pool=pool)) == [("dataset.pool", "a pool with threads")]


@pytest.mark.parametrize("name", ["File", "Group", "Dataset"])
def test_hdf5_is_known_by_its_module_while_it_is_open(name: str) -> None:
    kind = fake_class("h5py._hl.files", name)

    assert found_in(Holder(open=kind(True), closed=kind(False))) == [
        ("dataset.open", "an open HDF5 file")
    ]


def test_lmdb_is_known_although_its_classes_say_builtins(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = fake_class("builtins", "Environment")
    lmdb = types.ModuleType("lmdb")
    lmdb.Environment = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lmdb", lmdb)

    assert found_in(Holder(open=kind(True), closed=kind(False))) == [
        ("dataset.open", "an open LMDB environment")
    ]


@pytest.mark.gpu
def test_a_cuda_tensor_is_found_in_a_module() -> None:
    layer = torch.nn.Linear(1, 1, device="cuda")

    assert {kind for _, kind in found_in(Holder(layer=layer))} == {"a CUDA tensor"}


def test_views_functions_and_slots_are_looked_into(data: Path) -> None:
    class Slotted:
        __slots__ = ("file",)

    with open(data, "a") as file, open(data, "a") as other:
        slotted = Slotted()
        slotted.file = file  # type: ignore[attr-defined]
        found = find_all_handles(
            {"dataset": Subset(slotted, [0]), "collate_fn": lambda samples: other}  # type: ignore[arg-type]
        )

    assert [each.path for each in found] == ["dataset.dataset.file", "collate_fn.<closure 'other'>"]


def test_all_that_was_found_is_said_in_one_warning(data: Path, stack: ExitStack) -> None:
    files = [stack.enter_context(data.open("a")) for _ in range(6)]
    handles = find_handles(Holder(files=files), "dataset")

    with pytest.warns(HazardWarning) as caught:
        warn_of_handles(handles)

    words = str(caught[0].message)
    assert len(caught) == 1
    assert words.startswith("forked workers would share what only one process may use, wanted")
    assert "  dataset.files[0] (an open file): forked workers share its position" in words
    assert "and 2 more" in words
    assert words.count("Open it at the first sample") == 1


def test_what_is_not_opened_comes_without_advice_on_opening() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()

        words = describe_handles(find_handles(pool, "dataset"))

    assert words.endswith("\nMake pipes, processes and pools at the first sample, in the worker.")


def test_nothing_found_is_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_handles(())
