"""One cell of ``bench_tuner``'s table: a loader with a fixed setting, and how long its loop waits.

The loop stands for training on a device: after each batch the host sleeps for the step's time. The
stall is the time that the loop waits for batches as a share of all its time.
"""

import contextlib
import hashlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from feed_sets import same, tensors_of
from torch.utils.data import DataLoader, Dataset
from tuner_sets import Workload

from lightning_fastdata import FastDataLoader, LoaderPlan

COMPARED = 4  # batches that have to be equal before anything is timed
SETTLE_S, LONGEST_SETTLE_S = 0.5, 2.0
FEWEST_BATCHES = 8  # a cell with slow batches lasts longer than asked for, up to four times


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a loader makes its batches."""

    engine: str
    num_workers: int
    per_worker: int = 0
    """Batches in flight a worker; 0 without workers."""

    @property
    def in_flight(self) -> int:
        return self.num_workers * self.per_worker

    def loader(self, workload: Workload, dataset: Dataset[Any]) -> Any:
        options: dict[str, Any] = {"num_workers": self.num_workers}
        if self.num_workers:
            options |= {"prefetch_factor": self.per_worker, "multiprocessing_context": "fork"}
        options |= {"batch_size": workload.batch_size, "collate_fn": workload.collate_fn}
        if self.engine == "torch":
            return DataLoader(dataset, **options)
        return FastDataLoader(dataset, engine=self.engine, **options)  # type: ignore[arg-type]


def setting_of(plan: LoaderPlan) -> Setting:
    """The cell of the table that a plan is."""
    per_worker = plan.prefetch_batches // plan.num_workers if plan.num_workers else 0
    return Setting(engine=plan.engine, num_workers=plan.num_workers, per_worker=per_worker)


def planned(workload: Workload, dataset: Dataset[Any], plan: LoaderPlan) -> FastDataLoader:
    """A loader that does what a plan says."""
    return FastDataLoader(
        dataset, batch_size=workload.batch_size, collate_fn=workload.collate_fn, plan=plan
    )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a loop saw once its loader had settled."""

    stall_fraction: float
    samples_per_s: float
    batches: int


def passes(loader: Any) -> Iterator[Any]:
    """One pass after the other; closing it ends the loader's workers."""
    try:
        while True:
            yield from loader
    finally:
        if isinstance(loader, FastDataLoader):
            loader.close()


def measure(
    loader: Any, workload: Workload, step_s: float, seconds: float, in_flight: int
) -> Measured:
    """Run the loop until its loader has settled, and then for so many seconds."""
    with contextlib.closing(passes(loader)) as batches:
        run(batches, step_s, min(SETTLE_S, seconds), LONGEST_SETTLE_S, in_flight + 1)
        wait_s, busy_s, seen = run(batches, step_s, seconds, 4 * seconds, FEWEST_BATCHES)
    return Measured(
        stall_fraction=wait_s / (wait_s + busy_s),
        samples_per_s=seen * workload.batch_size / (wait_s + busy_s),
        batches=seen,
    )


def run(
    batches: Iterator[Any], step_s: float, least_s: float, most_s: float, fewest: int
) -> tuple[float, float, int]:
    """Train for a while; give the seconds waited, those of the steps, and the batches."""
    wait_s = busy_s = 0.0
    seen = 0
    while wait_s + busy_s < least_s or (seen < fewest and wait_s + busy_s < most_s):
        wanted_s = time.perf_counter()
        batch = next(batches)
        taken_s = time.perf_counter()
        time.sleep(step_s)
        busy_s += time.perf_counter() - taken_s
        wait_s += taken_s - wanted_s
        seen += 1
        del batch
    return wait_s, busy_s, seen


def refuse_other_answers(workload: Workload, dataset: Dataset[Any], plan: LoaderPlan) -> None:
    """Compare what is going to be timed, batch by batch: never time a wrong answer."""
    settings = [Setting(engine="ring", num_workers=2, per_worker=2)]
    if not workload.draws:
        settings.append(Setting(engine="torch", num_workers=0))
    loaders = [setting.loader(workload, dataset) for setting in settings]
    loaders.append(planned(workload, dataset, replace(plan, max_workers=None)))
    wanted = first_batches(Setting(engine="inline", num_workers=0).loader(workload, dataset))
    for loader in loaders:
        found = first_batches(loader)
        assert len(found) == COMPARED, f"{workload.name}: {len(found)} batches of {COMPARED}"
        for one, other in zip(found, wanted, strict=True):
            assert same(one, other), f"{workload.name}: never time a wrong answer"


def first_batches(loader: Any) -> list[Any]:
    with contextlib.closing(passes(loader)) as batches:
        return list(islice(batches, COMPARED))


def digest_of(batch: Any) -> str:
    """A short text that is the same for batches of the same bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors_of(batch):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def medians(runs: list[Measured]) -> dict[str, Any]:
    """Figures of a cell: medians, and quartiles of the stall where there were enough rounds."""
    stalls = [run.stall_fraction for run in runs]
    found: dict[str, Any] = {
        "stall": round(statistics.median(stalls), 4),
        "samples_per_s": round(statistics.median(run.samples_per_s for run in runs), 1),
        "batches": sum(run.batches for run in runs),
        "rounds": len(runs),
    }
    if len(runs) > 1:
        low, _, high = statistics.quantiles(stalls, n=4, method="inclusive")
        found["stall_quartiles"] = [round(low, 4), round(high, 4)]
    return found
