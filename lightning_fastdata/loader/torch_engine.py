"""The torch engine: the stock ``DataLoader``'s workers, told batch by batch what to make."""

import os
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from lightning_fastdata.errors import SampleError
from lightning_fastdata.loader.engine import NOTHING, HostBatch, Request
from lightning_fastdata.loader.make import BadSamplesError, BatchMaker, Recipe
from lightning_fastdata.loader.mend import Mender
from lightning_fastdata.loader.own_files import own_read_positions
from lightning_fastdata.loader.stopwatch import Stopwatch
from lightning_fastdata.trace.work import ChunkTimes


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


def worker_settings_of(loader: DataLoader[Any]) -> WorkerSettings:
    """Read at the start of a pass: Lightning sets ``worker_init_fn`` after construction."""
    return WorkerSettings(
        num_workers=loader.num_workers,
        prefetch_factor=loader.prefetch_factor,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        in_order=loader.in_order,
    )


class TorchEngine:
    """Worker processes that make whole batches, prefetched and in order as torch does it.

    Args:
        recipe: What to make batches with; it is sent to the workers once.
        settings: How the workers are run; one or more.
        mender: Says what becomes of bad samples.
    """

    def __init__(self, recipe: Recipe, settings: WorkerSettings, mender: Mender) -> None:
        self.watched = False
        self._mender, self._in_order = mender, settings.in_order
        self._finished: dict[int, Any] = {}
        self._times: dict[int, ChunkTimes] = {}
        self._asked: deque[Request] = deque()
        self._unanswered: deque[Request] = deque()
        self._batches: Iterator[Any] | None = None
        self._prefetch = settings.num_workers * (settings.prefetch_factor or 2)
        self._loader: DataLoader[Any] = DataLoader(
            _MadeInWorker(recipe, finds_all_bad=not mender.raises),
            sampler=_Taken(self._asked, lambda: self.watched),
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
        self._unanswered.append(request)
        if request.is_void:
            self._finished[request.number] = NOTHING
        else:
            self._asked.append(request)

    def next(self) -> HostBatch:
        """Wait for the workers to finish the oldest batch, or any with ``in_order=False``."""
        number = self._next_finished()
        request = next(request for request in self._unanswered if request.number == number)
        self._unanswered.remove(request)
        times = self._times.pop(number, None)
        return HostBatch(
            request=request,
            data=self._finished.pop(number),
            times=() if times is None else (times,),
            arrived_ns=None if times is None else times.ended_ns,
        )

    def _next_finished(self) -> int:
        while True:
            wanted = (
                self._unanswered[0].number if self._in_order else min(self._finished, default=-1)
            )
            if wanted in self._finished:
                return wanted
            if self._batches is None:
                self._batches = iter(self._loader)
            try:
                number, data, times = next(self._batches)
            except StopIteration:  # all that was asked for has come; persistent workers start over
                self._batches = None
                continue
            self._finished[number] = data
            if times is not None:
                self._times[number] = times
            if isinstance(data, _Bad):
                self._ask_again(number, data)

    def _ask_again(self, number: int, bad: "_Bad") -> None:
        del self._finished[number]
        place = next(k for k, request in enumerate(self._unanswered) if request.number == number)
        mended = self._mender.mend(self._unanswered[place], bad.samples)
        self._unanswered[place] = mended
        if mended.is_void:
            self._finished[number] = NOTHING
        else:
            self._asked.appendleft(mended)

    def resize(self, num_workers: int, depth: int) -> bool:
        """Say no: torch's workers stay as many as they were started."""
        return False

    def stop(self) -> None:
        """Stop the workers; new ones make what was asked for, when it is waited for."""
        self._batches = None
        stop_workers(self._loader)
        self._asked.clear()
        self._asked.extend(
            request for request in self._unanswered if request.number not in self._finished
        )

    def close(self) -> None:
        """Stop the workers and forget what was asked for."""
        self.stop()
        self._asked.clear()
        self._unanswered.clear()
        self._finished.clear()
        self._times.clear()


class _Bad:
    """What a worker sends instead of a batch with bad samples."""

    def __init__(self, samples: Sequence[tuple[int, Exception]]) -> None:
        self.samples = [(row, _sendable(error)) for row, error in samples]


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its class refuses in its own way; then name and text have to do
        return SampleError(f"{type(error).__name__}: {error}")
    return error


class _Taken(Sampler[tuple[Request, bool]]):
    """Gives the stock iterator whatever has been asked for, and ends when there is no more."""

    def __init__(self, asked: deque[Request], is_watched: Callable[[], bool]) -> None:
        self._asked, self._is_watched = asked, is_watched

    def __iter__(self) -> Iterator[tuple[Request, bool]]:
        while self._asked:
            yield self._asked.popleft(), self._is_watched()


class _MadeInWorker(Dataset[Any]):
    """What workers see as their dataset: asked for a request, it gives a whole batch."""

    def __init__(self, recipe: Recipe, *, finds_all_bad: bool) -> None:
        self.recipe, self._finds_all_bad = recipe, finds_all_bad
        self._maker: BatchMaker | None = None
        self._stopwatch: Stopwatch | None = None

    def __getitem__(self, task: tuple[Request, bool]) -> tuple[int, Any, ChunkTimes | None]:
        request, is_watched = task
        maker, stopwatch = self._prepared()
        if not is_watched:
            stopwatch.rest()
            return request.number, self._made(maker, request), None
        before = maker.watch, maker.enter
        maker.watch, maker.enter = stopwatch.sample, stopwatch.enter
        stopwatch.begin(closely=True)
        try:
            made = self._made(maker, request)
        finally:
            maker.watch, maker.enter = before
        keys = request.keys
        times = stopwatch.stop(samples=len(request.seeds), key_of=lambda row: keys[row])
        return request.number, made, times

    def _made(self, maker: BatchMaker, request: Request) -> Any:
        try:
            return maker.make(request)
        except BadSamplesError as error:
            return _Bad(error.samples)

    def _prepared(self) -> tuple[BatchMaker, Stopwatch]:
        """What is needed, made in the worker, so that nothing of it has to be sent there."""
        if self._maker is None or self._stopwatch is None:
            info = get_worker_info()
            self._stopwatch = Stopwatch(None if info is None else info.id)
            self._maker = BatchMaker(
                self.recipe,
                _fresh,
                restore_generators=False,
                finds_all_bad=self._finds_all_bad,
                maker=f"a worker of torch (process {os.getpid()})",
            )
        return self._maker, self._stopwatch


class _WorkerStart:
    """Runs in each worker first: shows the user's dataset, and calls the user's function."""

    def __init__(self, worker_init_fn: Callable[[int], None] | None) -> None:
        self._worker_init_fn = worker_init_fn

    def __call__(self, worker_id: int) -> None:
        info: Any = get_worker_info()
        # WorkerInfo refuses plain assignment, and users' functions look for their own dataset here.
        object.__setattr__(info, "dataset", info.dataset.recipe.dataset)
        own_read_positions()
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
