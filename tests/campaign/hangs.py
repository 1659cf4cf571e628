"""Samples that never end and workers that are stopped: is each named by its index, and in time?"""

import json
import os
import random
import re
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import rig
from rig import Pages, Tally, heard, loader_of, spread
from torch.utils.data import get_worker_info

LIMIT_S, SPARE_S = 1.0, 2.0
AT_ONCE = 3  # hangs a loader: so many are told in full
SAMPLES, BATCH, WORKERS = 96, 8, 4
STOPPED_SAMPLES = 400  # more, so that a worker is seldom between two passes
OWN_KINDS = ("sleep", "lock", "regex", "sum")
CATASTROPHE = re.compile(r"(a+)+$")


def hang(kind: str) -> None:
    """Never end."""
    if kind == "sleep":
        time.sleep(10_000)
    elif kind == "lock":
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    elif kind == "regex":
        CATASTROPHE.match("a" * 64 + "b")
    else:
        sum(range(10**12))


class Hanging(Pages):
    """Pages some of which never end in a worker; each notes when it was begun.

    Args:
        hangs: The kind of each sample that hangs.
        folder: Where the times are noted.
    """

    def __init__(self, hangs: dict[int, str], folder: str) -> None:
        super().__init__(SAMPLES, pause_s=0.02)
        self.hangs, self.folder = hangs, folder

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index in self.hangs and get_worker_info() is not None:
            with open(f"{self.folder}/{index}", "a") as file:
                file.write(f"{time.monotonic()}\n")
            hang(self.hangs[index])
        return super().__getitem__(index)


def hangs(count: int, seed: int) -> dict[str, Any]:
    """Let samples hang by themselves, and stop workers from outside, a fifth of all."""
    rng = random.Random(seed)
    tally = Tally()
    waits: dict[str, list[float]] = {kind: [] for kind in (*OWN_KINDS, "stop")}
    unnamed: list[str] = []
    stops = count // 5
    with tempfile.TemporaryDirectory() as folder:
        done = 0
        while done < count - stops:
            chosen = rng.sample(range(SAMPLES), min(AT_ONCE, count - stops - done))
            kinds = {index: OWN_KINDS[(done + k) % 4] for k, index in enumerate(chosen)}
            place = Path(folder, str(done))
            place.mkdir()
            _let_samples_hang(kinds, place, done, tally, waits, unnamed)
            done += len(chosen)
            rig.progress(f"hangs: {done} of {count}, unnamed {unnamed}, {tally}")
    idle: list[float] = []
    while len(waits["stop"]) + len(unnamed) < stops:
        left = stops - len(waits["stop"])
        _stop_workers(min(AT_ONCE, left), rng, tally, waits, unnamed, idle)
        rig.progress(f"stops: {len(waits['stop'])} of {stops}, unnamed {unnamed}, {tally}")
    return _row(seed, tally, waits, unnamed) | {"stopped_at_no_sample": len(idle)}


def _let_samples_hang(
    kinds: dict[int, str],
    folder: Path,
    seed: int,
    tally: Tally,
    waits: dict[str, list[float]],
    unnamed: list[str],
) -> None:
    dataset, listed = Hanging(kinds, str(folder)), folder / "bad.jsonl"
    policy: dict[str, Any] = {"on_bad_sample": "skip", "max_bad_fraction": 1.0}
    how: dict[str, Any] = {"batch_size": BATCH, "seed": seed} | policy
    got: list[Any] = []
    with heard() as told:
        loader = loader_of(
            dataset, num_workers=WORKERS, sample_timeout_s=LIMIT_S, quarantine=listed, **how
        )
        got = _whole_pass(loader, tally)
        loader.close()
        # The replacements of bad samples do not depend on who loads, only on which are bad.
        wanted = rig.inline_marks(dataset, 0, quarantine=_only_bad(listed), **how)
    tally.compare(got, wanted)
    for index, kind in kinds.items():
        begun_s = float((folder / str(index)).read_text().splitlines()[0])
        named = [s for s, text in told if f"sample {index} was not made within" in text]
        if named:
            waits[kind].append(named[0] - begun_s)
        else:
            unnamed.append(f"{kind} at sample {index}, seed {seed}: {[t for _, t in told]}")


def _only_bad(listed: Path) -> Path:
    """A copy of a quarantine file without what was repeated, for another loader to read."""
    copy = listed.with_name("bad_copy.jsonl")
    lines = listed.read_text().splitlines(keepends=True) if listed.exists() else []
    copy.write_text("".join(line for line in lines if "error" in json.loads(line)))
    return copy


def _whole_pass(loader: Any, tally: Tally) -> list[Any]:
    got = []
    rig.expect_life()
    try:
        for batch in loader:
            rig.expect_life()
            got.append(rig.marks_of(batch))
    except Exception as error:
        tally.errors.append(f"{type(error).__name__}: {error}")
    return got


def _stop_workers(
    count: int,
    rng: random.Random,
    tally: Tally,
    waits: dict[str, list[float]],
    unnamed: list[str],
    idle: list[float],
) -> None:
    """Stop workers at random times for ever; the loader goes on till each was missed."""
    dataset = Pages(STOPPED_SAMPLES, pause_s=0.05)
    seed = rng.randrange(2**31)
    # Two epochs in turn, since a second pass of the same one has another order.
    wanted = [rig.inline_marks(dataset, epoch, batch_size=BATCH, seed=seed) for epoch in (0, 1)]
    stopped: dict[int, float] = {}
    named: dict[int, tuple[float, str]] = {}

    def hear(now_s: float, text: str) -> None:
        found = re.search(r"\(process (\d+)\) was stopped for .* while it made (.*?)\. Its", text)
        if found:
            named[int(found[1])] = (now_s, found[2])

    with heard(hear) as told:
        loader = loader_of(dataset, BATCH, num_workers=WORKERS, sample_timeout_s=LIMIT_S, seed=seed)
        thread = threading.Thread(target=_stop_some, args=(loader, count, rng, stopped))
        thread.start()
        deadline_s = time.monotonic() + 15
        while thread.is_alive() or (len(named) < count and time.monotonic() < deadline_s):
            loader.set_epoch(tally.passes % 2)
            tally.compare(_whole_pass(loader, tally), wanted[tally.passes % 2])
        thread.join()
        loader.close()
    for pid, since_s in stopped.items():
        if pid in named and re.search(r"sample|batch", named[pid][1]):
            waits["stop"].append(named[pid][0] - since_s)
        elif pid in named:
            idle.append(named[pid][0] - since_s)  # it was at no sample: there is none to name
        else:
            unnamed.append(f"stopped {pid}: {[t for _, t in told]}")


def _stop_some(loader: Any, count: int, rng: random.Random, stopped: dict[int, float]) -> None:
    while len(stopped) < count:
        time.sleep(rng.uniform(0.0, 0.6))
        nursery, workers = rig.nursery_of(loader), rig.workers_of(loader)
        workers = [pid for pid in workers if pid not in stopped]
        if nursery is not None and workers:
            pid = rng.choice(workers)
            if rig.send(pid, signal.SIGSTOP, nursery):
                stopped[pid] = time.monotonic()


def _row(
    seed: int, tally: Tally, waits: dict[str, list[float]], unnamed: list[str]
) -> dict[str, Any]:
    every = [wait for kind in waits.values() for wait in kind]
    in_time = sum(wait <= LIMIT_S + SPARE_S for wait in every)
    return {
        "campaign": "hangs",
        "seed": seed,
        "limit_s": LIMIT_S,
        "named": len(every),
        "unnamed": unnamed,
        "named_within_limit_plus_2_s": in_time,
        **spread(every),
        "by_kind": {kind: {"named": len(found), **spread(found)} for kind, found in waits.items()},
        "processors": os.cpu_count(),
        **vars(tally),
    }
