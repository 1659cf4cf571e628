"""Pictures that are refused, though a decoder would go on: bombs, false claims, missing pixels."""

from PIL import Image, ImageFile

from lightning_fastdata.dataset.jpeg_header import JpegFrame

_PIXELS_A_BYTE = 512  # a JPEG has at least one bit for each block of 8 x 8: the code of its level
# libjpeg's words for pixels that are missing or wrong; its other warnings change none.
_DAMAGE = (
    "Premature end of JPEG file",
    "premature end of data segment",
    "bad Huffman code",
    "instead of RST",
)


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


def refuse_false_claims(frame: JpegFrame, file_bytes: int) -> None:
    """Refuse a JPEG whose header cannot be true, before its pixels are allocated.

    Raises:
        PIL.Image.DecompressionBombError: As ``refuse_bomb``.
        OSError: The file is too short for the picture.
    """
    refuse_bomb(frame.height, frame.width)
    if frame.height * frame.width > _PIXELS_A_BYTE * file_bytes:
        _refuse(f"{file_bytes} bytes cannot hold {frame.height} x {frame.width} pixels")


def refuse_damage(warning: str) -> None:
    """Refuse a JPEG that libjpeg found damaged; other warnings pass.

    Raises:
        OSError: ``warning`` says that pixels are missing or wrong.
    """
    if any(damage in warning for damage in _DAMAGE):
        _refuse(warning)


def _refuse(found: str) -> None:
    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        raise OSError(f"image file is truncated or damaged: {found}")
