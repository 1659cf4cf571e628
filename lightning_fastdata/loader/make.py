"""Making one batch from one request: read, seed, collate, transform. The same in every engine."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import default_collate, default_convert

from lightning_fastdata.dataset.gather import Allocate, can_gather, gather_rows
from lightning_fastdata.dataset.views import announce_epoch, base_of, resolve_indices
from lightning_fastdata.errors import BatchShapeError
from lightning_fastdata.loader.describe import add_note, misfit_of, path_of, unknown_type
from lightning_fastdata.loader.engine import Request, plain_indices
from lightning_fastdata.loader.randomness import SeededDraws

T = TypeVar("T")
_NO_MEMORY = os.strerror(errno.ENOMEM)
NO_ROW = -1  # instead of the row of a sample, where it is about many samples at once
_COLLATE_TURN, _TRANSFORM_TURN = 1, 2  # so that the steps of one batch draw different numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What turns indices into a batch: the user's own parts, as the user gave them."""

    dataset: Any
    collate_fn: Callable[[Any], Any]
    batch_transform: Callable[[Any], Any] | None
    batched: bool
    """Whether samples are collated; False passes single samples through ``collate_fn`` alone."""


PARTS = ("dataset", "collate_fn", "batch_transform")
"""The parts of a recipe that are the user's own."""


def recipe_of(
    dataset: Any,
    collate_fn: Callable[[Any], Any] | None,
    batch_transform: Callable[[Any], Any] | None,
    *,
    batched: bool,
) -> Recipe:
    """Fill in torch's own collation where the user has none."""
    own = default_collate if batched else default_convert
    return Recipe(
        dataset=dataset,
        collate_fn=own if collate_fn is None else collate_fn,
        batch_transform=batch_transform,
        batched=batched,
    )


def is_rows(recipe: Recipe) -> bool:
    """Whether batches are single samples under default collation and nothing else."""
    return (
        recipe.batched
        and recipe.collate_fn is default_collate
        and recipe.batch_transform is None
        and not callable(getattr(base_of(recipe.dataset), "__getitems__", None))
        and not is_gather(recipe)
    )


def is_gather(recipe: Recipe) -> bool:
    """Whether batches are rows picked out of tensors in memory, so that no sample is ever made."""
    return (
        recipe.batched
        and recipe.collate_fn is default_collate
        and can_gather(base_of(recipe.dataset))
    )


def _nobody_watches(row: int) -> None:
    pass


def nobody_minds(step: str) -> None:
    """Take no note of what is done with the samples of a batch."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether it says that this process gets no more memory; torch has no class for that."""
    return isinstance(error, MemoryError) or (
        isinstance(error, (OSError, RuntimeError)) and _NO_MEMORY in str(error)
    )


class BadSamplesError(Exception):
    """Samples that could not be made.

    Args:
        samples: The row of each in what was to be made, from 0 on, and what it raised.
    """

    def __init__(self, samples: Sequence[tuple[int, Exception]]) -> None:
        super().__init__(f"{len(samples)} samples could not be made")
        self.samples = samples


class BatchMaker:
    """Makes batches in this process.

    Args:
        recipe: What to make them with.
        allocate: Memory for gathered tensors, by shape and dtype.
        restore_generators: Whether the process's random generators are put back after each batch.
        stack: Does what ``default_collate`` does, where that is what the recipe asks for.
        watch: Called with the row of each sample before it is made, and with ``NO_ROW`` before
            what is done with many samples at once.
        finds_all_bad: Whether samples that raise are put together in one ``BadSamplesError``, after
            the others were made; else the first one's own error goes on.
        maker: Names this process in errors.
    """

    def __init__(
        self,
        recipe: Recipe,
        allocate: Allocate,
        *,
        restore_generators: bool,
        stack: Callable[[Any], Any] = default_collate,
        watch: Callable[[int], object] = _nobody_watches,
        finds_all_bad: bool = False,
        maker: str = "",
    ) -> None:
        self._recipe, self._allocate, self._stack = recipe, allocate, stack
        self._finds_all_bad, self._maker = finds_all_bad, maker
        self.watch: Callable[[int], object] = watch
        self.enter: Callable[[str], object] = nobody_minds
        """Called with ``collate`` and ``transform`` before each of the two is done."""
        self._draws = SeededDraws(restore=restore_generators)
        self._base = base_of(recipe.dataset)
        self._gathers = is_gather(recipe)
        self._reads_whole = callable(getattr(self._base, "__getitems__", None))
        self._epoch: int | None = None

    def make(self, request: Request, *, singly: bool = False) -> Any:
        """Make the batch that was asked for.

        Args:
            request: What to make.
            singly: Whether a dataset that makes many samples at one go is asked for each alone
                first, to find those that it cannot make.

        Returns:
            What torch's DataLoader would have made of the same samples.

        Raises:
            BatchShapeError: If default collation cannot put the samples together.
        """
        self._enter(request.epoch)
        if singly and self._reads_whole:
            self._find_bad(*self._source(request.indices))
        if self._gathers and self._recipe.batch_transform is None:
            return self._collated(request)  # nothing of the user's runs, so nothing draws
        # Both steps together: a transform may work in place, so a second try needs a new batch.
        return self._draws.run(lambda: self._transformed(self._collated(request), request))

    def make_samples(self, request: Request, take: Callable[[Iterator[Any]], T]) -> T:
        """Make single samples, one after the other, and give what ``take`` makes of them.

        Args:
            request: What to make: a whole batch or a part of one.
            take: Called with the samples; called again, with all of them, if one drew from a
                generator that had not been seen drawing.
        """
        self._enter(request.epoch)
        return self._draws.run(lambda: take(self._each_sample(request)))

    def finish(self, samples: Any) -> Any:
        """Collate and transform samples that are there already, without seeding anything."""
        recipe = self._recipe
        self.enter("collate")
        batch = self._put_together(samples) if recipe.batched else recipe.collate_fn(samples)
        if recipe.batch_transform is None:
            return batch
        self.enter("transform")
        return recipe.batch_transform(batch)

    def _enter(self, epoch: int) -> None:
        if epoch != self._epoch:
            announce_epoch(self._recipe.dataset, epoch)
            self._epoch = epoch

    def _transformed(self, batch: Any, request: Request) -> Any:
        if self._recipe.batch_transform is None:
            return batch
        self.enter("transform")
        self._draws.seed(request.batch_seed ^ _TRANSFORM_TURN)
        return self._recipe.batch_transform(batch)

    def _collated(self, request: Request) -> Any:
        recipe = self._recipe
        if self._gathers and isinstance(request.indices, np.ndarray):
            rows = resolve_indices(recipe.dataset, request.indices)
            return gather_rows(self._base, rows, self._allocate)
        if not recipe.batched:
            return recipe.collate_fn(self._single_sample(request))
        samples = self._samples(request)
        self.watch(NO_ROW)
        self.enter("collate")
        self._draws.seed(request.batch_seed ^ _COLLATE_TURN)
        try:
            return self._put_together(samples)
        except (TypeError, RuntimeError, KeyError, ValueError, AttributeError) as error:
            if recipe.collate_fn is not default_collate:
                raise
            misfit = misfit_of(samples, plain_indices(request.indices))
            if misfit is None and not isinstance(error, TypeError):
                raise  # equal samples of known types: it is about something else, memory perhaps
            raise BatchShapeError(
                misfit or unknown_type(samples, plain_indices(request.indices))
            ) from error

    def _put_together(self, samples: Any) -> Any:
        recipe = self._recipe
        if recipe.collate_fn is default_collate:
            return self._stack(samples)
        return recipe.collate_fn(samples)

    def _single_sample(self, request: Request) -> Any:
        self.watch(0)
        self._draws.seed(int(request.seeds[0]))
        try:
            return self._recipe.dataset[request.indices]
        except Exception as error:
            self._annotate(error, self._recipe.dataset, request.indices)
            if self._finds_all_bad and not is_out_of_memory(error):
                raise BadSamplesError([(0, error)]) from error
            raise

    def _samples(self, request: Request) -> Any:
        if not self._reads_whole:
            return list(self._each_sample(request))
        dataset, indices = self._source(request.indices)
        self.watch(NO_ROW)
        self._draws.seed(request.batch_seed)
        try:
            return dataset.__getitems__(indices)
        except Exception:  # it goes on below, unless single samples turn out to be to blame
            if self._finds_all_bad:
                self._find_bad(dataset, indices)
            raise

    def _find_bad(self, dataset: Any, indices: Sequence[Any]) -> None:
        """Ask for one sample at a time, after asking for all of them failed."""
        bad: list[tuple[int, Exception]] = []
        for row, index in enumerate(indices):
            self.watch(row)
            try:
                dataset.__getitems__([index])
            except Exception as error:
                self._annotate(error, dataset, index)
                if is_out_of_memory(error):
                    raise
                bad.append((row, error))
        if bad:
            raise BadSamplesError(bad)

    def _each_sample(self, request: Request) -> Iterator[Any]:
        dataset, indices = self._source(request.indices)
        bad: list[tuple[int, Exception]] = []
        watch, seed_draws = self.watch, self._draws.seed
        for row, (index, seed) in enumerate(zip(indices, request.seeds.tolist(), strict=True)):
            watch(row)
            seed_draws(seed)
            try:
                sample = dataset[index]
            except Exception as error:
                self._annotate(error, dataset, index)
                if not self._finds_all_bad or is_out_of_memory(error):
                    raise
                bad.append((row, error))
                continue
            yield sample
        if bad:
            raise BadSamplesError(bad)

    def _annotate(self, error: Exception, dataset: Any, index: Any) -> None:
        """Add to an error which sample it was about; its traceback goes on unchanged."""
        path = path_of(dataset, index)
        note = f"This was sample {index} of the {type(dataset).__name__}"
        note += f", {path}" if path else ""
        note += f", made by {self._maker}." if self._maker else "."
        add_note(error, note)

    def _source(self, indices: Any) -> tuple[Any, Sequence[Any]]:
        """The dataset to ask, and for what: views on another one are looked through."""
        if not isinstance(indices, np.ndarray):
            return self._recipe.dataset, plain_indices(indices)
        return self._base, plain_indices(resolve_indices(self._recipe.dataset, indices))
