"""The faults that loaders are compared under: a dataset each, and how it is loaded."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faulty_sets
from faulty_sets import LENGTH, Numbers


def once_through(loader: Any, dataset: Any) -> list[int]:
    return [int(value) for batch in loader for value in batch.reshape(len(batch), -1)[:, 0]]


def while_a_lock_is_held(loader: Any, dataset: Any) -> list[int]:
    with faulty_sets.held_by_another_thread(faulty_sets.LIBRARY_LOCK):
        return once_through(loader, dataset)


def changed_between_epochs(loader: Any, dataset: Any) -> list[int]:
    once_through(loader, dataset)
    dataset.shift = 1000
    return [value - 1000 for value in once_through(loader, dataset)]


def until_killed(loader: Any, dataset: Any) -> list[int]:
    for _ in loader:
        Path(dataset.once).touch()
        time.sleep(0.1)
    return []


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One line of the table: what is made in a folder of its own, and how it is loaded."""

    name: str
    make: Callable[[str], Numbers]
    how: dict[str, Any] = field(default_factory=dict)
    run: Callable[[Any, Any], list[int]] = once_through
    length: int = LENGTH
    small_shm: bool = False
    kills_parent: bool = False


def sets(kind: Callable[..., Numbers], *names: str, **how: Any) -> Callable[[str], Numbers]:
    """Make ``kind`` with files of these names in the fault's folder."""
    return lambda folder: kind(**{name: f"{folder}/{name}" for name in names}, **how)


FAULTS = [
    Fault(
        name="worker killed by SIGKILL, persistent",
        make=sets(faulty_sets.Killed, "once"),
        how={"persistent_workers": True},
    ),
    Fault(name="worker killed by SIGKILL", make=sets(faulty_sets.Killed, "once")),
    Fault(name="worker leaves by os._exit(3)", make=sets(faulty_sets.Exits, "once")),
    Fault(name="sample ends its worker by a segfault", make=sets(faulty_sets.Segfaults)),
    Fault(name="sample raises", make=sets(faulty_sets.Raises)),
    Fault(name="picture file cut short", make=lambda folder: faulty_sets.Pictures(folder)),
    Fault(name="sample of another shape", make=sets(faulty_sets.OtherShape)),
    Fault(name="sample sleeps for ever", make=sets(faulty_sets.SleepsForEver)),
    Fault(name="sample in an endless loop in C", make=sets(faulty_sets.EndlessRegex)),
    Fault(name="worker stopped by SIGSTOP", make=sets(faulty_sets.Stopped, "once")),
    Fault(
        name="forked while a thread held a lock",
        make=sets(faulty_sets.UsesTheLibrary),
        run=while_a_lock_is_held,
    ),
    Fault(name="two workers wait for each other's lock", make=sets(faulty_sets.CrossedLocks)),
    Fault(name="multiprocessing.Queue is full", make=sets(faulty_sets.FullQueue)),
    Fault(
        name="open file shared by forked workers",
        make=sets(faulty_sets.OneFileForAll, "path", length=20_000),
        length=20_000,
    ),
    Fault(
        name="dataset changed between epochs, persistent",
        make=sets(faulty_sets.Shifted),
        how={"persistent_workers": True},
        run=changed_between_epochs,
    ),
    Fault(
        name="dataset with a lambda, spawn",
        make=sets(faulty_sets.HoldsALambda),
        how={"multiprocessing_context": "spawn"},
    ),
    Fault(
        name="dataset with a lock, spawn",
        make=sets(faulty_sets.HoldsALock),
        how={"multiprocessing_context": "spawn"},
    ),
    Fault(name="worker's memory limit (RLIMIT_AS)", make=sets(faulty_sets.TakesTooMuchMemory)),
    Fault(name="/dev/shm of 1 MiB", make=sets(faulty_sets.BigSamples), small_shm=True),
    Fault(
        name="training process killed by SIGKILL",
        make=sets(faulty_sets.FaultAt, "once", length=10**6, at=-1),
        run=until_killed,
        kills_parent=True,
    ),
    Fault(
        name="the same while a sample hangs",
        make=sets(faulty_sets.SleepsForEver, "once"),
        kills_parent=True,
    ),
]
