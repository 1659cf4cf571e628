"""Which file is which sample: all paths in one run of bytes, no Python object per file."""

import os
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightning_fastdata.dataset.image_scan import FolderTree


class ImageIndex:
    """Paths and labels of a folder of pictures: the bytes of the names plus 8 bytes a file.

    Labels take no memory: a class is a run of samples. A sample costs 1 microsecond to look up.

    Attributes:
        root: Absolute path of the folder.
        classes: Class names, sorted.
        class_counts: Samples of each class, in the order of ``classes``.
        names: Paths relative to ``root``, one after the other; uint8, read-only if mapped.
        offsets: Where each path starts in ``names``, int64, one more entry than samples.
        cache_path: The cache file that ``names`` and ``offsets`` are mapped from, if they are. A
            pickled index then holds only this path, and maps it again where it is unpickled.
        cache_checksum: The checksum of that file's content.
    """

    def __init__(
        self,
        *,
        root: str,
        classes: tuple[str, ...],
        class_counts: tuple[int, ...],
        names: "NDArray[np.uint8]",
        offsets: "NDArray[np.int64]",
        cache_path: Path | None = None,
        cache_checksum: int | None = None,
    ) -> None:
        self.root = root
        self.classes = classes
        self.class_counts = class_counts
        self.names = names
        self.offsets = offsets
        self.cache_path = cache_path
        self.cache_checksum = cache_checksum
        self._prefix = os.fsencode(os.path.join(root, ""))
        self._class_starts = [0, *accumulate(class_counts)][:-1]
        # A memoryview returns plain ints and slices in half of NumPy's time.
        self._names_view = names.data
        self._offsets_view = offsets.data

    def __len__(self) -> int:
        return len(self._offsets_view) - 1

    def path_at(self, index: int) -> bytes:
        """Return the absolute path of one sample, as the file system's bytes."""
        start, end = self._offsets_view[index], self._offsets_view[index + 1]
        return self._prefix + self._names_view[start:end].tobytes()

    def label_at(self, index: int) -> int:
        """Return the class number of one sample."""
        return bisect_right(self._class_starts, index) - 1

    def labels(self) -> list[int]:
        """Build the list of all class numbers: 8 bytes a sample."""
        return [label for label, count in enumerate(self.class_counts) for label in [label] * count]

    def __getstate__(self) -> dict[str, Any]:
        state = {
            name: getattr(self, name)
            for name in ("root", "classes", "class_counts", "cache_path", "cache_checksum")
        }
        if self.cache_path is None:
            state |= {"names": self.names, "offsets": self.offsets}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["cache_path"] is not None:
            from lightning_fastdata.dataset.index_cache import map_arrays  # it imports this class

            names, offsets = map_arrays(state["cache_path"], state["cache_checksum"])
            state = state | {"names": names, "offsets": offsets}
        self.__init__(**state)  # type: ignore[misc]  # the one way to build an index


def index_of_tree(root: str, tree: "FolderTree") -> ImageIndex:
    """Make an index, in this process's own memory, of what a scan found."""
    return ImageIndex(
        root=root,
        classes=tree.classes,
        class_counts=tree.class_counts,
        names=tree.names,
        offsets=tree.offsets,
    )
