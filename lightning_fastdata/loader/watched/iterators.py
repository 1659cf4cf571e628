"""torch's own two iterators, which note the way of each batch and deliver it as ever."""

from time import perf_counter_ns
from typing import Any

from torch.utils.data.dataloader import (
    DataLoader,
    _DatasetKind,
    _MultiProcessingDataLoaderIter,
    _SingleProcessDataLoaderIter,
)

from lightning_fastdata.loader.watched.envelope import Envelope
from lightning_fastdata.loader.watched.measured import (
    MeasuredCollate,
    MeasuredDataset,
    MeasuredStream,
    Meter,
    WorkerStart,
)
from lightning_fastdata.trace.samples import size_bytes_of
from lightning_fastdata.trace.work import BatchTimes, WorkTrace

SIZED_EVERY = 32  # guess: all batches of a loader are of one size
SINK = "_lightning_fastdata_sink"
"""The attribute of a watched loader's class under which its sink is found."""
NEEDED = ("_get_data", "_next_data", "_reset", "_try_put_index")
"""The methods of torch's iterator that are hooked into."""


class Sink:
    """Where the batches of one watched loader are recorded, for all that want them."""

    def __init__(self) -> None:
        self.works: list[WorkTrace] = []
        self.problem: str | None = None
        """What could not be measured."""
        self._seen = 0

    def take(self, envelope: Envelope, number: int, asked_ns: int | None, wanted_ns: int) -> Any:
        """Take the batch out for the loop, and record its way; never raises."""
        batch, envelope.batch = envelope.batch, None
        if not self.works:
            return batch
        self.problem = self.problem or envelope.problem
        size_bytes = None if self._seen % SIZED_EVERY else size_bytes_of(batch)
        self._seen += 1
        try:
            times = _times_of(envelope, number, asked_ns, wanted_ns, size_bytes)
            for work in self.works:
                work.add(times)
        except Exception as error:
            self.problem = self.problem or f"a batch could not be recorded ({error!r})"
        return batch


class _AsMeasured:
    """A loader as its iterator is to see it: the user's own, but for three measured parts."""

    def __init__(self, loader: Any) -> None:
        meter = Meter()
        is_stream = loader._dataset_kind == _DatasetKind.Iterable
        self._loader = loader
        self.dataset = (MeasuredStream if is_stream else MeasuredDataset)(loader.dataset, meter)
        pin_device = getattr(loader, "pin_memory_device", "") or None
        self.collate_fn = MeasuredCollate(loader.collate_fn, meter, pin_device)
        self.worker_init_fn = WorkerStart(loader.worker_init_fn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def iterator_of(loader: DataLoader[Any]) -> Any:
    """Make the iterator of a watched loader, as torch would make its own."""
    if loader.num_workers == 0:
        return _WatchedInline(loader)
    loader.check_worker_number_rationality()
    return _WatchedWorkers(loader)


def is_watched_iterator(iterator: Any) -> bool:
    """Whether it was made by ``iterator_of``."""
    return isinstance(iterator, (_WatchedInline, _WatchedWorkers))


def _show_own_parts(iterator: Any, loader: Any, stock: type) -> None:
    """Let an iterator look like torch's, in warnings and in profiles; its parts are in use by now.

    Whoever looks at its dataset or its functions finds the user's own.
    """
    iterator._dataset, iterator._collate_fn = loader.dataset, loader.collate_fn
    iterator._profile_name = f"enumerate(DataLoader)#{stock.__name__}.__next__"


class _WatchedInline(_SingleProcessDataLoaderIter):
    """Makes each batch when it is asked for."""

    def __init__(self, loader: Any) -> None:
        super().__init__(_AsMeasured(loader))
        self._sink: Sink = getattr(loader, SINK)
        _show_own_parts(self, loader, _SingleProcessDataLoaderIter)

    def _next_data(self) -> Any:
        wanted_ns = perf_counter_ns()
        envelope: Any = super()._next_data()  # type: ignore[no-untyped-call]
        if envelope.times is not None and envelope.pinned_ns is not None:
            # Pinned in the same thread: a part of the work.
            envelope.times = envelope.times._replace(
                ended_ns=envelope.pinned_ns, pack_ns=envelope.pinned_ns - envelope.pinning_ns
            )
            envelope.pinning_ns = None
        return self._sink.take(envelope, self._num_yielded, None, wanted_ns)


class _WatchedWorkers(_MultiProcessingDataLoaderIter):
    """Has its batches made by workers."""

    def __init__(self, loader: Any) -> None:
        self._asked_ns: dict[int, int] = {}
        self._sink = Sink()
        super().__init__(_AsMeasured(loader))
        self._worker_init_fn = loader.worker_init_fn
        _show_own_parts(self, loader, _MultiProcessingDataLoaderIter)

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        # Persistent workers outlive a fit: the next one has a sink of its own, or none.
        self._sink = getattr(loader, SINK, None) or Sink()
        self._asked_ns.clear()
        super()._reset(loader, first_iter)

    def _try_put_index(self) -> None:
        number = self._send_idx
        asked_ns = perf_counter_ns()
        super()._try_put_index()
        if self._send_idx != number:
            self._asked_ns[number] = asked_ns

    def _get_data(self) -> Any:
        answer: Any = super()._get_data()  # type: ignore[no-untyped-call]
        number, envelope = answer
        if type(envelope) is Envelope:
            envelope.number = number
        return answer

    def _next_data(self) -> Any:
        wanted_ns = perf_counter_ns()
        envelope: Any = super()._next_data()  # type: ignore[no-untyped-call]
        asked_ns = self._asked_ns.pop(envelope.number, None)
        return self._sink.take(envelope, envelope.number, asked_ns, wanted_ns)


def _times_of(
    envelope: Envelope,
    number: int,
    asked_ns: int | None,
    wanted_ns: int,
    size_bytes: int | None,
) -> BatchTimes:
    chunk = envelope.times
    if chunk is not None and chunk.slowest and chunk.slowest[0][1] is None:
        # Of a stream: its samples have no index, but a place.
        slowest = tuple((row, (number, row), sample_ns) for row, _, sample_ns in chunk.slowest)
        chunk = chunk._replace(slowest=slowest)
    pinning_ns, pinned_ns = envelope.pinning_ns, envelope.pinned_ns
    return BatchTimes(
        number=number,
        asked_ns=wanted_ns if asked_ns is None else asked_ns,
        sent_ns=asked_ns,
        arrived_ns=envelope.arrived_ns,
        wanted_ns=wanted_ns,
        taken_ns=perf_counter_ns(),
        size_bytes=size_bytes,
        chunks=() if chunk is None else (chunk,),
        pin_ns=None if pinning_ns is None or pinned_ns is None else pinned_ns - pinning_ns,
    )
