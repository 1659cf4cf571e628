"""Pictures of any format as Pillow reads them, in RGB."""

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from lightning_fastdata.dataset.crop_box import CropBox
from lightning_fastdata.dataset.jpeg_header import read_jpeg_frame
from lightning_fastdata.dataset.refusals import refuse_false_claims

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS_AT_ONCE = 256  # a guess: few enough to be small, enough to be one call for most pictures


def open_with_pillow(data: bytes | bytearray) -> Image.Image:
    """Open a picture as torchvision's ``pil_loader``: RGB, alpha dropped, EXIF rotation ignored.

    One difference: 16-bit grey keeps its upper 8 bits, where Pillow's conversion clips to white.
    """
    return _as_rgb(load_with_pillow(data))


def load_with_pillow(data: bytes | bytearray) -> Image.Image:
    """Decode a picture in the mode that it has, alpha and all.

    What Pillow only warns of, such as rubbish in EXIF, is never an error.
    """
    try:
        return _load(data)
    except Warning:  # the caller's filters turn warnings into errors
        # Not always: entering this forgets which warnings were shown, so they are shown again, and
        # from several threads it may leave the filters changed.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _load(data)


def rgb_pixels(picture: Image.Image, box: CropBox) -> "NDArray[np.uint8]":
    """Convert only the box, some rows at a time: a large picture is not in memory four times.

    Returns:
        Shape ``(box.height, box.width, 3)``.
    """
    top, left, height, width = box
    pixels = np.empty((height, width, 3), np.uint8)
    for start in range(0, height, _ROWS_AT_ONCE):
        end = min(start + _ROWS_AT_ONCE, height)
        part = picture.crop((left, top + start, left + width, top + end))
        pixels[start:end] = np.asarray(_as_rgb(part))
    return pixels


def _load(data: bytes | bytearray) -> Image.Image:
    frame = read_jpeg_frame(data)
    if frame is not None:
        refuse_false_claims(frame, len(data))
    try:
        picture = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:  # Pillow names the address of the BytesIO
        begin = bytes(data[:16])
        raise UnidentifiedImageError(f"cannot identify image file, it begins {begin!r}") from error
    picture.load()
    # Pillow warns when a palette has per-colour transparency, but RGB drops it either way.
    picture.info.pop("transparency", None)
    return picture


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        grey = np.clip(np.asarray(picture, dtype=np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return picture.convert("RGB")
