"""Going over samples in worker processes and collecting what each came to."""

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightning_fastdata.checkup.sample import Examined, ExaminedStream
from lightning_fastdata.checkup.subjects import Subject
from lightning_fastdata.checkup.tally import Tally
from lightning_fastdata.checkup.user_code import one_line
from lightning_fastdata.errors import (
    BadSampleWarning,
    FastDataError,
    HazardWarning,
    WorkerWarning,
)
from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.order import EpochKey, permute

RECORDS_A_BATCH = 16  # guess: handing over 16 records costs less than making one sample
STREAM_SAMPLES = 1000  # guess; a stream may have no end


@dataclass(frozen=True, kw_only=True, slots=True)
class WalkSettings:
    """How samples are gone over."""

    num_workers: int
    """Worker processes; 0 is this process."""
    timeout_s: float | Literal["auto"] | None
    """How long a sample may take before it hangs: ``"auto"`` is a minute or more, ``None`` for
    ever. Only workers of a ring are watched."""
    max_samples: int | None
    """How many samples to look at; ``None`` is all (of a stream, the first thousand)."""


def choose_samples(length: int, max_samples: int | None) -> NDArray[np.int64] | None:
    """Choose samples from all over a dataset, in rising order; ``None`` is every one."""
    if max_samples is None or max_samples >= length:
        return None
    return np.sort(permute(np.arange(max_samples), length, EpochKey(seed=0, epoch=0)))


def walk(
    subject: Subject, settings: WalkSettings, advance: Callable[[int], None]
) -> tuple[Tally, str | None]:
    """Make each chosen sample once; those that hang or end their worker are bad ones as well.

    Args:
        subject: Whose samples.
        settings: How.
        advance: Told how many samples more are done.

    Returns:
        What was found, and why it ended early; ``None`` where it did not.
    """
    tally, stopped = Tally(), None
    with tempfile.TemporaryDirectory() as folder, quiet_faults():
        path = Path(folder) / "bad.jsonl"
        loader = _loader_of(subject, settings, path)
        try:
            for records in loader:
                for record in records:
                    tally.add(record)
                advance(len(records))
        except FastDataError as error:
            stopped = one_line(error)
        finally:
            loader.close()
        for index, error_text in _left_out(path):
            tally.add_lost(index, error_text)
    return tally, stopped


def values_of(
    subject: Subject, dataset: Any, settings: WalkSettings, num_workers: int
) -> Iterator[Any]:
    """Give what ``dataset`` makes of each of its indices, one after the other, in order."""
    with quiet_faults():
        loader = FastDataLoader(
            dataset,
            batch_size=RECORDS_A_BATCH,
            collate_fn=list,
            num_workers=min(num_workers, settings.num_workers),
            sample_timeout_s=settings.timeout_s,
            worker_init_fn=subject.worker_init_fn,
        )
        try:
            for values in loader:
                yield from values
        finally:
            loader.close()


@contextmanager
def quiet_faults() -> Iterator[None]:
    """Hide warnings about what the report will tell in full."""
    with warnings.catch_warnings():
        for category in (BadSampleWarning, HazardWarning, WorkerWarning):
            warnings.simplefilter("ignore", category)
        yield


def _loader_of(subject: Subject, settings: WalkSettings, quarantine: Path) -> FastDataLoader:
    collates = subject.collates_by_default
    shared: dict[str, Any] = {
        "batch_size": RECORDS_A_BATCH,
        "collate_fn": list,
        "sample_timeout_s": settings.timeout_s,
        "worker_init_fn": subject.worker_init_fn,
    }
    if subject.length is None:
        samples = STREAM_SAMPLES if settings.max_samples is None else settings.max_samples
        stream = ExaminedStream(subject.dataset, samples, collates=collates)
        return FastDataLoader(stream, num_workers=min(1, settings.num_workers), **shared)
    chosen = choose_samples(subject.length, settings.max_samples)
    return FastDataLoader(
        Examined(subject.dataset, collates=collates),
        sampler=None if chosen is None else chosen.tolist(),
        num_workers=settings.num_workers,
        on_bad_sample="leave_out",
        max_bad_fraction=1.0,
        quarantine=quarantine,
        **shared,
    )


def _left_out(path: Path) -> Iterator[tuple[int, str]]:
    """Read what the loader lists of samples that no worker lived to tell about."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        record = json.loads(line)
        if "error" in record:
            # What follows is advice for somebody who trains.
            yield record["index"], record["error"].partition(", wanted ")[0]
