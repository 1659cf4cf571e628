"""A plan for one loader: reads a few samples where that is needed, and applies the rule."""

import contextlib
import copy
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from lightning_fastdata.dataset.views import base_of
from lightning_fastdata.errors import ShortageWarning
from lightning_fastdata.loader.buffers import BufferPool
from lightning_fastdata.loader.engine import Request
from lightning_fastdata.loader.make import BadSamplesError, BatchMaker, Recipe, is_gather
from lightning_fastdata.loader.serves import ring_problem
from lightning_fastdata.machine import Machine, read_machine
from lightning_fastdata.order import EpochKey, seeds_at
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.tuning.choose import Situation, Wishes, choose_plan
from lightning_fastdata.tuning.probe import LeftOutError, ProbeFacts, probe_batches


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
) -> LoaderPlan:
    """Choose a plan for a loader, measuring samples in this process only where a choice needs it.

    Args:
        wishes: What the user fixed.
        recipe: What batches are made with.
        batch_size: Samples a batch.
        read_samples: Gives the cost of a batch; ``None`` is ``probe``, which reads some samples.
        local_world_size: Ranks on this machine; ``None`` reads the environment.
        step_time_s: Time of a training step without waiting, where it is known.
        max_stall_fraction: Share of a step that may be spent waiting (0 to 1).
        bad_samples_end_it: Whether a sample that raises while it is measured is an error.

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
    facts = None
    if open_question and measurable and situation.cores >= 2:
        facts = read(recipe, batch_size)
    elif measurable and wishes.num_workers != 0 and _may_overflow(wishes, situation):
        with contextlib.suppress(Exception):  # it is only about the size; the pass meets it again
            facts = read(recipe, batch_size)
    plan = choose_plan(wishes, situation, facts)
    if plan.shortage is not None:
        warnings.warn(plan.shortage, ShortageWarning, stacklevel=2)
    return plan


def _may_overflow(wishes: Wishes, situation: Situation) -> bool:
    """Whether torch's workers may be taken, which end in a bus error where /dev/shm is full."""
    return wishes.engine == "torch" or situation.ring_problem is not None


def _files_free(machine: Machine) -> int | None:
    if machine.file_descriptors_soft is None or machine.file_descriptors_open is None:
        return None
    return max(0, machine.file_descriptors_soft - machine.file_descriptors_open)


def _share(total: int | None, machine: Machine) -> int | None:
    return None if total is None else total // machine.local_world_size


def probe(recipe: Recipe, batch_size: int, *, bad_samples_end_it: bool = True) -> ProbeFacts | None:
    """Read some samples of a map-style dataset in this process, to see what a batch costs.

    Args:
        recipe: What batches are made with.
        batch_size: Samples a batch.
        bad_samples_end_it: Whether what a sample raises goes on; else it is left out.

    Returns:
        What was measured; ``None`` where the dataset cannot be copied, so that reading the original
        could leave open handles in it for workers to inherit.
    """
    try:
        dataset = _with_own_attributes(recipe.dataset)
    except Exception:  # a class may refuse to be copied in its own way; then the rule says so
        return None
    maker = BatchMaker(
        replace(recipe, dataset=dataset),
        BufferPool().allocate,
        restore_generators=True,
        finds_all_bad=not bad_samples_end_it,
    )

    def make(indices: Any) -> Any:
        chosen = np.array(indices, dtype=np.int64)
        key = EpochKey(seed=0, epoch=0)
        seeds = seeds_at(chosen, key)
        request = Request(number=0, epoch=0, indices=chosen, seeds=seeds, batch_seed=0)
        try:
            return maker.make(request)
        except BadSamplesError as error:
            bad = {row for row, _ in error.samples}
            good = [index for row, index in enumerate(indices) if row not in bad]
            raise LeftOutError(good) from error

    return probe_batches(
        make,
        length=len(dataset),
        batch_size=batch_size,
        reads_whole=callable(getattr(base_of(dataset), "__getitems__", None)),
    )


def _with_own_attributes(dataset: Any) -> Any:
    """A shallow copy, so that a handle opened at the first sample does not stay in the original.

    Forked workers would share such a handle (of HDF5 or LMDB, for example) and read nonsense. The
    datasets that it is made of, a subset's whole or a concatenation's parts, are copied as well.
    """
    copied = copy.copy(dataset)
    if copied is dataset:
        return dataset
    for name, value in getattr(copied, "__dict__", {}).items():
        if isinstance(value, Dataset):
            copied.__dict__[name] = _with_own_attributes(value)
        elif type(value) in (list, tuple) and value and isinstance(value[0], Dataset):
            copied.__dict__[name] = type(value)(_with_own_attributes(part) for part in value)
    return copied
