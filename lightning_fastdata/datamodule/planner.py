"""The plans of one data module: made once a dataset and batch size, remembered, and restored."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.measure import measure_and_choose
from lightning_fastdata.loader.pace import Pace
from lightning_fastdata.loader.probing import probe
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.tuning.choose import Wishes
from lightning_fastdata.tuning.probe import ProbeFacts


class Planner:
    """Makes plans, and remembers what they rest on so that no sample is measured twice."""

    def __init__(self) -> None:
        self.plans: dict[str, LoaderPlan] = {}
        """The plan in use of each loader, by its name (``train``, ``val``, ``val[1]``, ...)."""
        self._facts: dict[str, tuple[Recipe, int, ProbeFacts | None]] = {}
        # Not the loaders themselves: held on to, they would keep their workers alive.
        self._paces: deque[Pace] = deque(maxlen=8)  # bounded: loaders may come every epoch
        self._step_time_s: float | None = None

    def plan(
        self,
        name: str,
        wishes: Wishes,
        recipe: Recipe,
        batch_size: int,
        *,
        local_world_size: int | None,
        max_stall_fraction: float,
        bad_samples_end_it: bool,
    ) -> LoaderPlan:
        """Decide how one loader loads; the choice stands in ``plans`` under ``name``."""
        self.plans[name] = measure_and_choose(
            wishes,
            recipe,
            batch_size,
            read_samples=partial(self._facts_of, name, bad_samples_end_it),
            local_world_size=local_world_size,
            step_time_s=self.step_time_s() if name.startswith("train") else None,
            max_stall_fraction=max_stall_fraction,
            bad_samples_end_it=bad_samples_end_it,
        )
        return self.plans[name]

    def watch(self, loader: FastDataLoader) -> None:
        """Learn the time of a training step from this loader while it is used."""
        self._paces.append(loader.pace)

    def step_time_s(self) -> float | None:
        """Seconds of a training step, from the loaders watched or a checkpoint, where known."""
        for pace in reversed(self._paces):
            if (measured := pace.median_s()) is not None:
                self._step_time_s = measured
                break
        return self._step_time_s

    def state_dict(self) -> dict[str, Any]:
        """Give the plans and the step time as plain values."""
        plans = {name: asdict(plan) for name, plan in self.plans.items()}
        return {"plans": plans, "step_time_s": self.step_time_s()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the step time of the run that was saved, so that the first plan knows it."""
        self._step_time_s = state.get("step_time_s")

    def _facts_of(
        self, name: str, bad_samples_end_it: bool, recipe: Recipe, batch_size: int
    ) -> ProbeFacts | None:
        of_recipe = (known for known in self._facts.values() if _cost_the_same(known[0], recipe))
        known = next(of_recipe, None)
        if known is None:
            facts = probe(recipe, batch_size, bad_samples_end_it=bad_samples_end_it)
            known = (recipe, batch_size, facts)
        self._facts[name] = known  # one a loader: a dataset made anew each epoch is let go
        _, measured_size, facts = known
        if facts is None:
            return None
        scale = batch_size / measured_size  # the batch-size finder asks for many sizes
        return replace(
            facts,
            batch_wall_ns=round(facts.batch_wall_ns * scale),
            batch_cpu_ns=round(facts.batch_cpu_ns * scale),
            batch_bytes=round(facts.batch_bytes * scale),
        )


def _cost_the_same(one: Recipe, other: Recipe) -> bool:
    return one.dataset is other.dataset and (
        (one.collate_fn, one.batch_transform) == (other.collate_fn, other.batch_transform)
    )
