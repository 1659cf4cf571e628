"""The first plan of a loader that was given none, and what torch's loader is told of a plan."""

from functools import partial
from typing import Any

from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.measure import measure_and_choose, recalled
from lightning_fastdata.loader.mend import OnBadSample
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.tuning.choose import Wishes
from lightning_fastdata.tuning.memory import PlanMemory


def planned(
    recipe: Recipe,
    batch_size: int | None,
    *,
    max_stall_fraction: float,
    on_bad_sample: OnBadSample,
    **wishes: Any,
) -> LoaderPlan:
    """Choose a plan by what was remembered, else by reading some samples where that is needed.

    Args:
        recipe: What batches are made with.
        batch_size: Samples a batch; ``None`` counts as 1.
        max_stall_fraction: Share (0 to 1) of a step that training may wait.
        on_bad_sample: Whether a bad sample that is read is an error.
        wishes: What the user fixed; the fields of ``Wishes``.
    """
    return measure_and_choose(
        Wishes(**wishes),
        recipe,
        batch_size or 1,
        max_stall_fraction=max_stall_fraction,
        bad_samples_end_it=on_bad_sample == "raise",
        recall=partial(recalled, PlanMemory(), recipe, batch_size or 1),
    )


def arguments_of(plan: LoaderPlan) -> dict[str, Any]:
    """What the constructor of torch's loader is told of a plan."""
    workers = plan.num_workers
    return {
        "num_workers": workers,
        "pin_memory": plan.pin_memory,
        "prefetch_factor": plan.prefetch_batches // workers if workers else None,
        "persistent_workers": plan.persistent_workers,
    }
