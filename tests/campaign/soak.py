"""Kills, hangs, bad files and a pool that changes size, all together and for long: does it stay
flat in memory, descriptors and threads, and does it deliver what it should all the while?"""

import random
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil  # type: ignore[import-untyped]  # it ships no types
import rig
from rig import Kept, Pages, Tally, heard, loader_of
from torch.utils.data import get_worker_info

LENGTH, BATCH = 1_000_000, 16
BATCHES_A_PASS = 60  # of far more: most passes are left half way, as limit_train_batches does
LIMIT_S = 3.0  # of wall time: with one second, a worker that got no core was called stuck
FILES = 64
BAD_FILE_EVERY, HANG_EVERY = 1500, 6000  # samples
KILL_S, STOP_S, RESIZE_S = 1.5, 15.0, 2.0  # mean pauses between two
LOOK_S = 2.0


class Files(Pages):
    """Pages, each after a look into a file; some files are missing, some samples never end.

    Args:
        folder: Where the files are.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(LENGTH, pause_s=0.004)
        self.folder = folder
        for number in range(FILES):
            Path(folder, f"{number}.bin").write_bytes(bytes([number]) * 4096)

    def __getitem__(self, index: int) -> dict[str, Any]:
        dice = (index * 2_654_435_761) % 2**32
        if dice % HANG_EVERY == 0:
            if get_worker_info() is None:
                raise TimeoutError("hangs in a worker")
            time.sleep(10_000)
        missing = dice % BAD_FILE_EVERY == 1
        name = "missing" if missing else str(index % FILES)
        read = Path(self.folder, f"{name}.bin").read_bytes()
        return super().__getitem__(index) | {"file": read[0]}


class Look(NamedTuple):
    """What the processes take at one moment."""

    at_s: float
    parent_uss: int
    nursery_rss: int
    nursery_uss: int
    parent_fds: int
    nursery_fds: int
    parent_threads: int
    nursery_threads: int


def soak(seconds: int, seed: int) -> dict[str, Any]:
    """Let everything happen together for so long."""
    rng = random.Random(seed)
    tally, looks, done = Tally(), list[Look](), {"kills": 0, "stops": 0, "resizes": 0}
    with tempfile.TemporaryDirectory() as folder, heard() as told:
        dataset = Files(folder)
        how: dict[str, Any] = {"batch_size": BATCH, "seed": seed, "on_bad_sample": "skip"}
        how["max_bad_fraction"] = 1.0
        loader = loader_of(
            dataset,
            num_workers=3,
            sample_timeout_s=LIMIT_S,
            quarantine=Path(folder, "bad.jsonl"),
            **how,
        )
        inline = loader_of(dataset, **how)
        ended = threading.Event()
        chaos = threading.Thread(target=_harm, args=(loader, rng, done, ended))
        chaos.start()
        begun_s = time.monotonic()
        kept, last_s = Kept(), begun_s
        while time.monotonic() - begun_s < seconds:
            got = _pass(loader, tally, kept, rng, done, tally.passes)
            tally.compare(got, _pass(inline, tally, None, rng, done, tally.passes)[: len(got)])
            looks.append(_look(loader, begun_s))
            del told[:-1]  # it would be memory that grows
            if time.monotonic() - last_s > 20:
                last_s = time.monotonic()
                rig.progress(f"soak: {last_s - begun_s:.0f} s, {done}, {tally}, {looks[-1]}")
        ended.set()
        chaos.join()
        tally.changed_batches += kept.changed
        bad = loader.bad_samples()
        innocent = [f"{each.index}: {each.error}" for each in bad if not _is_bad(each.index)]
        loader.close()
    return {
        "campaign": "soak",
        "seed": seed,
        "seconds": seconds,
        **done,
        "hanging_samples": sum("within" in each.error for each in bad),
        "bad_files": sum("FileNotFoundError" in each.error for each in bad),
        "good_samples_called_bad": innocent,
        **vars(tally),
        **_flatness(looks),
    }


def _is_bad(index: int) -> bool:
    dice = (index * 2_654_435_761) % 2**32
    return dice % HANG_EVERY == 0 or dice % BAD_FILE_EVERY == 1


def _pass(
    loader: Any, tally: Tally, kept: Kept | None, rng: random.Random, done: Any, epoch: int
) -> list[Any]:
    got: list[Any] = []
    loader.set_epoch(epoch)
    rig.expect_life()
    resize_at_s = time.monotonic() + rng.expovariate(1 / RESIZE_S)
    try:
        for batch in loader:
            rig.expect_life()
            got.append(rig.marks_of(batch))
            if kept is not None:
                kept.add(batch)
                if time.monotonic() > resize_at_s:
                    # Private, but the only way until the controller that re-plans is there.
                    loader._shelf._lent[0].resize(rng.randint(1, 5))
                    done["resizes"] += 1
                    resize_at_s = time.monotonic() + rng.expovariate(1 / RESIZE_S)
            if len(got) == BATCHES_A_PASS:
                break
    except Exception as error:
        tally.errors.append(f"{type(error).__name__}: {error}")
    return got


def _harm(loader: Any, rng: random.Random, done: dict[str, int], ended: threading.Event) -> None:
    next_stop_s = time.monotonic() + STOP_S
    while not ended.wait(rng.expovariate(1 / KILL_S)):
        nursery, workers = rig.nursery_of(loader), rig.workers_of(loader)
        if nursery is None or not workers:
            continue
        stops = time.monotonic() > next_stop_s
        number = signal.SIGSTOP if stops else signal.SIGKILL
        done["stops" if stops else "kills"] += rig.send(rng.choice(workers), number, nursery)
        if stops:
            next_stop_s = time.monotonic() + rng.expovariate(1 / STOP_S)


def _look(loader: Any, begun_s: float) -> Look:
    own = psutil.Process()
    idle = loader._shelf._idle or loader._shelf._lent
    nursery = psutil.Process(idle[0]._ring._nursery._process.pid)
    mine, its = own.memory_full_info(), nursery.memory_full_info()
    return Look(
        at_s=time.monotonic() - begun_s,
        parent_uss=mine.uss,
        nursery_rss=its.rss,
        nursery_uss=its.uss,
        parent_fds=own.num_fds(),
        nursery_fds=nursery.num_fds(),
        parent_threads=own.num_threads(),
        nursery_threads=nursery.num_threads(),
    )


def _flatness(looks: list[Look]) -> dict[str, Any]:
    """Slopes in MB a minute after the first minutes, and the range of what is counted."""
    settled = [look for look in looks if look.at_s > max(60.0, looks[-1].at_s / 10)]
    row: dict[str, Any] = {"looks": len(settled), "slopes_mb_per_min": {}, "mb_over_time": {}}
    minutes = np.array([look.at_s / 60 for look in settled])
    for name in ("parent_uss", "nursery_rss", "nursery_uss"):
        megabytes = np.array([getattr(look, name) / 1e6 for look in settled])
        slope = float(np.polyfit(minutes, megabytes, 1)[0])
        row["slopes_mb_per_min"][name] = round(slope, 4)
        parts = np.array_split(megabytes, 10)
        row["mb_over_time"][name] = [round(float(np.median(part)), 2) for part in parts]
    for name in ("parent_fds", "nursery_fds", "parent_threads", "nursery_threads"):
        counts = [getattr(look, name) for look in settled]
        row[name] = {"first": counts[0], "last": counts[-1], "min": min(counts), "max": max(counts)}
    return row
