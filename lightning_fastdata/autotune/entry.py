"""``tune``: the fewest workers that keep training fed, found by trying."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from lightning_fastdata.autotune.source import source_of
from lightning_fastdata.autotune.step_time import measure_step
from lightning_fastdata.errors import SettingsError
from lightning_fastdata.loader.check import check_batches
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.trials import Findings, Search, StepTime, Trial, plan_of

MOST_RANKS = 4096  # guess: on one machine
MOST_S = 1_000_000  # guess: no step or search takes days; nanoseconds add up to 64 bits somewhere


def tune(
    source: Any,
    *,
    batch_size: int | None = None,
    step_time_s: float | None = None,
    model: Any = None,
    budget_s: float = 10.0,
    max_stall_fraction: float = 0.02,
    exhaustive: bool = False,
    local_world_size: int | None = None,
) -> LoaderPlan:
    """Find the fewest workers that keep training fed, by trying some on the real dataset.

    A few samples are measured, the stall of each number of workers is predicted from them, and the
    numbers that matter are tried: a real loader feeds a loop that takes as long as a training step.
    One worker more is taken where those would not do with batches that cost 1.2 times as much.
    Nothing of yours is changed: no file, no state of the data module, the model or the random
    generators, and no process is left. With ``model`` on a GPU, CUDA is started in this process;
    before a run with several processes by fork, pass ``step_time_s`` instead.

    Args:
        source: What training reads: a ``LightningDataModule`` (its training loader is meant), a
            ``DataLoader``, a map-style dataset, or a function or class without arguments that
            builds one of them. A number of workers that it fixes plays no part.
        batch_size: Samples a batch; ``None`` is the source's own, 32 for a dataset.
        step_time_s: Seconds of a training step without its wait for data, above 0. It is taken to
            leave the CPU idle, as with a GPU that does the work.
        model: A ``LightningModule`` to measure a step of instead: some 50 steps or 3 seconds of a
            copy, on one real batch, on the accelerator that Lightning chooses, with the trainer's
            default precision. With neither, the most batches a second are looked for.
        budget_s: Seconds after which no other number is tried; a trial takes 1 to 3 of them, or
            five batches where these are slow. One that would not end in time is not made: then the
            prediction alone chooses.
        max_stall_fraction: Share of a step (0 to 1) that may be spent waiting.
        exhaustive: Whether every number from 0 to twice the cores is tried, two times each and
            whatever the budget: half a minute on 2 cores, five minutes on 32.
        local_world_size: Ranks that will train on this machine and share its cores; ``None`` reads
            it from the environment, and is 1 without a launcher. One rank is tried; on Linux its
            trials run on that rank's whole cores only. What the others take of memory and storage
            is not imitated, and a model that computes on the CPU is refused.

    Returns:
        The plan, with what was weighed (``candidates``: predicted, and where tried, measured) and
        why (``reasons``). ``FastDataLoader(dataset, ..., plan=plan)`` loads by it, and the number
        stays as it is; ``FastDataModule`` takes it as ``num_workers=plan.num_workers``.

    Raises:
        SettingsError: If arguments cannot work, or there is nothing to choose: an
            ``IterableDataset``, several training loaders, a loader of a class of its own.
        DatasetError: If the source cannot be built, or is empty. What a sample raises goes on.
    """
    return tune_with(
        source,
        batch_size=batch_size,
        step_time_s=step_time_s,
        model=model,
        budget_s=budget_s,
        max_stall_fraction=max_stall_fraction,
        exhaustive=exhaustive,
        local_world_size=local_world_size,
    )


def tune_with(
    source: Any,
    *,
    batch_size: int | None = None,
    step_time_s: float | None = None,
    model: Any = None,
    budget_s: float = 10.0,
    max_stall_fraction: float = 0.02,
    exhaustive: bool = False,
    local_world_size: int | None = None,
    on_trial: Callable[[Trial, Findings], object] = lambda trial, findings: None,
) -> LoaderPlan:
    """Do what ``tune`` does, and say how far it has come.

    Args:
        source: As ``tune`` takes it, like all the others.
        batch_size: As above.
        step_time_s: As above.
        model: As above.
        budget_s: As above.
        max_stall_fraction: As above.
        exhaustive: As above.
        local_world_size: As above.
        on_trial: Called after each trial, with it and what is known by then.
    """
    _check(batch_size, step_time_s, model, budget_s, max_stall_fraction)
    _check_ranks(local_world_size)
    with _generators_kept():
        found = source_of(source, batch_size)
        step = None
        if step_time_s is not None:
            step = StepTime(step_ns=max(1, round(step_time_s * 1e9)), source="as it was given")
        elif model is not None:
            step = measure_step(model, found)
            _check_device(step, local_world_size)
        subject = replace(found.subject, local_world_size=local_world_size)
        if subject.pin_memory is None and step is not None:
            subject = replace(subject, pin_memory=step.is_on_cuda)
        search = Search(subject, step, max_stall_fraction=max_stall_fraction, on_trial=on_trial)
        return plan_of(search.exhaust() if exhaustive else search.settle(budget_s))


def _check(
    batch_size: Any, step_time_s: Any, model: Any, budget_s: Any, max_stall_fraction: Any
) -> None:
    """Refuse arguments that cannot work, before anything is built."""
    check_batches(None, batch_size, drop_last=False)
    if step_time_s is not None and model is not None:
        raise SettingsError(
            f"step_time_s={step_time_s!r} with model={type(model).__name__}, wanted one of the two:"
            " the model is there to measure the step's time. Leave one out."
        )
    for name, value in (("budget_s", budget_s), ("step_time_s", step_time_s)):
        if value is not None and not (_is_number(value) and 0 < value < MOST_S):
            raise SettingsError(
                f"{name}={value!r}, wanted seconds above 0 and below {MOST_S:,}. Pass for example "
                "10, or leave it out."
            )
    if not (_is_number(max_stall_fraction) and 0 <= max_stall_fraction <= 1):
        raise SettingsError(
            f"max_stall_fraction={max_stall_fraction!r}, wanted a share from 0 to 1. Leave it out "
            "for 0.02, two percent of a step."
        )


def _check_ranks(local_world_size: Any) -> None:
    if local_world_size is None:
        return
    if not isinstance(local_world_size, int) or isinstance(local_world_size, bool):
        found = f"local_world_size={local_world_size!r}, wanted a whole number"
    elif not 1 <= local_world_size <= MOST_RANKS:
        found = f"local_world_size={local_world_size}, wanted 1 to {MOST_RANKS:,}"
    else:
        return
    raise SettingsError(
        f"{found}: the ranks that will train on this machine. Pass as many as it has GPUs, or "
        "leave it out to have it read from the environment."
    )


def _check_device(step: StepTime, local_world_size: int | None) -> None:
    if step.computes_on_host and local_world_size is not None and local_world_size > 1:
        raise SettingsError(
            f"local_world_size={local_world_size} with a model that computes on the CPU, wanted one"
            " with a device of its own: its step was measured with the cores of all ranks. Pass "
            "step_time_s, as it is with that many ranks."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Put the random generators back as they were; CUDA's only where it was in use before."""
    states: list[Callable[[], object]] = [
        partial(random.setstate, random.getstate()),
        partial(np.random.set_state, np.random.get_state()),
        partial(torch.set_rng_state, torch.get_rng_state()),
    ]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has no types here
        states.append(partial(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    try:
        yield
    finally:
        for restore in states:
            restore()
