"""A worker's own pass over an ``IterableDataset``."""

from collections.abc import Iterator
from typing import Any

from lightning_fastdata.loader.make import announce_epoch


class StreamEndedError(Exception):
    """The iterator has no further batch."""


class StreamReader:
    """Takes batches of samples from a dataset's iterator, as torch's workers do.

    Args:
        dataset: The iterable one.
        batch_size: Samples a batch; ``None`` gives single samples.
        drop_last: Whether a last batch that is not full is left out.
    """

    def __init__(self, dataset: Any, batch_size: int | None, drop_last: bool) -> None:
        self._dataset, self._batch_size, self._drop_last = dataset, batch_size, drop_last
        self._samples: Iterator[Any] | None = None

    def begin(self, epoch: int) -> None:
        """Begin a pass."""
        announce_epoch(self._dataset, epoch)
        self._samples = iter(self._dataset)

    def take(self) -> Any:
        """Give the samples of the next batch, or one sample where there are no batches.

        Raises:
            StreamEndedError: If there is none left.
        """
        if self._samples is None:
            raise StreamEndedError
        # Never a for loop over it: that calls iter() once more, which begins some streams anew.
        samples: list[Any] = []
        try:
            if self._batch_size is None:
                return next(self._samples)
            while len(samples) < self._batch_size:
                samples.append(next(self._samples))
        except StopIteration:
            self._samples = None
            if not samples or self._drop_last:
                raise StreamEndedError from None
        return samples
