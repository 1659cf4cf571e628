"""A worker's own pass over an ``IterableDataset``."""

from collections.abc import Callable, Iterator
from typing import Any

from lightning_fastdata.dataset.views import announce_epoch


class StreamEndedError(Exception):
    """The iterator has no further batch."""


class StreamReader:
    """Takes batches of samples from a dataset's iterator, as torch's workers do.

    Args:
        dataset: The iterable one.
        batch_size: Samples a batch; ``None`` gives single samples.
        drop_last: Whether a last batch that is not full is left out.
        watch: Called before each sample with its place in the batch.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None,
        drop_last: bool,
        watch: Callable[[int], None],
    ) -> None:
        self._dataset, self._batch_size, self._drop_last = dataset, batch_size, drop_last
        self.watch = watch
        self._samples: Iterator[Any] | None = None
        self._place, self._has_begun = 0, False

    def begin(self, epoch: int) -> None:
        """Begin a pass."""
        announce_epoch(self._dataset, epoch)
        self._samples, self._place, self._has_begun = iter(self._dataset), 0, True

    def must_begin(self, place: int) -> bool:
        """Whether a batch can only be had from a new beginning: this worker took another's place,
        or has given it already.
        """
        return not self._has_begun or place < self._place

    def take(self, place: int) -> Any:
        """Give the samples of a batch, or one sample where there are no batches.

        Args:
            place: How many batches of this pass come before it; those not taken yet are left out,
                as a worker before this one has given them.

        Raises:
            StreamEndedError: If there is none left.
        """
        while self._place < place:
            self._take()
        return self._take()

    def _take(self) -> Any:
        if self._samples is None:
            raise StreamEndedError
        self._place += 1
        # Never a for loop over it: that calls iter() once more, which begins some streams anew.
        samples: list[Any] = []
        try:
            self.watch(0)
            if self._batch_size is None:
                return next(self._samples)
            while len(samples) < self._batch_size:
                samples.append(next(self._samples))
                self.watch(len(samples))
        except StopIteration:
            self._samples = None
            if not samples or self._drop_last:
                raise StreamEndedError from None
        return samples
