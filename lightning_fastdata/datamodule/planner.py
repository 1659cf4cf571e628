"""The plans of one data module: made once a dataset and batch size, remembered, and restored."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from typing import Any

from lightning_fastdata.datamodule.used import Used
from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.measure import key_of, measure_and_choose
from lightning_fastdata.loader.pace import Pace
from lightning_fastdata.loader.probing import probe
from lightning_fastdata.machine import Machine
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.tuning.choose import Wishes
from lightning_fastdata.tuning.fingerprint import PlanKey, machine_kind
from lightning_fastdata.tuning.memory import PlanMemory
from lightning_fastdata.tuning.probe import ProbeFacts
from lightning_fastdata.tuning.remembered import Remembered, as_plain, from_plain


def _today() -> str:
    return date.today().isoformat()


class Planner:
    """Makes plans, and remembers what they rest on so that no sample is measured twice.

    Args:
        memory: Where decisions of earlier runs are, and this one's go; ``None`` is the user's.
        today: Gives the day, by ISO 8601.
    """

    def __init__(self, memory: PlanMemory | None = None, today: Callable[[], str] = _today) -> None:
        self._plans: dict[str, LoaderPlan] = {}
        self._facts: dict[str, tuple[Recipe, int, ProbeFacts | None]] = {}
        # Not the loaders themselves: held on to, they would keep their workers alive.
        self._paces: deque[Pace] = deque(maxlen=8)  # bounded: loaders may come every epoch
        self._step_time_s: float | None = None
        self._memory, self._today = memory or PlanMemory(), today
        self._keys: dict[str, tuple[Recipe, int, PlanKey]] = {}
        self._batch_bytes: dict[str, int | None] = {}
        self._used: dict[str, Used] = {}
        self._before: dict[str, Used] = {}
        self._resumed: dict[str, tuple[str, Remembered]] = {}

    @property
    def plans(self) -> dict[str, LoaderPlan]:
        """The plan in use of each loader, by its name (``train``, ``val``, ``val[1]``, ...)."""
        return self._plans | {
            name: used.plan() for name, used in self._used.items() if name in self._plans
        }

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
        device: int | None = None,
    ) -> LoaderPlan:
        """Decide how one loader loads; ``settle`` puts the choice into ``plans``."""
        is_training = name.startswith("train")
        known = self._keys.pop(name, None)
        return measure_and_choose(
            wishes,
            recipe,
            batch_size,
            read_samples=partial(self._facts_of, name, bad_samples_end_it),
            local_world_size=local_world_size,
            step_time_s=self.step_time_s() if is_training else None,
            max_stall_fraction=max_stall_fraction,
            bad_samples_end_it=bad_samples_end_it,
            device=device,
            # Validation asks for batches at another pace, often for too short to learn from.
            recall=partial(self._recall, name, known, recipe, batch_size) if is_training else None,
        )

    def settle(self, name: str, plan: LoaderPlan) -> None:
        """Note the plan that a loader gets in the end, which all ranks have agreed on."""
        self._plans[name] = plan
        if name in self._used:
            self._before[name] = self._used.pop(name)

    def watch(self, name: str, loader: FastDataLoader, *, is_trial: bool) -> None:
        """Learn the time of a training step from this loader while it is used.

        Args:
            name: The loader's.
            loader: It is not kept alive.
            is_trial: Whether it is used for a few batches only, so that nothing is remembered of
                how many workers it had.
        """
        self._paces.append(loader.pace)
        before = self._before.pop(name, None)
        if name in self._keys and not is_trial:
            _, _, key = self._keys[name]
            self._used[name] = Used(key, loader, self._batch_bytes.get(name), before)

    def step_time_s(self) -> float | None:
        """Seconds of a training step, from the loaders watched or a checkpoint, where known."""
        for pace in reversed(self._paces):
            if (measured := pace.median_s()) is not None:
                self._step_time_s = measured
                break
        return self._step_time_s

    def keep(self) -> None:
        """Remember for the next run what this one's training loaders came to."""
        for used in self._used.values():
            if used.is_proven():
                decision = used.decision("run", self._today())
                if decision.step_time_s is None:  # the last of its loaders was used for moments
                    decision = replace(decision, step_time_s=self.step_time_s())
                self._memory.keep(used.key, decision, used.description)

    def state_dict(self) -> dict[str, Any]:
        """Give the plans, the step time and what loaders came to as plain values."""
        return {
            "plans": {name: _plain(plan) for name, plan in self.plans.items()},
            "step_time_s": self.step_time_s(),
            "decisions": {
                name: {
                    "key": used.key.name,
                    "decision": as_plain(used.decision("checkpoint", self._today())),
                }
                for name, used in self._used.items()
                if used.adapts()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what the saved run came to, so that the first plan knows it."""
        self._step_time_s = state.get("step_time_s")
        found = {
            name: (each["key"], from_plain(each["decision"]))
            for name, each in state.get("decisions", {}).items()  # older checkpoints have none
        }
        self._resumed = {
            name: (key, decision) for name, (key, decision) in found.items() if decision is not None
        }

    def _recall(
        self,
        name: str,
        known: tuple[Recipe, int, PlanKey] | None,
        recipe: Recipe,
        batch_size: int,
        machine: Machine,
    ) -> Remembered | None:
        """Give the newest decision about these batches: of this run, its checkpoint, or before."""
        if known is None or not _cost_the_same(known[0], recipe) or known[1] != batch_size:
            key = key_of(recipe, batch_size, machine)
        else:  # as it was: a dataset that counts its reads would be another one by now
            key = replace(known[2], machine=machine_kind(machine))
        self._keys[name] = (recipe, batch_size, key)
        used = self._used.get(name)
        resumed_key, resumed = self._resumed.get(name, ("", None))
        if used is not None and used.key == key and used.is_proven():
            decision: Remembered | None = used.decision("loader", self._today())
        else:
            decision = resumed if resumed_key == key.name else self._memory.recall(key)
        self._batch_bytes[name] = None if decision is None else decision.batch_bytes
        if decision is not None and self.step_time_s() is None:
            self._step_time_s = decision.step_time_s  # until this run has seen some steps
        return decision

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
        scaled = facts.scaled(scale)
        self._batch_bytes[name] = scaled.batch_bytes
        return scaled


def _plain(plan: LoaderPlan) -> dict[str, Any]:
    """Give what was decided, without what it was chosen from and this machine's cores."""
    return asdict(replace(plan, candidates=(), worker_cores=None)) | {"candidates": None}


def _cost_the_same(one: Recipe, other: Recipe) -> bool:
    return one.dataset is other.dataset and (
        (one.collate_fn, one.batch_transform) == (other.collate_fn, other.batch_transform)
    )
