"""The training process is killed: does any process, or memory that they shared, stay behind?"""

import contextlib
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import rig
from rig import Pages, loader_of, spread

GONE_WITHIN_S = 5.0
STARTS = ("fork", "fork", "fork", "spawn")  # the method of each victim, in turn


class Sleepy(Pages):
    """Pages; a worker is long at some, as one that waits for a slow disk."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index % 97 == 5 and rig.get_worker_info() is not None:
            time.sleep(20)
        return super().__getitem__(index)


def parent_kills(count: int, seed: int) -> dict[str, Any]:
    """Kill training processes in the middle of a pass, or as they begin one."""
    rng = random.Random(seed)
    left: list[str] = []
    took_s: list[float] = []
    family_sizes, slots = [], []
    for turn in range(count):
        start = STARTS[turn % len(STARTS)]
        rig.expect_life()
        at_once = rng.random() < 0.2
        victim = _victim(start, turn, rng.random() < 0.2, waits=not at_once)
        time.sleep(rng.uniform(0.0, 1.5 if at_once else 0.5))
        family, memory = _family_of(victim.pid), _shared_memory_of(_family_of(victim.pid))
        victim.kill()
        killed_s = time.monotonic()
        victim.join()
        family_sizes.append(len(family))
        slots.append(len(memory))
        rest = _wait_for_end(victim.pid, memory)
        took_s.append(time.monotonic() - killed_s)
        if rest:
            left.append(f"{start}, turn {turn}: {rest}")
            for pid in _family_of(victim.pid):
                os.kill(pid, signal.SIGKILL)
        if turn % 10 == 9:
            rig.progress(f"parent kills: {turn + 1} of {count}, left {left}")
    return {
        "campaign": "parent_kills",
        "seed": seed,
        "kills": count,
        "left_after_5_s": left,
        "processes_before": {"min": min(family_sizes), "max": max(family_sizes)},
        "shared_files_before": {"min": min(slots), "max": max(slots)},
        **spread(took_s),
    }


def _victim(start: str, seed: int, is_sleepy: bool, *, waits: bool) -> Any:
    fork = multiprocessing.get_context("fork")
    heard, say = fork.Pipe(duplex=False)
    victim = fork.Process(target=_train, args=(say, start, seed, is_sleepy))
    victim.start()
    say.close()
    if waits:
        heard.recv()
    heard.close()
    return victim


def _train(say: Any, start: str, seed: int, is_sleepy: bool) -> None:
    os.setsid()  # a session of its own: whoever belongs to it is of this family
    dataset = (Sleepy if is_sleepy else Pages)(400, pause_s=0.004)
    loader = loader_of(dataset, num_workers=3, multiprocessing_context=start, seed=seed)
    kept: list[Any] = []
    while True:
        for batch in loader:
            kept = [*kept[-3:], batch]
            if not say.closed:
                with contextlib.suppress(BrokenPipeError):  # nobody waits for it
                    say.send("begun")
                say.close()


def _family_of(session: int) -> list[int]:
    """All living processes of a session."""
    found = []
    for name in os.listdir("/proc"):
        fields = rig.stat_of(int(name)) if name.isdigit() else []
        if fields and int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(name))
    return found


def _shared_memory_of(family: list[int]) -> set[int]:
    """Numbers of the anonymous files that these processes have open, and of files in /dev/shm."""
    return {number for pid in family for number in _shared_files(pid)}


def _shared_files(pid: int) -> set[int]:
    found = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            if os.readlink(entry.path).startswith(("/memfd:", "/dev/shm/")):
                found.add(os.stat(entry.path).st_ino)
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if "/memfd:" in line or "/dev/shm/" in line:
                found.add(int(line.split()[4]))
    except OSError:  # it has ended meanwhile
        pass
    return found


def _wait_for_end(session: int, memory: set[int]) -> str:
    """What is left of a family and its memory in the end; empty if nothing is."""
    deadline_s = time.monotonic() + GONE_WITHIN_S
    while True:
        alive = _family_of(session)
        if not alive:
            everybody = [int(name) for name in os.listdir("/proc") if name.isdigit()]
            held = memory & _shared_memory_of(everybody)
            if not held:
                return ""
        if time.monotonic() > deadline_s:
            return f"processes {alive}" if alive else f"shared files {held}"
        time.sleep(0.02)
