"""Pictures in one folder per class, read fast on the CPU."""

import copy
import operator
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import Self, override

from lightning_fastdata.dataset.crop_box import (
    Cut,
    centre_cut,
    crop_rule,
    draw_crop_box,
    draw_flip,
)
from lightning_fastdata.dataset.image_decode import decode_into, read_file
from lightning_fastdata.dataset.image_index import ImageIndex, index_of_tree
from lightning_fastdata.dataset.image_scan import scan_tree
from lightning_fastdata.dataset.index_cache import default_cache_dir, load_or_scan
from lightning_fastdata.dataset.pillow_decode import open_with_pillow
from lightning_fastdata.errors import SampleError, SettingsError
from lightning_fastdata.trace.stages import stage

# The endings, mean and deviation are torchvision's.
IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageFolder(Dataset[tuple[Any, int]]):
    """Pictures and class numbers, laid out and ordered as torchvision's ``ImageFolder``.

    A sample is ``(picture, label)``: a uint8 tensor on the CPU, ``(3, size, size)``, that the
    caller owns, and a plain int. Pictures of any mode come out as RGB; alpha is dropped, and EXIF
    rotation is not applied, both as in torchvision. All random draws come from torch's default
    generator.

    A file that cannot be made into a sample is a ``SampleError`` that names it: missing, unreadable
    or no regular file; no picture; ending early; a JPEG whose scan ends before the sample does;
    more than twice ``PIL.Image.MAX_IMAGE_PIXELS`` pixels, refused before they take memory. Flipped
    bits are not noticed as long as the rest decodes. With a ``transform`` Pillow decides what is
    damaged: it does not see a scan end early if an end marker follows. ``PIL.ImageFile``'s
    ``LOAD_TRUNCATED_IMAGES`` lets damaged pictures pass.

    Args:
        root: Folder with one folder per class. Symbolic links are followed.
        size: Height and width of a sample, in pixels.
        train: ``True``: a random box, drawn as torchvision's ``RandomResizedCrop`` draws it, then a
            random mirroring. ``False``: the centre that remains of the usual
            ``Resize(size * 256 / 224)`` and ``CenterCrop(size)``.
        transform: Receives each picture as PIL in RGB, as torchvision's transform does. Its result
            is returned as it is; ``size``, ``train`` and what follows from them are then not used.
        extensions: Endings of picture files, in any case.
        is_valid_file: Says of each path whether it is a picture, instead of ``extensions``. The
            index is then not cached.
        mean: Per channel, of values in 0 to 1: for whoever normalises on the device, not here.
        std: As ``mean``.
        scale: Smallest and largest share of the area for a random box, 0 to 1.
        ratio: Smallest and largest width / height of a random box.
        hflip: Probability of mirroring when ``train``, 0 to 1.
        cache_dir: Where the list of files is kept between runs; ``None`` is the user's cache
            folder. It is used while no folder below ``root`` has changed.

    Attributes:
        classes: Class names, sorted.
        class_to_idx: Class name to class number.
        index: The list of files.

    Raises:
        DatasetError: ``root`` is missing, no folder, without class folders, or a class is empty.
        SettingsError: An argument that cannot work.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: int = 224,
        train: bool = False,
        transform: Callable[[Image.Image], Any] | None = None,
        extensions: str | Sequence[str] = IMG_EXTENSIONS,
        is_valid_file: Callable[[str], bool] | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        hflip: float = 0.5,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))
        self.size = _checked_size(size)
        self.train = train
        self.transform = transform
        self.extensions = _checked_extensions(extensions)
        self.mean = _checked_channels("mean", mean)
        self.std = _checked_channels("std", std)
        self.scale = _checked_span("scale", scale, 1.0)
        self.ratio = _checked_span("ratio", ratio, float("inf"))
        self.hflip = _checked_probability(hflip)
        self._rule = crop_rule(self.scale, self.ratio)
        self.index = _find_index(self.root, self.extensions, is_valid_file, cache_dir)
        self.classes = list(self.index.classes)
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}

    @cached_property
    def targets(self) -> list[int]:
        """The class number of every sample: 8 bytes a sample, made at the first use."""
        return self.index.labels()

    def __len__(self) -> int:
        return len(self.index)

    @override
    def __getitem__(self, index: int) -> tuple[Any, int]:
        if self.transform is None:
            picture = torch.empty((3, self.size, self.size), dtype=torch.uint8)
            return picture, self.decode_into(picture, index)
        position = self._position(index)
        unchanged = self._read_with_pillow(position)
        with stage("transform"):
            sample = self.transform(unchanged)
        return sample, self.index.label_at(position)

    def decode_into(self, out: Tensor, index: int) -> int:
        """Write one sample into ``out``, such as a row of a batch, and return its class number.

        The same pixels and the same random draws as ``dataset[index]`` without a transform.

        Args:
            out: uint8 on the CPU, shape ``(3, size, size)``, any strides. Unchanged on an error.
            index: The sample; negative counts from the end.

        Returns:
            The class number.

        Raises:
            SampleError: The file is missing, unreadable, no picture, incomplete or too large.
            IndexError: There is no such sample.
        """
        position = self._position(index)
        data = self._read(position)
        try:
            with stage("decode"):
                decode_into(out, data, self._plan_cut)
        except Exception as error:
            raise self._undecodable(position, len(data), error) from error
        return self.index.label_at(position)

    def for_evaluation(self) -> Self:
        """Return the same pictures with ``train=False``; the list of files is shared."""
        evaluation = copy.copy(self)
        evaluation.train = False
        return evaluation

    def sample_path(self, index: int) -> str:
        """Return the path of the file that sample ``index`` is read from."""
        return os.fsdecode(self.index.path_at(self._position(index)))

    def __repr__(self) -> str:
        return f"ImageFolder({self.root!r}: {len(self)} pictures, {len(self.classes)} classes)"

    def __getstate__(self) -> dict[str, Any]:
        # Workers do not need the list, and pickling it would cost more than all the rest.
        return {name: value for name, value in self.__dict__.items() if name != "targets"}

    def _position(self, index: int) -> int:
        position = operator.index(index)
        count = len(self.index)
        if position < 0:
            position += count
        if not 0 <= position < count:
            raise IndexError(f"sample {index} of {count}: wanted {-count} to {count - 1}")
        return position

    def _plan_cut(self, height: int, width: int) -> Cut:
        if not self.train:
            return centre_cut(height, width, self.size)
        box = draw_crop_box(height, width, self._rule)
        return Cut(box, None, draw_flip(self.hflip))

    def _read(self, position: int) -> bytearray:
        try:
            with stage("read"):
                return read_file(self.index.path_at(position))
        except OSError as error:
            raise SampleError(
                f"sample {position} ({self.sample_path(position)}) cannot be read: "
                f"{error.strerror}. Wanted a file that can be read, as it was when the folder was "
                "listed. Restore it or its permissions."
            ) from error

    def _read_with_pillow(self, position: int) -> Image.Image:
        data = self._read(position)
        try:
            with stage("decode"):
                return open_with_pillow(data)
        except Exception as error:
            raise self._undecodable(position, len(data), error) from error

    def _undecodable(self, position: int, file_bytes: int, error: Exception) -> SampleError:
        return SampleError(
            f"sample {position} ({self.sample_path(position)}, {file_bytes} bytes) cannot be "
            f"decoded: {type(error).__name__}: {error}. Wanted a whole picture that Pillow "
            "can open. Replace the file or delete it."
        )


def _find_index(
    root: str,
    extensions: tuple[str, ...],
    is_valid_file: Callable[[str], bool] | None,
    cache_dir: str | os.PathLike[str] | None,
) -> ImageIndex:
    if is_valid_file is not None:  # code cannot be a key of a cache
        return index_of_tree(root, scan_tree(root, is_valid_file))
    return load_or_scan(
        root, extensions, default_cache_dir() if cache_dir is None else Path(cache_dir)
    )


def _checked_size(size: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 16_384:
        raise SettingsError(
            f"size={size!r}, wanted a whole number of pixels from 1 to 16384: samples are square. "
            "Pass one number."
        )
    return size


def _checked_extensions(extensions: str | Sequence[str]) -> tuple[str, ...]:
    endings = (extensions,) if isinstance(extensions, str) else tuple(extensions)
    if not endings or not all(isinstance(ending, str) and ending for ending in endings):
        raise SettingsError(
            f"extensions={extensions!r}, wanted endings such as ('.jpg', '.png'). "
            "Name at least one, none of them empty."
        )
    return tuple(ending.lower() for ending in endings)


def _checked_channels(name: str, values: Sequence[float]) -> tuple[float, ...]:
    channels = tuple(float(value) for value in values)
    if len(channels) != 3 or (name == "std" and min(channels) <= 0):
        raise SettingsError(
            f"{name}={values!r}, wanted three numbers"
            f"{' above 0' if name == 'std' else ''}: red, green, blue. Pass one for each channel."
        )
    return channels


def _checked_span(name: str, span: Sequence[float], highest: float) -> tuple[float, float]:
    if len(span) != 2 or not 0 < span[0] <= span[1] <= highest or span[1] == float("inf"):
        raise SettingsError(
            f"{name}={span!r}, wanted (smallest, largest) with 0 < smallest <= largest"
            f"{f' <= {highest:g}' if highest < float('inf') else ''}. Correct or swap the two."
        )
    return float(span[0]), float(span[1])


def _checked_probability(hflip: float) -> float:
    if not 0 <= hflip <= 1:
        raise SettingsError(
            f"hflip={hflip!r}, wanted a probability from 0 to 1. Use 0 to mirror no picture."
        )
    return float(hflip)
