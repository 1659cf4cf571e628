"""Reads some samples in this process, to see what a batch costs."""

import contextlib
import copy
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from lightning_fastdata.dataset.views import base_of
from lightning_fastdata.loader.buffers import BufferPool
from lightning_fastdata.loader.engine import Request
from lightning_fastdata.loader.make import NO_ROW, BadSamplesError, BatchMaker, Recipe, is_rows
from lightning_fastdata.loader.stopwatch import BLOCK_BYTES
from lightning_fastdata.order import EpochKey, seeds_at
from lightning_fastdata.tuning.calls import Noted, without_wait
from lightning_fastdata.tuning.probe import LeftOutError, ProbeFacts, probe_batches

if sys.platform == "linux":  # Windows has no such module
    import resource


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
        dataset = with_own_attributes(recipe.dataset)
    except Exception:  # a class may refuse to be copied in its own way; then the rule says so
        return None
    maker = BatchMaker(
        replace(recipe, dataset=dataset),
        BufferPool().allocate,
        restore_generators=True,
        finds_all_bad=not bad_samples_end_it,
    )
    watch = _Watch(maker)

    def make(indices: Any) -> Any:
        chosen = np.array(indices, dtype=np.int64)
        key = EpochKey(seed=0, epoch=0)
        seeds = seeds_at(chosen, key)
        request = Request(number=0, epoch=0, indices=chosen, seeds=seeds, batch_seed=0)
        try:
            with watch:
                return maker.make(request)
        except BadSamplesError as error:
            bad = {row for row, _ in error.samples}
            good = [index for row, index in enumerate(indices) if row not in bad]
            raise LeftOutError(good) from error

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker: what several threads do at once would look cheap
    try:
        facts = probe_batches(
            make,
            length=len(dataset),
            batch_size=batch_size,
            reads_whole=callable(getattr(base_of(dataset), "__getitems__", None)),
            noted=watch.noted,
        )
    finally:
        torch.set_num_threads(threads)
    return None if facts is None else replace(facts, is_cut=is_rows(recipe))


class _Watch:
    """Notes what happens while one batch is made."""

    def __init__(self, maker: BatchMaker) -> None:
        # Not a stopwatch, which leaves the kernel alone where the training process makes a batch
        # in no time: there a short sample that has to wait for a core would look like a slow one.
        self._before = _used()
        self._sample_ns: dict[int, int] = {}
        self._row, self._began_ns = NO_ROW, 0
        self._noted = Noted()
        maker.watch, maker.enter = self._sample, self._step

    def __enter__(self) -> None:
        self._sample_ns.clear()
        self._row = NO_ROW
        self._before = _used()

    def __exit__(self, *_: object) -> None:
        self._sample(NO_ROW)
        read_bytes, core_wait_ns = (
            None if then is None or now is None else now - then
            for then, now in zip(self._before, _used(), strict=True)
        )
        waited_ns = core_wait_ns or 0
        self._noted = Noted(
            sample_ns=without_wait(self._sample_ns.values(), waited_ns),
            read_bytes=read_bytes,
            core_wait_ns=waited_ns,
        )

    def noted(self) -> Noted:
        return self._noted

    def _step(self, step: str) -> None:
        self._sample(NO_ROW)

    def _sample(self, row: int) -> None:
        now_ns = time.perf_counter_ns()
        if self._row != NO_ROW:  # made again, where one before it was first seen to draw
            self._sample_ns[self._row] = now_ns - self._began_ns
        self._row, self._began_ns = row, now_ns


def _used() -> tuple[int | None, int | None]:
    """Bytes that this thread has read from storage, and nanoseconds it was without a core."""
    read_bytes = core_wait_ns = None
    if sys.platform == "linux":  # others do not tell of single threads
        read_bytes = resource.getrusage(resource.RUSAGE_THREAD).ru_inblock * BLOCK_BYTES
        with contextlib.suppress(OSError, ValueError, IndexError):
            core_wait_ns = int(Path("/proc/thread-self/schedstat").read_bytes().split()[1])
    return read_bytes, core_wait_ns


def with_own_attributes(dataset: Any) -> Any:
    """A shallow copy, so that a handle opened at the first sample does not stay in the original.

    Forked workers would share such a handle (of HDF5 or LMDB, for example) and read nonsense. The
    datasets that it is made of, a subset's whole or a concatenation's parts, are copied as well.
    """
    copied = copy.copy(dataset)
    if copied is dataset:
        return dataset
    for name, value in getattr(copied, "__dict__", {}).items():
        if isinstance(value, Dataset):
            copied.__dict__[name] = with_own_attributes(value)
        elif type(value) in (list, tuple) and value and isinstance(value[0], Dataset):
            copied.__dict__[name] = type(value)(with_own_attributes(part) for part in value)
    return copied
