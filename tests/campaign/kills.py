"""Kills of workers and of the nursery at random times: is anything lost, doubled or changed?"""

import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import rig
from rig import Kept, Pages, Tally, heard, loader_of

EPOCHS = 6  # different ones, made inline once to compare with
SAMPLES, BATCH = 160, 8
MEAN_PAUSE_S = 0.07  # between two kills of a worker
BURSTS = 0.1  # share of the kills that hit all workers at once


class Way(NamedTuple):
    """A way to load: how workers are started, and whether one makes a whole batch."""

    start: str
    is_ragged: bool
    share: float


WAYS = (Way("fork", False, 0.5), Way("fork", True, 0.25), Way("spawn", False, 0.25))


def amounts(count: int) -> list[tuple[Way, int]]:
    """How many of so many kills each way gets."""
    each = [max(1, round(count * way.share)) for way in WAYS[:-1]]
    return list(zip(WAYS, [*each, max(1, count - sum(each))], strict=True))


class Killer(threading.Thread):
    """Calls ``strike`` again and again, at times of its own, until enough have been hit."""

    def __init__(self, strike: Callable[[], int], pause_s: Callable[[], float], most: int) -> None:
        super().__init__(daemon=True)
        self.hit = 0
        self._strike, self._pause_s, self._most = strike, pause_s, most
        self._ended = threading.Event()

    def run(self) -> None:
        while self.hit < self._most and not self._ended.wait(self._pause_s()):
            self.hit += self._strike()

    def end(self) -> None:
        self._ended.set()
        self.join()


def kill_workers(loader: Any, rng: random.Random) -> int:
    """Kill one worker, now and then all; say how many were hit."""
    nursery, workers = rig.nursery_of(loader), rig.workers_of(loader)
    if nursery is None or not workers:
        return 0
    chosen = workers if rng.random() < BURSTS else [rng.choice(workers)]
    return sum(rig.send(pid, signal.SIGKILL, nursery) for pid in chosen)


def kills(count: int, seed: int) -> dict[str, Any]:
    """Kill workers over many short epochs."""
    rng = random.Random(seed)
    tally, ways = Tally(), {}
    for way, most in amounts(count):
        loader, wanted = _campaign_of(way, seed)
        killer = Killer(
            partial(kill_workers, loader, rng), partial(rng.expovariate, 1 / MEAN_PAUSE_S), most
        )
        _until_done(loader, killer, tally, wanted, f"{way.start} kills")
        ways[f"{way.start}, {'whole batches' if way.is_ragged else 'rows'}"] = killer.hit
    return _row("kills", seed, tally, ways)


class NurseryKills:
    """Kills a loader's nursery, at work or while it starts, but never three without a batch.

    The fourth in a row would be an error, by design.
    """

    def __init__(self, loader: Any, rng: random.Random) -> None:
        self._loader, self._rng = loader, rng
        self._struck: set[int] = set()
        self._in_a_row = 0

    def strike(self) -> int:
        """Kill it, or leave it alone this time; say how many were hit."""
        pid = rig.nursery_of(self._loader)
        may = self._in_a_row == 0 or (self._in_a_row == 1 and self._rng.random() < 0.5)
        if pid is None or pid in self._struck or not may:
            return 0
        if not rig.send(pid, signal.SIGKILL, os.getpid()):
            return 0
        self._struck.add(pid)
        self._in_a_row += 1
        return 1

    def got_batch(self) -> None:
        """A batch has come."""
        self._in_a_row = 0


def nursery_kills(count: int, seed: int) -> dict[str, Any]:
    """Kill the process that runs the workers."""
    rng = random.Random(seed)
    tally, ways = Tally(), {}
    for way, most in amounts(count):
        loader, wanted = _campaign_of(way, seed)
        victim = NurseryKills(loader, rng)
        killer = Killer(victim.strike, partial(rng.uniform, 0.0, 1.0), most)
        _until_done(loader, killer, tally, wanted, f"{way.start} nursery kills", victim.got_batch)
        ways[f"{way.start}, {'whole batches' if way.is_ragged else 'rows'}"] = killer.hit
    return _row("nursery_kills", seed, tally, ways)


def _campaign_of(way: Way, seed: int) -> tuple[Any, list[Any]]:
    """A loader, and what each of its epochs has to be."""
    dataset = Pages(SAMPLES, pause_s=0.004, is_ragged=way.is_ragged)
    collate = rig.as_they_are if way.is_ragged else None
    how: dict[str, Any] = {"batch_size": BATCH, "collate_fn": collate, "seed": seed}
    wanted = [rig.inline_marks(dataset, epoch, **how) for epoch in range(EPOCHS)]
    return loader_of(dataset, num_workers=3, multiprocessing_context=way.start, **how), wanted


def _until_done(
    loader: Any,
    killer: Killer,
    tally: Tally,
    wanted: list[Any],
    words: str,
    got_batch: Callable[[], None] = lambda: None,
) -> None:
    """Pass after pass until the killer is done, and two more in peace."""
    kept, last_s, in_peace = Kept(), time.monotonic(), 0
    with heard():
        killer.start()
        while in_peace < 2:
            in_peace += not killer.is_alive()
            epoch = tally.passes % EPOCHS
            _one_pass(loader, epoch, tally, wanted[epoch], kept, got_batch)
            if time.monotonic() - last_s > 10:
                last_s = time.monotonic()
                rig.progress(f"{words}: {killer.hit}, {tally}")
        killer.end()
        loader.close()
    tally.changed_batches += kept.changed


def _one_pass(
    loader: Any, epoch: int, tally: Tally, wanted: Any, kept: Kept, got_batch: Callable[[], None]
) -> None:
    got = []
    rig.expect_life()
    loader.set_epoch(epoch)
    try:
        for batch in loader:
            rig.expect_life()
            got_batch()
            got.append(rig.marks_of(batch))
            kept.add(batch)
    except Exception as error:
        tally.errors.append(f"{type(error).__name__}: {error}")
    tally.compare(got, wanted)


def _row(campaign: str, seed: int, tally: Tally, ways: dict[str, int]) -> dict[str, Any]:
    kills = sum(ways.values())
    # Hangs: the watchdog ends this process at the first one.
    row = {"campaign": campaign, "seed": seed, "kills": kills, "kills_by_way": ways, "hangs": 0}
    return row | vars(tally)


def throughput(rounds: int, seed: int, seconds: float = 5.0) -> dict[str, Any]:
    """Samples of 10 ms of CPU work, with one kill a second and without, in turns."""
    rng = random.Random(seed)
    dataset = Work()
    rates: dict[str, list[float]] = {"undisturbed": [], "one kill a second": []}
    with heard():
        loader = loader_of(dataset, 16, num_workers=2, seed=seed)
        batches = _for_ever(loader)
        for turn in range(rounds + 1):
            for name, values in rates.items():
                most = int(1.2 * seconds) if name != "undisturbed" else 0
                killer = Killer(
                    partial(kill_one, loader, rng), partial(rng.uniform, 0.5, 1.5), most
                )
                killer.start()
                begun_s, samples = time.monotonic(), 0
                while time.monotonic() - begun_s < seconds:
                    samples += len(next(batches)["index"])
                    rig.expect_life()
                rate = samples / (time.monotonic() - begun_s)
                killer.end()
                if turn:  # the first is a warm-up
                    values.append(rate)
                rig.progress(f"throughput, {name}: {rate:.1f} samples/s, {killer.hit} kills")
        batches.close()
        loader.close()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    pairs = [b / a for a, b in zip(*rates.values(), strict=True)]
    return {
        "campaign": "throughput",
        "seed": seed,
        "samples_per_s": {name: [round(v, 1) for v in values] for name, values in rates.items()},
        "ratio_of_medians": round(medians["one kill a second"] / medians["undisturbed"], 3),
        "ratio_by_round": [round(pair, 3) for pair in pairs],
        "wanted": 0.8,
    }


def kill_one(loader: Any, rng: random.Random) -> int:
    """Kill one worker."""
    nursery, workers = rig.nursery_of(loader), rig.workers_of(loader)
    if nursery is None or not workers:
        return 0
    return rig.send(rng.choice(workers), signal.SIGKILL, nursery)


def _for_ever(loader: Any) -> Any:
    while True:
        yield from loader


class Work(Pages):
    """Samples that cost about 10 ms of CPU time each."""

    def __init__(self) -> None:
        super().__init__(100_000)

    def __getitem__(self, index: int) -> dict[str, Any]:
        begun_s = time.thread_time()
        while time.thread_time() - begun_s < 0.01:
            sum(range(1000))
        return super().__getitem__(index)
