"""What the fault campaigns share: samples that can be checked, processes to harm, a watchdog.

A campaign runs in a process of its own (``run.py``), where nothing else is disturbed and where a
hang can be ended from inside, with all stacks.
"""

import contextlib
import faulthandler
import hashlib
import os
import random
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate, get_worker_info

from lightning_fastdata.loader.fast_data_loader import FastDataLoader

HANG_S = 90.0  # no batch for so long is a hang of the loader
PAGE_BYTES = 16 * 1024


class Pages(Dataset[Any]):
    """Sample ``i``: bytes that follow from ``i``, and a draw from each of the three generators.

    Args:
        length: Samples.
        pause_s: The longest that a worker sleeps at a sample; how long follows from the index.
        is_ragged: Whether samples differ in length, so that one worker has to make the whole batch.
    """

    def __init__(self, length: int, *, pause_s: float = 0.0, is_ragged: bool = False) -> None:
        self.length, self.pause_s, self.is_ragged = length, pause_s, is_ragged

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.pause_s and get_worker_info() is not None:
            time.sleep(self.pause_s * (index % 7) / 6)
        words = PAGE_BYTES // 4 - (index % 50 if self.is_ragged else 0)
        page = np.arange(words, dtype=np.uint32) * np.uint32(2 * index + 1) + np.uint32(index)
        drawn = (float(torch.rand(())), float(np.random.rand()), random.random())
        return {"index": index, "page": torch.from_numpy(page.view(np.int32)), "drawn": drawn}


def as_they_are(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Collate ragged samples: pages stay a list."""
    batch: dict[str, Any] = default_collate(
        [{name: part for name, part in each.items() if name != "page"} for each in samples]
    )
    return batch | {"page": [each["page"] for each in samples]}


def digest(batch: Any) -> str:
    """All bytes of a batch, in short."""
    found = hashlib.blake2b(digest_size=12)
    _feed(found, batch)
    return found.hexdigest()


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        found.update(f"{value.dtype}{tuple(value.shape)}".encode())
        found.update(value.contiguous().view(-1).numpy().tobytes())
    elif isinstance(value, dict):
        for name, part in value.items():
            found.update(name.encode())
            _feed(found, part)
    else:
        for part in value:
            _feed(found, part)


@dataclass
class Tally:
    """What the batches of many passes had in common with those made in this process."""

    passes: int = 0
    batches: int = 0
    samples: int = 0
    lost: int = 0
    duplicated: int = 0
    changed_batches: int = 0
    errors: list[str] = field(default_factory=list)

    def compare(
        self, got: list[tuple[str, list[int]]], wanted: list[tuple[str, list[int]]]
    ) -> None:
        """Note how a pass differs from the inline engine's."""
        found = Counter(index for _, indices in got for index in indices)
        expected = Counter(index for _, indices in wanted for index in indices)
        self.passes += 1
        self.batches += len(got)
        self.samples += sum(found.values())
        self.lost += sum((expected - found).values())
        self.duplicated += sum((found - expected).values())
        pairs = zip(got, wanted, strict=False)
        self.changed_batches += sum(one[0] != other[0] for one, other in pairs)


def loader_of(dataset: Any, batch_size: int = 8, **how: Any) -> FastDataLoader:
    """A shuffling loader; without workers unless they are asked for."""
    how.setdefault("num_workers", 0)
    if how["num_workers"]:
        how.setdefault("multiprocessing_context", "fork")
        how["engine"] = "ring"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch: more workers than cores, which is on purpose
        return FastDataLoader(dataset, batch_size, shuffle=True, **how)


def marks_of(batch: Any) -> tuple[str, list[int]]:
    """What is compared of a batch."""
    return digest(batch), batch["index"].tolist()


def inline_marks(dataset: Any, epoch: int, **how: Any) -> list[tuple[str, list[int]]]:
    """What a pass has to be: as this process makes it, without workers."""
    loader = loader_of(dataset, **how)
    loader.set_epoch(epoch)
    return [marks_of(batch) for batch in loader]


class Kept:
    """Keeps some batches for a while, as a training loop may, and sees that they do not change."""

    def __init__(self, most: int = 4) -> None:
        self.changed = 0
        self._most, self._batches = most, list[tuple[str, Any]]()

    def add(self, batch: Any) -> None:
        """Take a batch in; look at the oldest one again before it goes."""
        self._batches.append((digest(batch), batch))
        if len(self._batches) > self._most:
            before, oldest = self._batches.pop(0)
            self.changed += digest(oldest) != before


def expect_life() -> None:
    """Start the watchdog anew: without the next call in time, it shows all stacks and ends."""
    faulthandler.dump_traceback_later(HANG_S, exit=True)


@contextlib.contextmanager
def heard(when: Callable[[float, str], None] | None = None) -> Iterator[list[tuple[float, str]]]:
    """Collect every warning with the time at which it came."""
    told: list[tuple[float, str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")

        def show(message: Any, category: Any, *_: Any, **__: Any) -> None:
            now_s, text = time.monotonic(), f"{category.__name__}: {message}"
            told.append((now_s, text))
            if when is not None:
                when(now_s, text)

        warnings.showwarning = show
        yield told


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that live, by one look at ``/proc``."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_of(int(name))
            if fields and int(fields[1]) == pid and fields[0] not in "ZX":
                found.append(int(name))
    return found


def stat_of(pid: int) -> list[str]:
    """A process's fields from its state on (proc(5)); empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def nursery_of(loader: FastDataLoader) -> int | None:
    """The process that runs a loader's workers; ``None`` where none runs."""
    with contextlib.suppress(IndexError, AttributeError):
        found: int = loader._shelf._lent[0]._ring._nursery._process.pid
        return found
    return None


def workers_of(loader: FastDataLoader) -> list[int]:
    """A loader's workers."""
    nursery = nursery_of(loader)
    return [] if nursery is None else children_of(nursery)


def send(pid: int, number: int, parent: int) -> bool:
    """Send a signal to exactly this child of ``parent``; say whether it was there to get it."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        fields = stat_of(pid)  # the number may have gone to a stranger before it was opened
        if not fields or int(fields[1]) != parent or fields[0] in "ZX":
            return False
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def progress(words: str) -> None:
    """Say how far a campaign is."""
    print(words, file=sys.stderr, flush=True)


def spread(values: list[float]) -> dict[str, float | None]:
    """Median, 99th percentile and maximum, in seconds."""
    if not values:
        return {"p50_s": None, "p99_s": None, "max_s": None}
    middle, high = np.quantile(values, [0.5, 0.99])
    return {
        "p50_s": round(float(middle), 3),
        "p99_s": round(float(high), 3),
        "max_s": round(max(values), 3),
    }
