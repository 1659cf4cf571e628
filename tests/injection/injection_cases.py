"""The bottlenecks that are injected, and what has to be said of each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bottlenecks import (
    BurningCollate,
    BurningTransform,
    ColdAtFirst,
    ColdMap,
    Large,
    Throttled,
    Timed,
    as_arrays,
    sleep_at_start,
)
from injection_rig import Setup, SlowCallback

from lightning_fastdata.stalls import Cause

STEPS, QUICK_STEPS, BATCH = 60, 45, 4
SAMPLES, QUICK_SAMPLES = STEPS * BATCH, QUICK_STEPS * BATCH


@dataclass(frozen=True, kw_only=True)
class Injected:
    """A run with a known bottleneck.

    Attributes:
        setup: Makes the run; what it reads lies in the folder.
        cause: What its first finding has to name; ``None``: no finding worth more than 5 %.
        remedy: The advised change, where it is none of arguments; ``None``: follow ``changes``.
        is_predicted: Whether the finding has a prediction to check.
        why: Why this cause is the right one, where that may be asked.
    """

    setup: Callable[[Path], Setup]
    cause: Cause | None
    remedy: Callable[[Setup], Setup] | None = None
    is_predicted: bool = True
    why: str = ""


def _loader(num_workers: int, **options: object) -> dict[str, object]:
    return {"batch_size": BATCH, "num_workers": num_workers, **options}


def _sleeping(
    *, num_workers: int, sample_s: float, is_fast: bool, step_s: float = 0.04
) -> Callable[[Path], Setup]:
    return lambda folder: Setup(
        dataset=Timed(SAMPLES, sleep_s=sample_s),
        is_fast=is_fast,
        step_s=step_s,
        loader=_loader(num_workers),
    )


def _tail(*, sample_s: float, times: float, slow: range, is_fast: bool) -> Callable[[Path], Setup]:
    """One sample a batch, so that a slow one is a slow batch."""
    return lambda folder: Setup(
        dataset=Timed(2 * STEPS, sleep_s=sample_s, slow=dict.fromkeys(slow, times)),
        is_fast=is_fast,
        loader={"batch_size": 1, "num_workers": 1},
    )


def _with(dataset: Callable[[Path], object], **options: object) -> Callable[[Path], Setup]:
    """A run over a dataset that lies in the folder."""
    return lambda folder: Setup(dataset=dataset(folder), **options)  # type: ignore[arg-type]  # as Setup has them


def _quick(setup: Setup) -> Setup:
    return replace(setup, dataset=Timed(len(setup.dataset), sleep_s=setup.dataset.sleep_s))  # type: ignore[attr-defined,arg-type]  # a Timed


def _cheap_collate(setup: Setup) -> Setup:
    return replace(setup, loader={**setup.loader, "collate_fn": BurningCollate(0.0)})


def _again(setup: Setup) -> Setup:
    return setup


CASES: dict[str, Injected] = {
    "too_few_workers-torch": Injected(
        setup=_sleeping(num_workers=1, sample_s=0.016, is_fast=False), cause="too_few_workers"
    ),
    "too_few_workers-ring": Injected(
        setup=_sleeping(num_workers=1, sample_s=0.016, is_fast=True), cause="too_few_workers"
    ),
    "three_short_of_five-torch": Injected(
        setup=_sleeping(num_workers=2, sample_s=0.035, is_fast=False), cause="too_few_workers"
    ),
    "computing_a_little-torch": Injected(
        setup=lambda folder: Setup(
            dataset=Timed(SAMPLES, sleep_s=0.015, cpu_s=0.001), loader=_loader(1)
        ),
        cause="too_few_workers",
        why="Workers mostly wait for something that has no name: more of them wait at once.",
    ),
    "no_workers-torch": Injected(
        setup=_sleeping(num_workers=0, sample_s=0.01, is_fast=False), cause="too_few_workers"
    ),
    "no_workers-inline": Injected(
        setup=_sleeping(num_workers=0, sample_s=0.01, is_fast=True), cause="too_few_workers"
    ),
    "costly_batch_transform-ring": Injected(
        setup=lambda folder: Setup(
            dataset=Timed(SAMPLES),
            is_fast=True,
            loader=_loader(1, batch_transform=BurningTransform(0.06)),
        ),
        cause="too_few_workers",
        why="It needs 1.6 cores of two: a second worker is enough, so its cost is no bottleneck.",
    ),
    "costly_collate-torch": Injected(
        setup=lambda folder: Setup(
            dataset=Timed(SAMPLES, sleep_s=0.002),
            loader=_loader(2, collate_fn=BurningCollate(0.12)),
        ),
        cause="cpu_saturated",
        remedy=_cheap_collate,
        why="It needs 3.2 cores of two: no number of workers is enough.",
    ),
    "more_workers_than_cores-torch": Injected(
        setup=lambda folder: Setup(dataset=Timed(SAMPLES, cpu_s=0.03), loader=_loader(5)),
        cause="cpu_saturated",
    ),
    "as_many_workers_as_cores-ring": Injected(
        setup=lambda folder: Setup(
            dataset=Timed(SAMPLES, sleep_s=0.004, cpu_s=0.03), is_fast=True, loader=_loader(2)
        ),
        cause="cpu_saturated",
        remedy=_quick,
    ),
    "throttled_file-torch": Injected(
        setup=_with(
            lambda folder: Throttled(
                SAMPLES, folder / "data", sample_bytes=160_000, bytes_per_s=1e7
            ),
            loader=_loader(1),
        ),
        cause="storage",
    ),
    "throttled_file-ring": Injected(
        setup=_with(
            lambda folder: Throttled(
                SAMPLES, folder / "data", sample_bytes=320_000, bytes_per_s=1e7
            ),
            loader=_loader(2),
            is_fast=True,
        ),
        cause="storage",
    ),
    "cold_map-torch": Injected(
        setup=_with(lambda folder: ColdMap(SAMPLES, folder / "map", pages=200), loader=_loader(1)),
        cause="storage",
    ),
    "heavy_tail-torch": Injected(
        setup=_tail(sample_s=0.034, times=6, slow=range(7, 2 * STEPS, 16), is_fast=False),
        cause="slow_samples",
        remedy=_quick,
        why="6 % of samples; without them one worker keeps up.",
    ),
    "heavy_tail-ring": Injected(
        setup=_tail(sample_s=0.034, times=8, slow=range(7, 2 * STEPS, 16), is_fast=True),
        cause="slow_samples",
        remedy=_quick,
    ),
    "one_sample-torch": Injected(
        setup=_tail(sample_s=0.02, times=50, slow=range(80, 81), is_fast=False),
        cause="slow_samples",
        remedy=_quick,
    ),
    "large_arrays-torch": Injected(
        setup=lambda folder: Setup(
            dataset=Large(SAMPLES, sample_bytes=8_000_000),
            loader=_loader(2, collate_fn=as_arrays),
        ),
        cause="ipc",
    ),
    "validation_every_5_steps-torch": Injected(
        setup=lambda folder: Setup(
            dataset=Timed(SAMPLES),
            loader=_loader(1),
            trainer={"val_check_interval": 5},
            validation_s=0.06,
        ),
        cause="host_other",
    ),
    "slow_logger-torch": Injected(
        setup=lambda folder: Setup(
            dataset=Timed(SAMPLES),
            loader=_loader(1),
            trainer={"log_every_n_steps": 1},
            logger_s=0.01,
        ),
        cause="host_other",
    ),
    "slow_callback-ring": Injected(
        setup=lambda folder: Setup(
            dataset=Timed(SAMPLES), is_fast=True, loader=_loader(1), callbacks=(SlowCallback,)
        ),
        cause="host_other",
        is_predicted=False,
        why="The stall is none before and after; what a cheaper callback wins is its own share.",
    ),
    "cold_first_epoch-torch": Injected(
        setup=_with(
            lambda folder: ColdAtFirst(SAMPLES, folder / "cold", sample_bytes=10_000, cold_s=0.018),
            loader=_loader(1, persistent_workers=True),
            trainer={"max_epochs": 2},
        ),
        cause="storage",
        remedy=_again,
        why="The second run finds the data in memory, as after reading all of it once.",
    ),
    "workers_start_again-torch": Injected(
        setup=lambda folder: Setup(
            dataset=Timed(10 * BATCH),
            loader=_loader(2, worker_init_fn=sleep_at_start),
            trainer={"max_epochs": 7},
        ),
        cause="epoch_start",
        is_predicted=False,  # the start of an epoch is no part of the stall
    ),
    "too_many_workers-torch": Injected(
        setup=_sleeping(num_workers=6, sample_s=0.005, is_fast=False), cause="too_many_workers"
    ),
    "nothing_wrong-torch": Injected(
        setup=_sleeping(num_workers=1, sample_s=0.003, is_fast=False, step_s=0.06),
        cause=None,
        is_predicted=False,
    ),
    "nothing_wrong-ring": Injected(
        setup=_sleeping(num_workers=1, sample_s=0.003, is_fast=True, step_s=0.06),
        cause=None,
        is_predicted=False,
    ),
}
QUICK: dict[str, Injected] = {
    "too_few_workers-quick": Injected(
        setup=lambda folder: Setup(
            dataset=Timed(QUICK_SAMPLES, sleep_s=0.012),
            is_fast=True,
            step_s=0.03,
            loader=_loader(1),
        ),
        cause="too_few_workers",
    ),
    "one_sample-quick": Injected(
        setup=lambda folder: Setup(
            dataset=Timed(QUICK_SAMPLES, sleep_s=0.005, slow={130: 60}),
            is_fast=True,
            step_s=0.03,
            loader=_loader(1),
        ),
        cause="slow_samples",
        remedy=_quick,
    ),
    "nothing_wrong-quick": Injected(
        setup=lambda folder: Setup(
            dataset=Timed(QUICK_SAMPLES, sleep_s=0.002),
            is_fast=True,
            step_s=0.03,
            loader=_loader(1),
        ),
        cause=None,
        is_predicted=False,
    ),
}
"""Those that run with every test run."""
