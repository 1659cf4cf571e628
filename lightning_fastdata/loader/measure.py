"""A plan for one loader: looks up what is known, or reads a few samples, and applies the rule."""

import contextlib
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch.utils.data import IterableDataset

from lightning_fastdata.errors import ShortageWarning
from lightning_fastdata.loader.make import Recipe, is_gather
from lightning_fastdata.loader.probing import probe
from lightning_fastdata.loader.serves import ring_problem
from lightning_fastdata.machine import Machine, read_machine
from lightning_fastdata.machine.numa import NearCores
from lightning_fastdata.machine.read import read_near_cores
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.tuning.choose import Situation, Wishes, choose_plan
from lightning_fastdata.tuning.fingerprint import PlanKey, plan_key
from lightning_fastdata.tuning.memory import PlanMemory
from lightning_fastdata.tuning.probe import ProbeFacts
from lightning_fastdata.tuning.remembered import Remembered

Recall = Callable[[Machine], Remembered | None]
"""Gives what was decided before for the same batches on such a machine, if anything was."""


def key_of(recipe: Recipe, batch_size: int, machine: Machine) -> PlanKey:
    """Give what a decision about these batches is remembered by."""
    return plan_key(
        recipe.dataset,
        batch_size,
        machine,
        collate_fn=recipe.collate_fn,
        batch_transform=recipe.batch_transform,
    )


def recalled(
    memory: PlanMemory, recipe: Recipe, batch_size: int, machine: Machine
) -> Remembered | None:
    """Look a decision up; partially applied, this is a ``Recall``."""
    return memory.recall(key_of(recipe, batch_size, machine))


def measure_and_choose(
    wishes: Wishes,
    recipe: Recipe,
    batch_size: int,
    *,
    read_samples: Callable[[Recipe, int], ProbeFacts | None] | None = None,
    local_world_size: int | None = None,
    step_time_s: float | None = None,
    max_stall_fraction: float = 0.02,
    bad_samples_end_it: bool = True,
    recall: Recall | None = None,
    device: int | None = None,
) -> LoaderPlan:
    """Choose a plan for a loader, measuring samples in this process only where a choice needs it.

    Where the number of workers is an open question, an earlier decision answers it first, and then
    no sample is read.

    Args:
        wishes: What the user fixed.
        recipe: What batches are made with.
        batch_size: Samples a batch.
        read_samples: Gives the cost of a batch; ``None`` is ``probe``, which reads some samples.
        local_world_size: Ranks on this machine; ``None`` reads the environment.
        step_time_s: Time of a training step without waiting, where it is known.
        max_stall_fraction: Share of a step that may be spent waiting (0 to 1).
        bad_samples_end_it: Whether a sample that raises while it is measured is an error.
        recall: Looks an earlier decision up; ``None`` measures anew.
        device: The number by which CUDA knows the GPU that batches go to, where that is known.

    Raises:
        BatchShapeError: If the samples read do not fit together; other errors are the dataset's.
    """
    machine = read_machine(os.environ, local_world_size)
    situation = Situation(
        cores=machine.cores,
        cores_reason=machine.cores_reason,
        memory_available_bytes=_share(machine.memory_available_bytes, machine),
        shm_free_bytes=_share(machine.shm_free_bytes, machine),
        files_free=_files_free(machine),
        batch_size=batch_size,
        is_gather=is_gather(recipe),
        is_stream=isinstance(recipe.dataset, IterableDataset),
        step_time_s=step_time_s,
        max_stall_fraction=max_stall_fraction,
        ring_problem=ring_problem(),
    )
    open_question = wishes.num_workers == "auto" and wishes.engine != "inline"
    measurable = recipe.batched and not situation.is_stream and not situation.is_gather
    read = read_samples or partial(probe, bad_samples_end_it=bad_samples_end_it)
    facts, is_open = None, open_question and measurable and situation.cores >= 2
    if is_open and recall is not None:
        remembered = _usable(recall(machine), wishes)
        if remembered is not None:
            step_time_s = step_time_s or remembered.step_time_s
        situation = replace(situation, remembered=remembered, step_time_s=step_time_s)
    if is_open and situation.remembered is None:
        facts = read(recipe, batch_size)
    elif measurable and wishes.num_workers != 0 and _may_overflow(wishes, situation):
        with contextlib.suppress(Exception):  # it is only about the size; the pass meets it again
            facts = read(recipe, batch_size)
    plan = choose_plan(wishes, situation, facts)
    if plan.shortage is not None:
        warnings.warn(plan.shortage, ShortageWarning, stacklevel=2)
    may_have_ring = plan.engine == "ring" or plan.max_workers is not None
    if may_have_ring and (wishes.pin_memory or device is not None):
        plan = _near(plan, read_near_cores(os.environ, machine, device))
    return plan


def _near(plan: LoaderPlan, near: NearCores) -> LoaderPlan:
    """Put workers near the GPU, where some cores are nearer than others."""
    if near.cores is None:
        return plan
    reasons = {**plan.reasons, "worker_cores": near.reason}
    return replace(plan, worker_cores=near.cores, reasons=reasons)


def _usable(remembered: Remembered | None, wishes: Wishes) -> Remembered | None:
    """Give a decision only where the user asks for no other engine than it was about."""
    if remembered is None or wishes.engine not in ("auto", remembered.engine):
        return None
    return remembered


def _may_overflow(wishes: Wishes, situation: Situation) -> bool:
    """Whether torch's workers may be taken, which end in a bus error where /dev/shm is full."""
    return wishes.engine == "torch" or situation.ring_problem is not None


def _files_free(machine: Machine) -> int | None:
    if machine.file_descriptors_soft is None or machine.file_descriptors_open is None:
        return None
    return max(0, machine.file_descriptors_soft - machine.file_descriptors_open)


def _share(total: int | None, machine: Machine) -> int | None:
    return None if total is None else total // machine.local_world_size
