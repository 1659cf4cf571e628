"""Plans that are made up, with what was weighed for them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lightning_fastdata.plan import Candidate, LoaderPlan

STALLS = (0.74, 0.48, 0.21, 0.012, 0.004, 0.0, 0.0)
STEP_S = 0.05


def a_candidate(
    num_workers: int,
    stall: float | None = None,
    measured: float | None = None,
    *,
    batches_per_s: float | None = None,
) -> Candidate:
    """One number of workers of a ring, for steps of 50 ms where a stall is known."""
    return Candidate(
        engine="ring" if num_workers else "inline",
        num_workers=num_workers,
        prefetch_batches=2 * num_workers,
        predicted_stall_fraction=stall,
        predicted_batches_per_s=batches_per_s if stall is None else (1 - stall) / STEP_S,
        measured_stall_fraction=measured,
        measured_batches_per_s=None if measured is None else (1 - measured) / STEP_S,
        memory_bytes=(2 * num_workers + 2) * 2**20,
    )


def a_plan(
    num_workers: int = 3,
    stalls: Sequence[float | None] = STALLS,
    measured: Mapping[int, float] | None = None,
) -> LoaderPlan:
    """A plan that weighed 0 workers and more, one after the other."""
    tried = {2: 0.21, 3: 0.014} if measured is None else measured
    return LoaderPlan(
        engine="ring" if num_workers else "inline",
        num_workers=num_workers,
        prefetch_batches=2 * num_workers,
        pin_memory=False,
        persistent_workers=True,
        start_method="fork" if num_workers else None,
        predicted_stall_fraction=stalls[num_workers] if stalls else None,
        reasons={
            "num_workers": "The fewest that keep the stall at or under 2.0 %.",
            "step_time": "50.0 ms, as it was given.",
        },
        candidates=tuple(
            a_candidate(number, stall, tried.get(number)) for number, stall in enumerate(stalls)
        ),
    )


def a_plan_by_rate(num_workers: int = 4) -> LoaderPlan:
    """A plan for the most batches a second: no step's time is known."""
    plan = a_plan(num_workers, (None,) * 6, {})
    return replace(
        plan,
        candidates=tuple(
            a_candidate(number, batches_per_s=10.0 * min(4, number) + 3) for number in range(6)
        ),
    )
