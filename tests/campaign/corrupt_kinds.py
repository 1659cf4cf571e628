"""What can be wrong with a picture file: from a real JPEG to the bytes of a bad one."""

import io
import random
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

START, SCAN, END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
FRAMES = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2")
Make = Callable[[bytes, random.Random], bytes]


def encoded(picture: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def opened(source: bytes) -> Image.Image:
    return Image.open(io.BytesIO(source)).convert("RGB")


def scan_start(data: bytes) -> int:
    """First byte of the first scan's entropy-coded data."""
    at = data.index(SCAN)
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def plain(source: bytes, **options: object) -> bytes:
    """The same picture with a header of known parts: no EXIF with a thumbnail of its own."""
    return encoded(opened(source), quality=90, **options)


def cut_header(source: bytes, rng: random.Random) -> bytes:
    return source[: rng.randrange(1, source.index(SCAN))]


def cut_scan(source: bytes, rng: random.Random) -> bytes:
    return source[: rng.randrange(scan_start(source), len(source) - 100)]


def cut_end(source: bytes, rng: random.Random) -> bytes:
    return source[: -rng.randrange(3, 60)]


def cut_and_ended(source: bytes, rng: random.Random) -> bytes:
    """As a repair tool leaves it: the scan ends too soon, but with an end marker."""
    return cut_scan(source, rng) + END


def cut_progressive(source: bytes, rng: random.Random) -> bytes:
    return cut_scan(plain(source, progressive=True), rng)


def zero_tail(source: bytes, rng: random.Random) -> bytes:
    """As a crash leaves it: the file has its size, but its last blocks were never written."""
    kept = rng.randrange(scan_start(source), len(source) - 4096)
    return source[:kept] + bytes(len(source) - kept)


def wrong_magic(source: bytes, rng: random.Random) -> bytes:
    return bytes([rng.randrange(0x80), rng.randrange(256)]) + source[2:]


def claiming(source: bytes, height: int, width: int) -> bytes:
    data = bytearray(plain(source))
    at = min(data.index(frame) for frame in FRAMES if frame in data)
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_bomb(source: bytes, rng: random.Random) -> bytes:
    return claiming(source, rng.randrange(40_000, 65_500), rng.randrange(40_000, 65_500))


def quiet_jpeg_bomb(source: bytes, rng: random.Random) -> bytes:
    """Under Pillow's limit of pixels, in a file of some kilobytes."""
    small = encoded(opened(source).resize((64, 64)))
    return claiming(small, 13_000, 13_000)


def png(height: int, width: int, body: bytes, extra: bytes = b"") -> bytes:
    """A PNG in 1-bit grey that claims a size, whatever its body holds."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(extra)) if extra else b""
    body = chunk(b"IDAT", zlib.compress(body))
    return b"\x89PNG\r\n\x1a\n" + header + text + body + chunk(b"IEND", b"")


def cut_png(source: bytes, rng: random.Random) -> bytes:
    data = encoded(opened(source).resize((200, 150)), "PNG")
    return data[: rng.randrange(1, len(data) - 200)]


def bad_huffman(source: bytes, rng: random.Random) -> bytes:
    """More codes of each length than there can be, in every table."""
    data = bytearray(plain(source))
    at = data.index(b"\xff\xc4")
    data[at + 5 : at + 21] = bytes(rng.randrange(200, 256) for _ in range(16))
    return bytes(data)


def twelve_bits(source: bytes, rng: random.Random) -> bytes:
    data = bytearray(plain(source))
    data[data.index(FRAMES[0]) + 4] = 12
    return bytes(data)


def arithmetic(source: bytes, rng: random.Random) -> bytes:
    """Pillow cannot write this coding: the header says it, the scan is Huffman's."""
    data = bytearray(plain(source))
    data[data.index(FRAMES[0]) + 1] = 0xC9
    return bytes(data)


def ycck(source: bytes, rng: random.Random) -> bytes:
    """As Adobe writes it: the planes of the negative, and no black. Pillow inverts as it saves."""
    planes = opened(source).convert("YCbCr").split()
    no_black = Image.new("L", planes[0].size)
    data = bytearray(encoded(Image.merge("CMYK", (*planes, no_black)), quality=95))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def with_exif(content: bytes, source: bytes) -> bytes:
    data = plain(source)
    segment = b"\xff\xe1" + struct.pack(">H", len(content) + 8) + b"Exif\0\0" + content
    return START + segment + data[2:]


def exif_garbage(source: bytes, rng: random.Random) -> bytes:
    start = rng.choice([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""])
    return with_exif(start + rng.randbytes(rng.randrange(1, 400)), source)


def exif_orientation(source: bytes, rng: random.Random) -> bytes:
    """One entry, orientation: of any type, any count and any value."""
    entry = struct.pack("<HHIHH", 0x0112, rng.randrange(16), rng.choice([1, 9**9]), 4242, 0)
    return with_exif(b"II*\0\x08\0\0\0\x01\0" + entry + bytes(4), source)


def flipped_bits(source: bytes, rng: random.Random) -> bytes:
    data = bytearray(source)
    for _ in range(rng.choice([1, 3, 30])):
        data[rng.randrange(scan_start(source), len(data) - 2)] ^= 1 << rng.randrange(8)
    return bytes(data)


def sixteen_bit(source: bytes, rng: random.Random) -> bytes:
    grey = np.asarray(opened(source).convert("L"), np.uint16)
    return encoded(Image.fromarray(grey * 257), "PNG")


def palette(source: bytes, rng: random.Random) -> bytes:
    small = opened(source).resize((90, 70)).quantize(64)
    return encoded(small, "PNG", transparency=rng.randbytes(64))


def transcoded(format: str, mode: str = "RGB", **options: object) -> Make:
    return lambda source, rng: encoded(opened(source).convert(mode), format, **options)


def line(format: str, *size: int) -> Make:
    return lambda source, rng: encoded(opened(source).resize(size), format)


HTML = b"<!DOCTYPE html><html><title>404 Not Found</title></html>"
TEXT = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"

# "made": the pixels are those that were written, or near.
MADE: dict[str, Make] = {
    "cmyk": transcoded("JPEG", "CMYK", quality=95),
    "ycck": ycck,
    "exif garbage": exif_garbage,
    "exif orientation rubbish": exif_orientation,
    "gif named jpg": transcoded("GIF"),
    "webp named jpg": transcoded("WEBP"),
    "bmp named jpg": transcoded("BMP"),
    "png of 16 bits": sixteen_bit,
    "grey jpeg": transcoded("JPEG", "L"),
    "progressive jpeg": transcoded("JPEG", progressive=True),
    "palette with alpha": palette,
    "1 x 65500 jpeg": line("JPEG", 1, 65_500),
    "65500 x 1 jpeg": line("JPEG", 65_500, 1),
    "1 x 65535 png": line("PNG", 1, 65_535),
    "65535 x 1 png": line("PNG", 65_535, 1),
    "bytes after the end": lambda source, rng: source + rng.randbytes(rng.randrange(1, 5000)),
}
# "refused": an error that names the file.
REFUSED: dict[str, Make] = {
    "cut in the header": cut_header,
    "cut in the scan": cut_scan,
    "cut near the end": cut_end,
    "progressive, cut": cut_progressive,
    "empty": lambda source, rng: b"",
    "wrong magic": wrong_magic,
    "jpeg bomb": jpeg_bomb,
    "jpeg bomb under the limit": quiet_jpeg_bomb,
    "png bomb": lambda source, rng: png(60_000, 60_000, bytes(60_000)),
    "png, text bomb": lambda source, rng: png(8, 8, bytes(16), extra=bytes(2**28)),
    "png, cut": cut_png,
    "html named jpg": lambda source, rng: HTML,
    "text named jpg": lambda source, rng: TEXT,
    "all 0xff": lambda source, rng: b"\xff" * rng.randrange(1, 9999),
    "all zero": lambda source, rng: bytes(rng.randrange(1, 9999)),
    "noise": lambda source, rng: b"\0" + rng.randbytes(rng.randrange(1, 9999)),
    "65535 x 1 jpeg": lambda source, rng: claiming(source, 1, 65_535),
    "1 x 65535 jpeg": lambda source, rng: claiming(source, 65_535, 1),
    "bad huffman tables": bad_huffman,
    "12 bits a channel": twelve_bits,
}
# "either": it depends on the rows that are cut, or on the decoder.
EITHER: dict[str, Make] = {
    "cut, with an end marker": cut_and_ended,
    "zero tail": zero_tail,
    "flipped bits": flipped_bits,
    "arithmetic, but huffman": arithmetic,
    "png, rows missing": lambda source, rng: png(500, 500, bytes(64 * rng.randrange(1, 400))),
}
