"""The torch engine: the stock ``DataLoader``'s workers, told batch by batch what to make."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info

from lightning_fastdata.errors import FastDataError
from lightning_fastdata.loader.engine import HostBatch, Request
from lightning_fastdata.loader.make import BatchMaker, Recipe, announce_epoch


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """How worker processes are run; each field has the meaning of DataLoader's argument."""

    num_workers: int
    prefetch_factor: int | None
    pin_memory: bool
    timeout: float
    worker_init_fn: Callable[[int], None] | None
    multiprocessing_context: Any
    in_order: bool
    seed: int = 0
    """Of the generators that workers start with; samples of map-style datasets have their own."""

    def arguments(self) -> dict[str, Any]:
        """Give the settings as DataLoader's arguments."""
        arguments: dict[str, Any] = {
            "num_workers": self.num_workers,
            "pin_memory": self.pin_memory,
            "timeout": self.timeout,
            # Its own, so that starting workers draws nothing from the user's generators.
            "generator": torch.Generator().manual_seed(self.seed),
            "worker_init_fn": _WorkerStart(self.worker_init_fn),
            "multiprocessing_context": self.multiprocessing_context,
            "persistent_workers": self.num_workers > 0,
        }
        if self.num_workers:
            arguments["prefetch_factor"] = self.prefetch_factor
        if not self.in_order:  # torch knows it from 2.7 on
            arguments["in_order"] = False
        return arguments


class TorchEngine:
    """Worker processes that make whole batches, prefetched and in order as torch does it.

    Args:
        recipe: What to make batches with; it is sent to the workers once.
        settings: How the workers are run; one or more.
    """

    def __init__(self, recipe: Recipe, settings: WorkerSettings) -> None:
        self._asked: deque[Request] = deque()
        self._unanswered: deque[Request] = deque()
        self._batches: Iterator[Any] | None = None
        self._prefetch = settings.num_workers * (settings.prefetch_factor or 2)
        self._loader: DataLoader[Any] = DataLoader(
            _MadeInWorker(recipe),
            sampler=_Taken(self._asked),
            batch_size=None,
            collate_fn=_as_is,
            **settings.arguments(),
        )

    @property
    def depth(self) -> int:
        """One more than torch prefetches: it takes the next request before handing over a batch."""
        return self._prefetch + 1

    @property
    def in_flight(self) -> int:
        """Requests submitted and not yet answered."""
        return len(self._unanswered)

    def submit(self, request: Request) -> None:
        """Put the request where the stock iterator takes its next one from."""
        self._asked.append(request)
        self._unanswered.append(request)

    def next(self) -> HostBatch:
        """Wait for the workers to finish the oldest batch, or any with ``in_order=False``."""
        if self._batches is None:
            self._batches = iter(self._loader)
        number, data = next(self._batches)
        request = next(request for request in self._unanswered if request.number == number)
        self._unanswered.remove(request)
        if not self._unanswered:  # the stock iterator has ended; persistent workers start over
            self._batches = None
        return HostBatch(request=request, data=data)

    def stop(self) -> None:
        """Stop the workers; new ones make what was asked for, when it is waited for."""
        self._batches = None
        stop_workers(self._loader)
        self._asked.clear()
        self._asked.extend(self._unanswered)

    def close(self) -> None:
        """Stop the workers and forget what was asked for."""
        self.stop()
        self._asked.clear()
        self._unanswered.clear()


class _Taken(Sampler[Request]):
    """Gives the stock iterator whatever has been asked for, and ends when there is no more."""

    def __init__(self, asked: deque[Request]) -> None:
        self._asked = asked

    def __iter__(self) -> Iterator[Request]:
        while self._asked:
            yield self._asked.popleft()


class _MadeInWorker(Dataset[Any]):
    """What workers see as their dataset: asked for a request, it gives a whole batch."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._maker: BatchMaker | None = None

    def __getitem__(self, request: Request) -> tuple[int, Any]:
        if self._maker is None:  # in the worker, so that nothing of it has to be sent there
            self._maker = BatchMaker(self.recipe, _fresh, restore_generators=False)
        return request.number, self._maker.make(request)


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


class _WorkerStart:
    """Runs in each worker first: shows the user's dataset, and calls the user's function."""

    def __init__(self, worker_init_fn: Callable[[int], None] | None) -> None:
        self._worker_init_fn = worker_init_fn

    def __call__(self, worker_id: int) -> None:
        info: Any = get_worker_info()
        # WorkerInfo refuses plain assignment, and users' functions look for their own dataset here.
        object.__setattr__(info, "dataset", info.dataset.recipe.dataset)
        if self._worker_init_fn is not None:
            self._worker_init_fn(worker_id)


def stop_workers(loader: DataLoader[Any]) -> None:
    """End a stock loader's persistent workers now, not when the garbage collector comes by."""
    iterator: Any = loader._iterator
    loader._iterator = None
    if iterator is not None and hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()


def _fresh(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype)


def _as_is(made: Any) -> Any:
    return made
