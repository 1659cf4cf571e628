"""Which pictures are trained on, and which are validated with: alike for every run."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightning_fastdata.dataset.image_folder import ImageFolder
from lightning_fastdata.dataset.views import SplitView, split_dataset
from lightning_fastdata.errors import DatasetError

VAL_FRACTION = 0.1  # guess, where the folder has no val/ of its own
MAX_VAL_SAMPLES = 400  # guess: accuracy to some 2 points, in a second or two
READ_AHEAD_BYTES = 2**30  # guess: seconds from most disks
_VAL_NAMES = ("val", "valid", "validation", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureSets:
    """The pictures of a demo: our datasets, and what another dataset needs to read the same."""

    train: ImageFolder
    """All pictures below ``train_root``, cut at random."""
    val: ImageFolder
    """All pictures below ``val_root``, cut at the centre."""
    train_indices: list[int] | None
    """Which of them are trained on; ``None`` is all."""
    val_indices: list[int] | None
    """Which of them are validated with; ``None`` is all."""

    @property
    def train_root(self) -> str:
        """Folder with one folder a class."""
        return self.train.root

    @property
    def val_root(self) -> str:
        """Folder with one folder a class; the same where it was split."""
        return self.val.root

    @property
    def train_count(self) -> int:
        """Samples to train on."""
        return len(self.train) if self.train_indices is None else len(self.train_indices)

    @property
    def val_count(self) -> int:
        """Samples to validate with."""
        return len(self.val) if self.val_indices is None else len(self.val_indices)


def choose_pictures(root: Path, *, size: int, seed: int, cache_dir: Path) -> PictureSets:
    """Find the pictures below ``root``, splitting them where they are not split.

    Args:
        root: One folder a class, or ``train`` and ``val`` with such folders inside.
        size: Height and width of a sample in pixels.
        seed: Names the split.
        cache_dir: Where lists of files are kept.

    Raises:
        DatasetError: The folder is missing or not of this kind, or ``val`` has other classes.
        SettingsError: There are too few pictures to split.
    """
    val_root = next((root / name for name in _VAL_NAMES if (root / name).is_dir()), None)
    if val_root is not None and (root / "train").is_dir():
        train = ImageFolder(root / "train", size=size, train=True, cache_dir=cache_dir)
        val = ImageFolder(val_root, size=size, cache_dir=cache_dir)
        if train.classes != val.classes:
            only = sorted(set(train.classes) ^ set(val.classes))[0]
            raise DatasetError(
                f"{root} has the class {only!r} on one side of train and {val_root.name} only, "
                "wanted the same folders on both. Add or remove that folder."
            )
        train_indices: list[int] | None = None
        val_indices = _shortened(None, len(val), seed)
    else:
        train = ImageFolder(root, size=size, train=True, cache_dir=cache_dir)
        val = ImageFolder(root, size=size, cache_dir=cache_dir)
        train_side, val_side = split_dataset(train, VAL_FRACTION, seed)
        train_indices = _indices_of(train_side)
        val_indices = _shortened(_indices_of(val_side), len(val_side), seed)
    return PictureSets(train=train, val=val, train_indices=train_indices, val_indices=val_indices)


def read_ahead(pictures: PictureSets) -> bool:
    """Read the training files once, so that no run finds a colder disk cache than the next.

    Returns:
        Whether all were read; not where they are more than 1 GiB.
    """
    bytes_read = 0
    for index in range(len(pictures.train)):
        if bytes_read > READ_AHEAD_BYTES:
            return False
        with suppress(OSError):  # the run that meets this file says what is wrong with it
            bytes_read += len(Path(pictures.train.sample_path(index)).read_bytes())
    return True


def _indices_of(side: SplitView) -> list[int]:
    indices: list[int] = side.base_indices(np.arange(len(side))).tolist()
    return indices


def _shortened(indices: list[int] | None, count: int, seed: int) -> list[int] | None:
    if count <= MAX_VAL_SAMPLES:
        return indices
    chosen = np.random.default_rng(seed).choice(count, MAX_VAL_SAMPLES, replace=False)
    return [int(place) if indices is None else indices[place] for place in chosen]
