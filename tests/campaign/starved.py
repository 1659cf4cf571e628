"""Workers that run out of memory, by a limit of their own or by the kernel: survived and named?"""

import contextlib
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rig
import torch
from rig import Pages, Tally, heard, loader_of
from torch.utils.data import get_worker_info

MIB = 2**20
SAMPLES = 160
ROOM_MIB = 256  # that a worker may have beyond what it starts with
CGROUP_MIB, GREED_MIB = 1024, 1200
CONTROLLER = Path("/sys/fs/cgroup/memory")


class Leaky(Pages):
    """Pages; each sample leaks a bit, in a worker only."""

    def __init__(self, by: str) -> None:
        super().__init__(SAMPLES)
        self.by, self.leaked = by, list[Any]()

    def __getitem__(self, index: int) -> dict[str, Any]:
        if get_worker_info() is not None:
            size = 8 * MIB
            leak = (
                np.ones(size, np.uint8)
                if self.by == "numpy"
                else torch.ones(size, dtype=torch.uint8)
            )
            self.leaked.append(leak)
        return super().__getitem__(index)


def limit_this_worker(_: int) -> None:
    """Let this process have no more than some memory beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM_MIB * MIB
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def rlimit(seed: int) -> dict[str, Any]:
    """Workers that leak until their address space is full: others go on, and the cause is named."""
    row: dict[str, Any] = {"campaign": "oom_rlimit", "seed": seed, "by": {}}
    for by in ("numpy", "torch"):
        dataset, tally = Leaky(by), Tally()
        wanted = rig.inline_marks(dataset, 0, seed=seed)
        told = _one_pass(dataset, seed, wanted, tally, worker_init_fn=limit_this_worker)
        named = [text for text in told if "ran out of memory" in text]
        row["by"][by] = {"named": len(named), "warnings": told[:2], **vars(tally)}
    return row


def _one_pass(dataset: Any, seed: int, wanted: list[Any], tally: Tally, **how: Any) -> list[str]:
    got = []
    rig.expect_life()
    with heard() as told:
        loader = loader_of(dataset, num_workers=2, seed=seed, **how)
        try:
            for batch in loader:
                rig.expect_life()
                got.append(rig.marks_of(batch))
        except Exception as error:
            tally.errors.append(f"{type(error).__name__}: {error}")
        loader.close()
    tally.compare(got, wanted)
    return [text for _, text in told]


class Greedy(Pages):
    """Pages; one sample takes more memory than its cgroup has, the first time or always."""

    def __init__(self, once: str | None) -> None:
        super().__init__(SAMPLES)
        self.once = once

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == 77 and get_worker_info() is not None and self._is_time():
            np.ones(GREED_MIB * MIB, np.uint8)
        return super().__getitem__(index)

    def _is_time(self) -> bool:
        if self.once is None:
            return True
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.once, os.O_CREAT | os.O_EXCL))
            return True
        return False


def cgroup(seed: int) -> dict[str, Any]:
    """The kernel kills a worker because the container's memory is full."""
    row: dict[str, Any] = {"campaign": "oom_cgroup", "seed": seed, "skipped": None}
    try:
        with _small_cgroup() as folder, tempfile.TemporaryDirectory() as scratch:
            _join(folder)  # all of this program, as in a container
            for name, once in (("once", f"{scratch}/once"), ("always", None)):
                row[name] = _starve(once, seed)
                row[name]["oom_kill"] = _oom_kills(folder)
    except OSError as error:
        row["skipped"] = f"no memory cgroup can be made here ({error})"
    return row


def _starve(once: str | None, seed: int) -> dict[str, Any]:
    dataset, tally = Greedy(once), Tally()
    how: dict[str, Any] = {"on_bad_sample": "skip" if once is None else "raise"}
    wanted = rig.inline_marks(dataset, 0, seed=seed)
    told = _one_pass(dataset, seed, wanted, tally, **how)
    return {"warnings": told, **vars(tally)}


@contextlib.contextmanager
def _small_cgroup() -> Iterator[Path]:
    """A cgroup of version 1 below this process's own, with little memory."""
    own = next(
        line.split(":")[2]
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if line.split(":")[1] == "memory"
    )
    above = CONTROLLER / own.lstrip("/")
    folder = above / f"fastdata_campaign_{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "memory.limit_in_bytes").write_text(str(CGROUP_MIB * MIB))
        yield folder
    finally:
        _join(above)
        folder.rmdir()


def _join(folder: Path) -> None:
    (folder / "cgroup.procs").write_text(str(os.getpid()))


def _oom_kills(folder: Path) -> int:
    lines = (folder / "memory.oom_control").read_text().splitlines()
    return int(dict(line.split() for line in lines)["oom_kill"])
