"""What one loader is made of, before it is decided how it loads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
    default_convert,
)

from lightning_fastdata.loader.fast_data_loader import FastDataLoader


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderParts:
    """The parts of a loader that change what it gives; how fast is the plan's matter."""

    dataset: Any
    batch_size: int | None
    shuffle: bool
    drop_last: bool
    sampler: Any = None
    batch_sampler: Any = None
    collate_fn: Callable[[Any], Any] | None = None
    batch_transform: Callable[[Any], Any] | None = None
    worker_init_fn: Callable[[int], None] | None = None
    timeout: float = 0
    multiprocessing_context: Any = None


def parts_of_loader(loader: Any) -> LoaderParts | None:
    """Read the parts of a stock DataLoader.

    Args:
        loader: Whatever a data module's hook returned.

    Returns:
        Parts that give the same samples in batches of the same size; ``None`` where the loader is
        not torch's own class, and so is better left as it is.
    """
    if type(loader) is not DataLoader or isinstance(loader, FastDataLoader):
        return None
    # torch gives a loader made with a batch_sampler, even one of its own class, no batch_size.
    own_batches = loader.batch_sampler is not None and loader.batch_size is None
    is_stream = isinstance(loader.dataset, IterableDataset)
    shuffle = _is_plain_shuffle(loader.sampler)
    own_sampler = not is_stream and not shuffle and type(loader.sampler) is not SequentialSampler
    collates_as_torch = loader.collate_fn in (default_collate, default_convert)
    return LoaderParts(
        dataset=loader.dataset,
        batch_size=1 if own_batches else loader.batch_size,
        shuffle=shuffle and not own_batches,
        drop_last=False if own_batches else loader.drop_last,
        sampler=loader.sampler if own_sampler and not own_batches else None,
        batch_sampler=loader.batch_sampler if own_batches else None,
        collate_fn=None if collates_as_torch else loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        timeout=loader.timeout,
        multiprocessing_context=loader.multiprocessing_context,
    )


def _is_plain_shuffle(sampler: Any) -> bool:
    return (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.num_samples == len(sampler.data_source)
    )
