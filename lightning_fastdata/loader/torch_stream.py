"""Streams through the stock ``DataLoader``'s workers, or none."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lightning_fastdata.dataset.views import announce_epoch
from lightning_fastdata.errors import FastDataError
from lightning_fastdata.loader.engine import StreamTimes
from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.stopwatch import Stopwatch
from lightning_fastdata.loader.torch_engine import WorkerSettings, stop_workers
from lightning_fastdata.trace.work import ChunkTimes


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
        self.watched = False
        self.latest: StreamTimes | None = None
        self._told = torch.zeros(2, dtype=torch.int64)  # the epoch, and whether to measure closely
        if settings.num_workers:
            # Persistent workers read it at each pass.
            self._told.share_memory_()  # type: ignore[no-untyped-call]  # torch left it untyped
        clock = _StreamClock()  # one in each process: what reads samples and what collates share it
        self._loader: DataLoader[Any] = DataLoader(
            _ToldEpoch(recipe, self._told, clock),
            batch_size=batch_size,
            drop_last=drop_last,
            collate_fn=_Finish(recipe, clock, batched=batch_size is not None),
            **settings.arguments(),
        )

    def batches(self, epoch: int, seed: int) -> Iterator[Any]:
        """Go over the stream once; workers were seeded when they started.

        Raises:
            FastDataError: If the loader was closed meanwhile; what the workers had made is lost.
        """
        self._told[0], self._told[1] = epoch, int(self.watched)
        self._closed = False
        given: list[Any] = []  # no name may hold a batch: its memory would stay in use for longer
        for given[:] in self._loader:
            times: ChunkTimes | None = given.pop()
            if times is not None:
                self.latest = StreamTimes(times.began_ns, times.ended_ns, (times,))
            yield given.pop()
        if self._closed:
            raise FastDataError(
                "the loader was closed while a pass over its stream went on, wanted a pass that "
                "ends before. Begin a new pass: a stream cannot go on from where its workers were."
            )

    def close(self) -> None:
        """Stop the workers, if any."""
        self._closed = True
        stop_workers(self._loader)


class _StreamClock:
    """Measures the batches of one worker: the dataset names samples, the collation its steps."""

    def __init__(self) -> None:
        self.stopwatch: Stopwatch | None = None
        """Of this worker while it is watched."""
        self._own: Stopwatch | None = None
        self._row = self._batches = 0

    def watched(self, samples: Iterator[Any]) -> Iterator[Any]:
        """Give the samples, and note when each is asked for."""
        if self._own is None:
            info = get_worker_info()
            self._own = Stopwatch(None if info is None else info.id)
        stopwatch = self.stopwatch = self._own
        self._row = 0
        while True:
            if self._row == 0:
                stopwatch.begin(closely=True)
            stopwatch.sample(self._row)
            self._row += 1
            try:
                sample = [next(samples)]
            except StopIteration:
                return
            yield sample.pop()

    def rest(self) -> None:
        """Measure no more."""
        self.stopwatch = None
        if self._own is not None:
            self._own.rest()

    def batch_is_done(self, samples: int) -> ChunkTimes | None:
        """End the batch; ``None`` where it was not measured."""
        if self.stopwatch is None:
            return None
        place, self._row, self._batches = self._batches, 0, self._batches + 1
        return self.stopwatch.stop(samples=samples, key_of=lambda row: (place, row))


class _ToldEpoch(IterableDataset[Any]):
    def __init__(self, recipe: Recipe, told: torch.Tensor, clock: _StreamClock) -> None:
        self.recipe, self._told, self._clock = recipe, told, clock

    def __iter__(self) -> Iterator[Any]:
        epoch, is_watched = self._told.tolist()
        announce_epoch(self.recipe.dataset, epoch)
        samples: Iterator[Any] = iter(self.recipe.dataset)
        if is_watched:
            return self._clock.watched(samples)
        self._clock.rest()
        return samples


class _Finish:
    """Collates, then transforms: what is done with a batch of streamed samples."""

    def __init__(self, recipe: Recipe, clock: _StreamClock, *, batched: bool) -> None:
        self._collate_fn, self._batch_transform = recipe.collate_fn, recipe.batch_transform
        self._clock, self._batched = clock, batched

    def __call__(self, samples: Any) -> list[Any]:
        stopwatch = self._clock.stopwatch
        if stopwatch is not None:
            stopwatch.enter("collate")
        batch = self._collate_fn(samples)
        if self._batch_transform is not None:
            if stopwatch is not None:
                stopwatch.enter("transform")
            batch = self._batch_transform(batch)
        return [batch, self._clock.batch_is_done(len(samples) if self._batched else 1)]
