"""Parts of a dataset: a seeded split that holds no list, and the way back through such views."""

from collections.abc import Sized
from typing import Any, cast

import numpy as np
from torch.utils.data import Dataset, Subset

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.order import EpochKey, Int64s, permute


class SplitView(Dataset[Any]):
    """One side of a seeded random split of a dataset.

    The split is a range of a seeded order of the whole dataset, so it takes no memory, is the same
    on every rank and in every run with the same seed, and its two sides never share a sample.

    Args:
        dataset: The whole dataset, map-style.
        start: First place of this side in the seeded order.
        stop: Place after its last.
        seed: Names the order.
    """

    def __init__(self, dataset: Dataset[Any], *, start: int, stop: int, seed: int) -> None:
        self.dataset = dataset
        self.start, self.stop, self.seed = start, stop, seed

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.base_indices(np.array([index]))[0])]

    def base_indices(self, indices: Int64s) -> Int64s:
        """Indices in the whole dataset of this side's ``indices``, shape ``(N,)`` both.

        Raises:
            IndexError: If one is not of this side; it would be a sample of the other.
        """
        length = len(self)
        outside = indices[(indices < -length) | (indices >= length)]
        if outside.size:
            raise IndexError(f"sample {outside[0]} of a split of {length} samples")
        key = EpochKey(seed=self.seed, epoch=0)
        return permute(self.start + indices % length, len(cast(Sized, self.dataset)), key)

    def sample_path(self, index: int) -> str:
        """The file of a sample, where the whole dataset can name it."""
        base = int(self.base_indices(np.array([index]))[0])
        return str(cast(Any, self.dataset).sample_path(base))


def split_dataset(
    dataset: Dataset[Any], val_fraction: float, seed: int
) -> tuple[SplitView, SplitView]:
    """Split a dataset at random into a training and a validation side.

    Args:
        dataset: Map-style, 2 samples or more.
        val_fraction: The validation side's share, between 0 and 1, rounded to whole samples.
        seed: Names the split.

    Returns:
        The training side, then the validation side; together they hold each sample once.

    Raises:
        SettingsError: If a side would be empty.
    """
    length = len(cast(Sized, dataset))
    val_length = round(length * val_fraction)
    if not 0 < val_length < length:
        raise SettingsError(
            f"val_fraction={val_fraction} of {length} samples leaves {length - val_length} to "
            f"train and {val_length} to validate, wanted 1 or more of each. Pass a fraction "
            f"between {1 / max(2, length):.2g} and {1 - 1 / max(2, length):.2g}, or a val_dataset."
        )
    validation = SplitView(dataset, start=0, stop=val_length, seed=seed)
    return SplitView(dataset, start=val_length, stop=length, seed=seed), validation


def base_of(dataset: Any) -> Any:
    """The dataset that a chain of splits and subsets finally reads from."""
    while type(dataset) is Subset or isinstance(dataset, SplitView):
        dataset = dataset.dataset
    return dataset


def resolve_indices(dataset: Any, indices: Int64s) -> Int64s:
    """Indices in ``base_of(dataset)`` of the dataset's own ``indices``, shape ``(N,)`` both."""
    while True:
        if isinstance(dataset, SplitView):
            indices = dataset.base_indices(indices)
        elif type(dataset) is Subset:
            chosen = dataset.indices
            indices = np.fromiter((chosen[i] for i in indices.tolist()), np.int64, len(indices))
        else:
            return indices
        dataset = dataset.dataset


def announce_epoch(dataset: Any, epoch: int) -> None:
    """Call ``set_epoch`` of the dataset, and of those it is a part of, where they have it."""
    while dataset is not None:
        set_epoch = getattr(dataset, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)
        dataset = getattr(dataset, "dataset", None)
