"""Reads some samples in this process, to see what a batch costs."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from lightning_fastdata.dataset.views import base_of
from lightning_fastdata.loader.buffers import BufferPool
from lightning_fastdata.loader.engine import Request
from lightning_fastdata.loader.make import BadSamplesError, BatchMaker, Recipe
from lightning_fastdata.order import EpochKey, seeds_at
from lightning_fastdata.tuning.probe import LeftOutError, ProbeFacts, probe_batches


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
