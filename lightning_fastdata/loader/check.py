"""Arguments that cannot work, refused before anything is read or started."""

import os
from collections.abc import Sized
from typing import Any, cast

from torch.utils.data import IterableDataset

from lightning_fastdata.errors import DatasetError, SettingsError
from lightning_fastdata.machine import read_machine

WORKERS_PER_CORE = 32  # guess: even workers that only wait for storage gain nothing beyond


def check_loader(dataset: Any, batch_size: Any, num_workers: Any, drop_last: bool) -> int | None:
    """Refuse what no loader can be made of; give the dataset's length, ``None`` for a stream."""
    check_workers(num_workers)
    length = check_length(dataset)
    check_batches(length, batch_size, drop_last)
    return length


def check_length(dataset: Any) -> int | None:
    """Give the number of samples of a map-style dataset, ``None`` for a stream.

    Raises:
        DatasetError: If it has no samples, or no length.
    """
    if isinstance(dataset, IterableDataset):
        return None
    kind = type(dataset).__name__
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DatasetError(
            f"the dataset is a {kind}, wanted one with __len__ and __getitem__, or an "
            "IterableDataset. Add the missing methods, or derive it from IterableDataset."
        )
    length = len(cast(Sized, dataset))
    if length == 0:
        raise DatasetError(
            f"the dataset ({kind}) has 0 samples, wanted 1 or more. Look at the path, the split "
            "or the filter that it is built from."
        )
    return length


def check_batches(length: int | None, batch_size: int | None, drop_last: bool) -> None:
    """Refuse batches that cannot be made.

    Raises:
        SettingsError: If ``batch_size`` is not 1 or more, or no batch would be left.
    """
    if batch_size is None:
        return
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise SettingsError(
            f"batch_size={batch_size!r}, wanted a whole number of 1 or more. Pass for example 32."
        )
    if drop_last and length is not None and batch_size > length:
        raise SettingsError(
            f"batch_size={batch_size} with drop_last=True of {length} samples leaves no batch, "
            f"wanted 1 or more. Pass a batch_size of {length} or less, or drop_last=False."
        )


def refuse_empty_share(loader: Any) -> None:
    """Refuse a training loader that has no batch for this rank, once the ranks are known.

    Raises:
        SettingsError: If ``drop_last`` leaves none.
    """
    if loader.drop_last and not isinstance(loader.dataset, IterableDataset) and len(loader) == 0:
        raise SettingsError(
            f"batch_size={loader.batch_size} with drop_last=True leaves no batch of the "
            f"{len(loader.sampler)} samples that are this rank's share of {len(loader.dataset)}, "
            "wanted 1 or more. Pass a smaller batch_size, or drop_last=False."
        )


def check_workers(num_workers: Any) -> None:
    """Refuse a number of workers that no machine of this size can use.

    Raises:
        SettingsError: If it is negative, no number, or far beyond the cores.
    """
    if num_workers == "auto":
        return
    if not isinstance(num_workers, int) or isinstance(num_workers, bool) or num_workers < 0:
        raise SettingsError(
            f'num_workers={num_workers!r}, wanted 0 or more, or "auto". 0 loads in the training '
            'process; "auto" measures.'
        )
    if num_workers <= WORKERS_PER_CORE:
        return
    machine = read_machine(os.environ)
    most = max(1, round(machine.cores)) * WORKERS_PER_CORE
    if num_workers > most:
        raise SettingsError(
            f"num_workers={num_workers}, wanted at most {most}: this process may use "
            f'{machine.cores:g} cores ({machine.cores_reason}). Pass fewer, or "auto".'
        )
