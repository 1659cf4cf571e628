"""From the bytes of a picture file to a resized uint8 sample, on one core.

JPEG is decoded by simplejpeg (libjpeg-turbo), which here decodes no row below the box, and at 1/2,
1/4 or 1/8 of the size where the box is that much larger than the sample. Everything else, and every
JPEG that simplejpeg refuses, is decoded by Pillow. Kept rows equal those of a whole decode.

Noticed as damage: a file that ends early or does not parse; a JPEG too short for the pixels that
it claims; and what libjpeg warns of in the rows that are decoded: mostly that the scan ends too
soon, though an end marker follows (of a progressive JPEG, only in the first of its passes over the
picture). Not noticed: wrong bits, as long as there are enough of them, and what lies below the box.
``PIL.ImageFile.LOAD_TRUNCATED_IMAGES = True`` lets damaged pictures pass, as it does in Pillow.
"""

import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg  # type: ignore[import-untyped]  # it ships no types
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from lightning_fastdata.dataset.crop_box import CentreGrid, CropBox, Cut
from lightning_fastdata.dataset.jpeg_header import JpegFrame, read_jpeg_frame
from lightning_fastdata.dataset.pillow_decode import load_with_pillow, rgb_pixels
from lightning_fastdata.dataset.refusals import refuse_damage, refuse_false_claims
from lightning_fastdata.trace.stages import stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

# O_BINARY: Windows only. O_NONBLOCK: a FIFO named like a picture would be waited for without end.
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_BYTES_A_PIXEL = 8  # of the largest pixels that Pillow reads uncompressed: four channels, 16 bits
# Only the scales with SIMD code pay: reading and decoding at 4/8 takes 0.80 of the time of all,
# 5/8 1.07, 6/8 1.23, 7/8 1.57 (tests/benchmarks/bench_decode.py, 2 shared EPYC cores, 2026-11-22).
_DCT_DIVISORS = (8, 4, 2)


def read_file(path: bytes | str) -> bytearray:
    """Read a whole file with one open, one size and one read, into memory that may be changed.

    Raises:
        OSError: It cannot be read, is a FIFO, a device or a folder, or is larger than any picture
            that Pillow's limit of pixels allows.
    """
    descriptor = os.open(path, _READ_FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        missing_bytes = status.st_size
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and missing_bytes > 2 * limit * _BYTES_A_PIXEL:
            raise OSError(errno.EFBIG, f"{missing_bytes} bytes are too many for a picture")
        data = bytearray(os.read(descriptor, missing_bytes))
        while len(data) < missing_bytes:
            part = os.read(descriptor, missing_bytes - len(data))
            if not part:
                break  # the file became shorter; the decoder will say so
            data += part
    finally:
        os.close(descriptor)
    return data


def decode_into(out: Tensor, data: bytearray, plan_cut: Callable[[int, int], Cut]) -> None:
    """Decode one picture, cut the sample out, resize it and write it into ``out``.

    Args:
        out: Destination, uint8 on the CPU, shape ``(3, size, size)``; may be a row of a batch.
        data: The whole file. A JPEG's header is changed in place: pass a copy to keep it.
        plan_cut: Called once with (height, width).

    Raises:
        Exception: Whatever the decoder raised; ``out`` is then unchanged.
    """
    size = out.shape[-1]
    frame = read_jpeg_frame(data)
    if frame is None:
        picture = load_with_pillow(data)
        _convert_into(out, picture, plan_cut(picture.height, picture.width))
        return
    refuse_false_claims(frame, len(data))
    cut = plan_cut(frame.height, frame.width)
    divisor = dct_divisor(cut, size)
    decoded = _decode_jpeg(data, frame, cut.box, divisor)
    if decoded is not None:
        with stage("transform"):
            _resize_into(out, decoded, divisor, cut)
        return
    picture = load_with_pillow(data)
    if picture.size != (frame.width, frame.height):
        raise ValueError(f"{picture.size} decoded, but {frame.width, frame.height} stated")
    _convert_into(out, picture, cut)


def _convert_into(out: Tensor, picture: Image.Image, cut: Cut) -> None:
    box = CropBox(0, 0, cut.box.height, cut.box.width)
    pixels = rgb_pixels(picture, cut.box)
    with stage("transform"):
        _resize_into(out, pixels, 1, cut._replace(box=box))


def dct_divisor(cut: Cut, size: int) -> int:
    """Choose the scale of decoding: 1 / 8, 4, 2 or 1, such that no sample pixel is made up."""
    if cut.grid is None:
        pixels_each = min(cut.box.height, cut.box.width) / size
    else:
        pixels_each = min(cut.grid.rows_per_pixel, cut.grid.columns_per_pixel)
    return next((divisor for divisor in _DCT_DIVISORS if pixels_each >= divisor), 1)


def _decode_jpeg(
    data: bytearray, frame: JpegFrame, box: CropBox, divisor: int
) -> "NDArray[np.uint8] | None":
    """Decode the rows down to the box's end, (H, W, 3); ``None`` where Pillow has to try.

    A smaller height in the frame header makes libjpeg stop after that row, in the entropy decoder
    too; the rest of the scan is then only "extraneous bytes". Under ``strict``, simplejpeg goes to
    the end all the same and then raises the *first* warning, so the pixels are in the buffer, and
    damage inside the rows is told from the bytes below them. This costs under 1 % of the time.
    """
    height = frame.height
    if frame.is_complete:
        # Two decoded rows more than needed: smooth chroma upsampling looks one row ahead.
        height = min(height, (-(-(box.top + box.height) // divisor) + 2) * divisor)
        _write_height(data, frame, height)
    rows, columns = -(-height // divisor), -(-frame.width // divisor)
    pixels = np.empty((rows, columns, 3), np.uint8)
    try:
        decoded = simplejpeg.decode_jpeg(
            data, min_height=rows, min_width=columns, min_factor=divisor, buffer=pixels, strict=True
        )
        if decoded.shape == pixels.shape:
            return pixels
    except ValueError as error:
        refuse_damage(str(error))
        if frame.is_complete and "extraneous bytes" in str(error):
            return pixels
    _write_height(data, frame, frame.height)
    return None


def _write_height(data: bytearray, frame: JpegFrame, height: int) -> None:
    data[frame.height_offset : frame.height_offset + 2] = height.to_bytes(2, "big")


def _resize_into(out: Tensor, pixels: "NDArray[np.uint8]", divisor: int, cut: Cut) -> None:
    """Resize what ``cut`` says of ``pixels`` (H, W, 3), decoded at 1/divisor, antialiased."""
    size = out.shape[-1]
    box = cut.box
    if cut.grid is None and divisor > 1:
        # Edges between pixels, which torch cannot resize from; rounding them costs 3 units of mean
        # error against 1.3, and Pillow's time is 1.3 of torch's.
        resized = _resize_between_pixels(pixels, box, divisor, size)
    elif cut.grid is not None and _is_mostly_margin(cut.grid, size):
        resized = _resize_out_of_margin(pixels, cut.grid, divisor, size)
    else:
        top, left = box.top // divisor, box.left // divisor
        bottom, right = -(-(box.top + box.height) // divisor), -(-(box.left + box.width) // divisor)
        # uint8 in channels_last order takes torch's AVX2 path: 0.25 ms; Pillow 1.1, planes 0.6.
        part = torch.from_numpy(pixels[top:bottom, left:right]).permute(2, 0, 1).unsqueeze(0)
        if cut.grid is None:
            whole = interpolate(part, (size, size), mode="bilinear", antialias=True)
            resized = whole[0].numpy()
        else:
            down, across, top, left = cut.grid
            factors = (divisor / down, divisor / across)
            whole = interpolate(part, scale_factor=factors, mode="bilinear", antialias=True)
            resized = whole[0, :, top : top + size, left : left + size].numpy()
    # NumPy takes channels apart in half of torch's time; torch is faster at mirroring planes.
    out.numpy()[...] = resized
    if cut.mirrored:
        out.copy_(out.flip(-1))


def _resize_between_pixels(
    pixels: "NDArray[np.uint8]", box: CropBox, divisor: int, size: int
) -> "NDArray[np.uint8]":
    """Resize a box whose edges lie between the pixels of a scaled picture; (3, size, size)."""
    top, left = box.top // divisor, box.left // divisor
    part = pixels[top : -(-(box.top + box.height) // divisor), left:]
    part = part[:, : -(-(box.left + box.width) // divisor) - left]
    edges = (
        box.left / divisor - left,
        box.top / divisor - top,
        (box.left + box.width) / divisor - left,
        (box.top + box.height) / divisor - top,
    )
    resized = Image.fromarray(part).resize((size, size), Image.Resampling.BILINEAR, box=edges)
    planes: NDArray[np.uint8] = np.asarray(resized, np.uint8).transpose(2, 0, 1)
    return planes


def _is_mostly_margin(grid: CentreGrid, size: int) -> bool:
    """Whether much more than the sample lies above and left of it in the resized picture.

    At 3 x 4 that is 1.3 times the sample, at 1 x 3 it is 2.5 times, at 1 x 65535 pixels 6 GB.
    """
    return (grid.top + size) * (grid.left + size) > 8 * size * size


def _resize_out_of_margin(
    pixels: "NDArray[np.uint8]", grid: CentreGrid, divisor: int, size: int
) -> "NDArray[np.uint8]":
    """Resize no more than the sample out of a very long picture; (3, size, size)."""
    rows, columns = grid.rows_per_pixel / divisor, grid.columns_per_pixel / divisor
    edges = (
        grid.left * columns,
        grid.top * rows,
        min((grid.left + size) * columns, pixels.shape[1]),
        min((grid.top + size) * rows, pixels.shape[0]),
    )
    # The filter also reaches pixels outside these edges, as it does when the whole is resized.
    resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=edges)
    planes: NDArray[np.uint8] = np.asarray(resized, np.uint8).transpose(2, 0, 1)
    return planes
