"""The few facts of a JPEG header that decide how the picture is decoded.

Read in Python because the place of the frame header is needed, not only the
size: the decoder trims rows by writing a smaller height there.
"""

from dataclasses import dataclass

_START = b"\xff\xd8\xff"
_END = b"\xff\xd9"
# Baseline, extended and progressive frames with Huffman coding; others are left to Pillow.
_PLAIN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
# No header goes on after these; 0x00 is no marker, and libjpeg looks for one behind it.
_ENDS_THE_HEADER = frozenset({0x00, 0xD8, 0xD9, 0xDA})
_HAS_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


@dataclass(frozen=True, kw_only=True, slots=True)
class JpegFrame:
    """Size and kind of one JPEG picture, as its frame header states them (EXIF is not applied)."""

    height: int
    """Rows of the whole picture."""
    width: int
    """Columns of the whole picture."""
    height_offset: int
    """Byte offset of the big-endian 16-bit height in the file."""
    is_complete: bool
    """Whether the file ends with the end-of-image marker. False if truncated, or with a tail."""


def read_jpeg_frame(data: bytes | bytearray) -> JpegFrame | None:
    """Find the frame header of a grey or three-colour 8-bit Huffman JPEG.

    Args:
        data: The whole file.

    Returns:
        The frame, or ``None`` where the file is something else: another format, four colours, 12
        bits, lossless, arithmetic, or a header that does not parse. Pillow decides then.
    """
    if not data.startswith(_START):
        return None
    at, end = 2, len(data) - 9
    while at < end:
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _PLAIN_FRAMES:
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), data[at + 7] << 8
            width |= data[at + 8]
            if data[at + 4] != 8 or data[at + 9] not in (1, 3) or not (height and width):
                return None
            return JpegFrame(
                height=height,
                width=width,
                height_offset=at + 5,
                is_complete=data.endswith(_END),
            )
        if marker in _OTHER_FRAMES or marker in _ENDS_THE_HEADER:
            return None
        at += 2
        if marker not in _HAS_NO_LENGTH:
            at += data[at] << 8 | data[at + 1]
    return None
