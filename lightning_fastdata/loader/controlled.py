"""What it takes for a loader to find its number of workers while training runs."""

import os
from functools import partial

from torch.utils.data import IterableDataset

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.loader.adapting import Adaptation, Agrees
from lightning_fastdata.loader.agree import agreement_for
from lightning_fastdata.loader.make import Recipe, is_rows
from lightning_fastdata.machine import read_machine
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.tuning.control.controller import Controller
from lightning_fastdata.tuning.control.limits import ControlLimits


def adaptation_of(plan: LoaderPlan, recipe: Recipe, max_stall_fraction: float) -> Adaptation | None:
    """How a loader adapts; ``None`` where its number of workers stays as it is.

    Args:
        plan: What it begins with; ``max_workers`` says whether and how far.
        recipe: What it makes batches with.
        max_stall_fraction: Share of a step (0 to 1) that training may wait.

    Raises:
        SettingsError: If the share is none.
    """
    if not 0 <= max_stall_fraction <= 1:
        raise SettingsError(
            f"max_stall_fraction={max_stall_fraction}, wanted 0 to 1. Pass for example 0.02 for "
            "2 %."
        )
    if plan.max_workers is None or isinstance(recipe.dataset, IterableDataset):
        return None
    return Adaptation(
        partial(_controller, plan, max_stall_fraction, is_rows(recipe)),
        partial(_agreement, type(recipe.dataset), plan.max_workers),
    )


def _controller(
    plan: LoaderPlan, max_stall_fraction: float, is_cut: bool, num_workers: int
) -> Controller:
    assert plan.max_workers is not None
    limits = ControlLimits(
        most_workers=max(plan.max_workers, num_workers),
        least_workers=min(num_workers, 1),
        cores=plan.cores or read_machine(os.environ).cores,
        max_stall_fraction=max_stall_fraction,
        is_cut=is_cut,
        engine="ring" if plan.engine == "inline" else plan.engine,
    )
    return Controller(limits, num_workers=num_workers)


def _agreement(dataset: type, most_workers: int, num_workers: int) -> Agrees:
    return agreement_for(
        f"{dataset.__module__}.{dataset.__qualname__}",
        num_workers=num_workers,
        most_workers=max(most_workers, num_workers),
    )
