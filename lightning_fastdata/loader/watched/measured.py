"""The user's dataset and ``collate_fn``, measured where they run: in a worker, or in the loop."""

import operator
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import Subset, get_worker_info

from lightning_fastdata.loader.stopwatch import Stopwatch
from lightning_fastdata.loader.watched.envelope import Envelope
from lightning_fastdata.trace.work import ChunkTimes


class Meter:
    """Measures batch after batch of one process; where that fails it stops, and the run goes on.

    The measuring dataset and the measuring ``collate_fn`` of a loader share one.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        """Why it has stopped measuring."""
        self._stopwatch: Stopwatch | None = None
        self.keys: list[Any] = []
        """The index or key of each sample of the batch."""
        self._note: Callable[[int], None] = _nobody_notes
        self._samples = 0
        self._is_open = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Meter, ()  # a worker measures with a stopwatch of its own

    def begin(self, samples: int = 0) -> Callable[[int], None]:
        """Begin a batch.

        Args:
            samples: How many there are, where they are made at one go.

        Returns:
            Takes note that the sample of a row is about to be made.
        """
        self.keys.clear()
        self._samples, self._is_open = samples, True
        if self.problem is not None:
            return _nobody_notes
        try:
            if self._stopwatch is None:
                # Here and not before: only now it is known which process this is.
                info: Any = get_worker_info()
                self._stopwatch = Stopwatch(None if info is None else info.id)
            self._stopwatch.begin(closely=True)
        except Exception as error:
            self._give_up(error)
            return _nobody_notes
        return self._stopwatch.sample

    def begin_one(self, index: Any) -> None:
        """Begin a batch that is one sample, or, for a list of indices, made at one go."""
        if isinstance(index, list):
            self.begin(len(index))
            return
        note = self.begin()
        self.keys.append(index)
        note(0)

    def next_sample(self) -> None:
        """Note that the next sample of a stream is wanted, maybe the first of a batch."""
        if not self._is_open:
            self._note = self.begin()
        self._note(len(self.keys))
        self.keys.append(None)

    def no_sample(self) -> None:
        """Take the last sample back: the stream had no more."""
        self.keys.pop()

    def drop(self) -> None:
        """Forget the batch, which could not be made."""
        self._is_open = False

    def collating(self) -> None:
        """Note that the samples have been made."""
        if self._stopwatch is None:
            return
        try:
            self._stopwatch.enter("collate")
        except Exception as error:
            self._give_up(error)

    def stop(self) -> ChunkTimes | None:
        """End the batch."""
        self._is_open = False
        if self._stopwatch is None:
            return None
        try:
            samples = self._samples or len(self.keys)
            return self._stopwatch.stop(samples=samples, key_of=self._key_of)
        except Exception as error:
            self._give_up(error)
            return None

    def _key_of(self, row: int) -> Any:
        return plain_key(self.keys[row]) if row < len(self.keys) else None

    def _give_up(self, error: Exception) -> None:
        self._stopwatch, self._note = None, _nobody_notes
        self.problem = f"a worker could not measure ({error!r})"


def _nobody_notes(row: int) -> None:
    pass


def plain_key(key: Any) -> Any:
    """An index or key as plain Python: a tensor would be sent through shared memory."""
    if key is None or isinstance(key, (str, float)):
        return key
    if isinstance(key, tuple):
        return tuple(plain_key(part) for part in key)
    try:
        return operator.index(key)
    except TypeError:
        return repr(key)


class MeasuredDataset:
    """A map-style dataset: asked for the same indices in the same order as without it."""

    def __init__(self, dataset: Any, meter: Meter) -> None:
        self.dataset = dataset
        self._meter = meter

    def __getitem__(self, index: Any) -> Any:
        """One item, without automatic batching."""
        self._meter.begin_one(index)
        return self.dataset[index]

    def __getitems__(self, indices: Any) -> Any:
        """The samples of a batch."""
        subsets, base = _through_subsets(self.dataset)
        # torch asks a dataset in this way, and a Subset asks the one inside it with callable().
        getitems = getattr(base, "__getitems__", None)
        if callable(getitems) if subsets else getitems:
            self._meter.begin(_length_of(indices))
            return self.dataset.__getitems__(indices)
        samples: list[Any] = []
        note, keys = self._meter.begin(), self._meter.keys
        for row, index in enumerate(indices):
            keys.append(index)
            note(row)
            for subset in subsets:
                index = subset.indices[index]
            samples.append(base[index])
        return samples


def _length_of(indices: Any) -> int:
    return len(indices) if hasattr(indices, "__len__") else 0


def _through_subsets(dataset: Any) -> tuple[list[Any], Any]:
    """The subsets that a dataset consists of and what they read from.

    A ``Subset`` always makes its samples at one go, one by one where its dataset cannot do more.
    Only exactly that class: a subclass may do anything.
    """
    subsets = []
    while type(dataset) is Subset:
        subsets.append(dataset)
        dataset = dataset.dataset
    return subsets, dataset


class MeasuredStream:
    """An ``IterableDataset``."""

    def __init__(self, dataset: Any, meter: Meter) -> None:
        self.dataset = dataset
        self._meter = meter

    def __iter__(self) -> Iterator[Any]:
        self._meter.drop()
        return _MeasuredSamples(iter(self.dataset), self._meter)


class _MeasuredSamples:
    def __init__(self, samples: Iterator[Any], meter: Meter) -> None:
        self._samples, self._meter = samples, meter

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._meter.next_sample()
        try:
            return next(self._samples)
        except StopIteration:
            self._meter.no_sample()
            raise
        except BaseException:
            self._meter.drop()
            raise


class MeasuredCollate:
    """A ``collate_fn`` that puts its batch into an envelope.

    Args:
        collate_fn: The user's.
        meter: The one of the dataset.
        pin_device: The loader's ``pin_memory_device``, if any.
    """

    def __init__(
        self, collate_fn: Callable[[Any], Any], meter: Meter, pin_device: str | None
    ) -> None:
        self._collate_fn, self._meter, self._pin_device = collate_fn, meter, pin_device

    def __call__(self, samples: Any) -> Envelope:
        """Put samples together, which ends their batch."""
        meter = self._meter
        meter.collating()
        batch = self._collate_fn(samples)
        return Envelope(batch, meter.stop(), meter.problem, self._pin_device)


class WorkerStart:
    """Runs in each worker first: shows the user's own dataset, and calls the user's function."""

    def __init__(self, worker_init_fn: Callable[[int], None] | None) -> None:
        self._worker_init_fn = worker_init_fn

    def __call__(self, worker_id: int) -> None:
        """Do so in this worker."""
        info: Any = get_worker_info()
        # WorkerInfo refuses plain assignment, and users' functions look for their own dataset here.
        object.__setattr__(info, "dataset", info.dataset.dataset)
        if self._worker_init_fn is not None:
            self._worker_init_fn(worker_id)
