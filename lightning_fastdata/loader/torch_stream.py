"""Streams through the stock ``DataLoader``'s workers, or none."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from lightning_fastdata.errors import FastDataError
from lightning_fastdata.loader.make import Recipe, announce_epoch
from lightning_fastdata.loader.torch_engine import WorkerSettings, stop_workers


class StreamLoader:
    """The batches of an ``IterableDataset``, with torch's own semantics and order.

    Args:
        recipe: What to make batches with.
        settings: How workers are run; none is allowed.
        batch_size: Samples a batch, or ``None`` without automatic batching.
        drop_last: Whether a last batch that is not full is left out.
    """

    def __init__(
        self, recipe: Recipe, settings: WorkerSettings, batch_size: int | None, drop_last: bool
    ) -> None:
        self._closed = False
        self._epoch = torch.zeros((), dtype=torch.int64)
        if settings.num_workers:
            # Persistent workers read it at each pass.
            self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # torch left it untyped
        self._loader: DataLoader[Any] = DataLoader(
            _ToldEpoch(recipe, self._epoch),
            batch_size=batch_size,
            drop_last=drop_last,
            collate_fn=_Finish(recipe),
            **settings.arguments(),
        )

    def batches(self, epoch: int, seed: int) -> Iterator[Any]:
        """Go over the stream once; workers were seeded when they started.

        Raises:
            FastDataError: If the loader was closed meanwhile; what the workers had made is lost.
        """
        self._epoch.fill_(epoch)
        self._closed = False
        yield from self._loader
        if self._closed:
            raise FastDataError(
                "the loader was closed while a pass over its stream went on, wanted a pass that "
                "ends before. Begin a new pass: a stream cannot go on from where its workers were."
            )

    def close(self) -> None:
        """Stop the workers, if any."""
        self._closed = True
        stop_workers(self._loader)


class _ToldEpoch(IterableDataset[Any]):
    def __init__(self, recipe: Recipe, epoch: torch.Tensor) -> None:
        self.recipe, self._epoch = recipe, epoch

    def __iter__(self) -> Iterator[Any]:
        announce_epoch(self.recipe.dataset, int(self._epoch))
        return iter(self.recipe.dataset)


class _Finish:
    """Collates, then transforms: what is done with a batch of streamed samples."""

    def __init__(self, recipe: Recipe) -> None:
        self._collate_fn, self._batch_transform = recipe.collate_fn, recipe.batch_transform

    def __call__(self, samples: Any) -> Any:
        batch = self._collate_fn(samples)
        return batch if self._batch_transform is None else self._batch_transform(batch)
