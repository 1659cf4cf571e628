"""What holds for every test: nothing is left behind, and a GPU test says why it was skipped."""

import functools
import gc
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import settings

IMAGENET_SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "imagenet-sample"
STRAGGLERS_MAY_TAKE_S = 5.0  # guess: a worker that was told to end is gone long before
SHARED_MEMORY = Path("/dev/shm")
# Threads that a library keeps for the whole process, by their class: their names are only numbers.
THREADS_THAT_STAY = {"TMonitor"}  # tqdm's, which redraws slow progress bars
FAILED = pytest.StashKey[bool]()

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")


@functools.cache
def has_cuda() -> bool:
    import torch  # here, so that a run without GPU tests asks nothing of the driver

    return torch.cuda.is_available()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not has_cuda():
        pytest.skip("needs a CUDA device")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and the processes that they start, leave the user's cache folder alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def imagenet_sample() -> Path:
    """One folder a class, one real ImageNet photograph in each."""
    if not IMAGENET_SAMPLE.is_dir():
        pytest.skip(f"needs the pictures in {IMAGENET_SAMPLE}")
    return IMAGENET_SAMPLE


def _processes() -> set[psutil.Process]:
    """Every descendant but multiprocessing's two helpers, which live as long as this process."""
    tracker = getattr(multiprocessing.resource_tracker._resource_tracker, "_pid")  # noqa: B009
    forkserver = getattr(multiprocessing.forkserver._forkserver, "_forkserver_pid")  # noqa: B009
    children = psutil.Process().children(recursive=True)
    return {child for child in children if child.pid not in {tracker, forkserver}}


def _threads() -> set[threading.Thread]:
    running = threading.enumerate()
    return {thread for thread in running if type(thread).__name__ not in THREADS_THAT_STAY}


def _is_of_a_stranger(name: str) -> bool:
    """Whether another test run made it: torch writes its process's id in the name."""
    parts = name.split("_")
    if parts[0] != "torch" or not parts[1].isdigit() or int(parts[1]) == os.getpid():
        return False
    maker = int(parts[1])
    return psutil.pid_exists(maker) and maker not in {child.pid for child in _processes()}


def _in_use_by_strangers(names: set[str]) -> set[str]:
    """Which of these another test run holds: a semaphore's name does not tell whose it is."""
    ours = {os.getpid(), *(child.pid for child in _processes())}
    # By number: a semaphore is mapped under the name that it had before it got its own.
    numbers = {os.stat(SHARED_MEMORY / name).st_ino: name for name in names}
    used = set()
    for process in psutil.process_iter():
        if process.pid in ours:
            continue
        try:
            maps = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        except OSError:  # it has ended, or it is not ours to look at
            continue
        shared = (line.split() for line in maps if f" {SHARED_MEMORY}/" in line)
        used |= {numbers[int(parts[4])] for parts in shared if int(parts[4]) in numbers}
    return used


def _shared_files() -> set[str]:
    names = os.listdir(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else []
    return {name for name in names if not _is_of_a_stranger(name)}


def _shared_descriptors() -> set[str]:
    """This process's open shared memory, as ``number -> what it is``."""
    found = set()
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the listing's own
            continue
        if target.startswith(("/memfd:", "/dev/shm/")):
            found.add(f"{number} -> {target}")
    return found


def _stragglers(before: dict[str, set[Any]]) -> dict[str, set[Any]]:
    now = {
        "process": _processes(),
        "thread": _threads(),
        "file in /dev/shm": _shared_files(),
        "shared memory descriptor": _shared_descriptors(),
    }
    return {kind: now[kind] - before.get(kind, set()) for kind in now}


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, a thread or shared memory.

    Collecting garbage and waiting happen only where something is found, so a clean test pays about
    2 ms. A test that failed is left alone: its traceback holds on to what it had open.
    """
    before = _stragglers({})
    yield
    left = _stragglers(before)
    if not any(left.values()) or request.node.stash.get(FAILED, False):
        return
    gc.collect()
    psutil.wait_procs(left["process"], timeout=STRAGGLERS_MAY_TAKE_S)
    for thread in left["thread"]:
        thread.join(timeout=STRAGGLERS_MAY_TAKE_S)
    left = _stragglers(before)
    left["file in /dev/shm"] -= _in_use_by_strangers(left["file in /dev/shm"])
    if any(left.values()):
        lines = [
            f"{kind}: {item}" for kind, items in left.items() for item in sorted(map(str, items))
        ]
        pytest.fail("the test left behind\n  " + "\n  ".join(lines), pytrace=False)
