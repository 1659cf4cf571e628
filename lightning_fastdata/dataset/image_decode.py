"""From the bytes of a picture file to a resized uint8 sample, on one core.

JPEG is decoded by simplejpeg (libjpeg-turbo), which here decodes no row below the box, and at 1/2,
1/4 or 1/8 of the size where the box is that much larger than the sample. Everything else, and every
JPEG that simplejpeg refuses, is decoded by Pillow. Kept rows equal those of a whole decode.

Damage is noticed where torchvision's ``ImageFolder`` notices it: a file that ends early or does not
parse is an error; wrong bits inside the picture are not, since libjpeg reads on.
"""

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg  # type: ignore[import-untyped]  # it ships no types
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from lightning_fastdata.dataset.crop_box import CropBox, Cut
from lightning_fastdata.dataset.jpeg_header import JpegFrame, read_jpeg_frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)  # O_BINARY: Windows only
# Only the scales with SIMD code pay: reading and decoding at 4/8 takes 0.80 of the time of all,
# 5/8 1.07, 6/8 1.23, 7/8 1.57 (tests/benchmarks/bench_decode.py, 2 shared EPYC cores, 2026-11-22).
_DCT_DIVISORS = (8, 4, 2)


def read_file(path: bytes | str) -> bytearray:
    """Read a whole file with one open, one size and one read, into memory that may be changed."""
    descriptor = os.open(path, _READ_FLAGS)
    try:
        missing_bytes = os.fstat(descriptor).st_size
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
        pixels = np.array(open_with_pillow(data))
        _resize_into(out, pixels, 1, plan_cut(pixels.shape[0], pixels.shape[1]))
        return
    refuse_bomb(frame.height, frame.width)
    cut = plan_cut(frame.height, frame.width)
    divisor = dct_divisor(cut, size)
    decoded = _decode_jpeg(data, frame, cut.box, divisor)
    if decoded is None:
        divisor, decoded = 1, np.array(open_with_pillow(data))
        if decoded.shape[:2] != (frame.height, frame.width):
            raise ValueError(f"{decoded.shape[:2]} decoded, but {frame.height, frame.width} stated")
    _resize_into(out, decoded, divisor, cut)


def open_with_pillow(data: bytes | bytearray) -> Image.Image:
    """Open a picture as torchvision's ``pil_loader``: RGB, alpha dropped, EXIF rotation ignored.

    One difference: 16-bit grey keeps its upper 8 bits, where Pillow's conversion clips to white.
    """
    picture = Image.open(io.BytesIO(data))
    if picture.mode.startswith("I"):
        grey = np.clip(np.asarray(picture, dtype=np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    picture.load()
    # Pillow warns when a palette has per-colour transparency, but RGB drops it either way.
    picture.info.pop("transparency", None)
    return picture.convert("RGB")


def refuse_bomb(height: int, width: int) -> None:
    """Refuse a picture before its pixels are allocated, where Pillow would refuse it too.

    Raises:
        PIL.Image.DecompressionBombError: More than twice ``PIL.Image.MAX_IMAGE_PIXELS`` pixels.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > 2 * limit:
        raise Image.DecompressionBombError(
            f"{height} x {width} pixels, at most {2 * limit} are allowed"
        )


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
    """Decode the rows down to the box's end, (H, W, 3); ``None`` where simplejpeg refuses.

    A smaller height in the frame header makes libjpeg stop after that row, in the entropy decoder
    too; the rest of the scan is then only "extraneous bytes", which ``strict=False`` accepts. It
    would also accept a file that ends early, so one without an end marker is decoded strictly.
    """
    height = frame.height
    if frame.is_complete:
        # Two decoded rows more than needed: smooth chroma upsampling looks one row ahead.
        height = min(height, (-(-(box.top + box.height) // divisor) + 2) * divisor)
        _write_height(data, frame, height)
    try:
        decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data,
            min_height=-(-height // divisor),
            min_width=-(-frame.width // divisor),
            min_factor=divisor,
            strict=not frame.is_complete,
        )
    except ValueError:
        _write_height(data, frame, frame.height)
        return None
    return decoded


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
