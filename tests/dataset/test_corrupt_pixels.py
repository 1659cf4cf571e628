"""What is made of odd but sound files, and what is noticed of damage inside a JPEG's scan."""

import io
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch.nn.functional import interpolate
from torchvision.transforms import v2

from lightning_fastdata.dataset.crop_box import CropBox, Cut, centre_cut
from lightning_fastdata.dataset.image_decode import decode_into, read_file
from lightning_fastdata.dataset.image_folder import ImageFolder
from lightning_fastdata.dataset.pillow_decode import open_with_pillow, rgb_pixels

sys.path.append(str(Path(__file__).parents[1] / "campaign"))

from corrupt_kinds import END, MADE, REFUSED, encoded, scan_start

SIZE = 224
DAMAGED = r"^image file is truncated or damaged: "


def scenery(height: int = 320, width: int = 400) -> Image.Image:
    """Smooth and coloured, with some grain so that a scan has a length."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [127 + 90 * np.sin(columns / 37), rows * 240 / height, columns * 240 / width]
    grain = np.random.default_rng(0).integers(0, 16, (height, width, 3))
    return Image.fromarray((np.stack(channels, -1) + grain).astype(np.uint8))


def evaluated(data: bytes, size: int = SIZE) -> torch.Tensor:
    out = torch.zeros((3, size, size), dtype=torch.uint8)
    decode_into(out, bytearray(data), lambda height, width: centre_cut(height, width, size))
    return out


def rows_decoded(data: bytes, top: int, bottom: int) -> torch.Tensor:
    out = torch.zeros((3, 100, 100), dtype=torch.uint8)
    cut = Cut(CropBox(top, 0, bottom - top, 100), None, False)
    decode_into(out, bytearray(data), lambda height, width: cut)
    return out


@pytest.mark.parametrize("kind", [kind for kind in MADE if "65" not in kind])
def test_sound_files_give_the_picture_that_went_in(kind):
    picture = scenery()
    source = encoded(picture, quality=95)

    out = evaluated(MADE[kind](source, random.Random(5)))

    if "16 bits" in kind or "grey" in kind:
        picture = picture.convert("L").convert("RGB")
    wanted = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(SIZE)])(
        torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    )
    error = (out.double() - wanted.double()).abs().mean()
    # A palette errs by up to 11 measured, the others by up to 2; a wrong channel by more than 30.
    assert error < (15 if "palette" in kind or "gif" in kind else 2.5)


@pytest.mark.parametrize("kind", ["cmyk", "ycck"])
def test_four_colour_jpegs_of_photographs_look_as_the_photograph(kind, imagenet_sample):
    """Pillow's conversion is followed to the bit; the rest is the loss of a second encoding."""
    errors = []
    for path in sorted(imagenet_sample.glob("*/*"))[::40]:
        source = path.read_bytes()
        data = MADE[kind](source, random.Random(0))
        same = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        box = CropBox(0, 0, *same.shape[:2])
        assert np.array_equal(rgb_pixels(Image.open(io.BytesIO(data)), box), same)
        errors.append((evaluated(data).double() - evaluated(source).double()).abs().mean())

    assert max(errors) < 4


@pytest.mark.parametrize("shape", [(1, 65_500), (65_500, 1), (3, 5000), (64, 6400)])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_very_long_picture_is_resized_only_where_the_sample_lies(shape, format):
    """The reference resizes a window around the centre that starts at a pixel of the result."""
    height, width = shape
    data = encoded(scenery(height, width), format)

    out = evaluated(data)

    pixels = open_with_pillow(data)
    long, short = max(shape), min(shape)
    resized = int(256 * long / short)
    start = round((resized - SIZE) / 2) * short // 256 - 10 * short
    start = start // short * short
    ends = (
        (0, start, width, start + 21 * short)
        if height > width
        else (start, 0, start + 21 * short, height)
    )
    window = torch.from_numpy(np.array(pixels.crop(ends))).permute(2, 0, 1).unsqueeze(0)
    whole = interpolate(window, scale_factor=256 / short, mode="bilinear", antialias=True)[0]
    offset = round((resized - SIZE) / 2) - start * 256 // short
    down, across = (offset, 16) if height > width else (16, offset)
    wanted = whole[:, down : down + SIZE, across : across + SIZE]
    assert (out.int() - wanted.int()).abs().max() <= 1


def truncated_but_ended(keep_fraction: float) -> bytes:
    data = encoded(scenery(), quality=90)
    start = scan_start(data)
    return data[: start + int((len(data) - start) * keep_fraction)] + END


def test_a_scan_that_ends_too_soon_is_an_error_though_an_end_marker_follows():
    """Pillow and torchvision make the missing rows grey."""
    data = truncated_but_ended(0.5)
    Image.open(io.BytesIO(data)).load()

    with pytest.raises(OSError, match=DAMAGED + r"Corrupt JPEG data: premature end of data"):
        rows_decoded(data, 0, 300)


def test_rows_above_the_damage_are_right():
    data, sound = truncated_but_ended(0.5), encoded(scenery(), quality=90)

    assert torch.equal(rows_decoded(data, 0, 100), rows_decoded(sound, 0, 100))


def test_a_piece_that_is_missing_in_the_middle_is_an_error():
    """Even a whole one between two restart markers, which Pillow makes up for by shifted rows."""
    data = encoded(scenery(), quality=90, restart_marker_rows=1)
    third, fourth = (data.index(marker) for marker in (b"\xff\xd2", b"\xff\xd3"))

    for start, end, words in (
        (third, fourth, "found marker 0xd3 instead of RST2"),
        (third + 99, third + 199, "premature end of data segment"),
    ):
        with pytest.raises(OSError, match=DAMAGED + "Corrupt JPEG data: " + words):
            rows_decoded(data[:start] + data[end:], 0, 320)


def test_whoever_loads_truncated_pictures_gets_what_pillow_makes_of_them(monkeypatch):
    data = truncated_but_ended(0.5)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)

    made = rows_decoded(data, 200, 300)

    wanted = np.asarray(Image.open(io.BytesIO(data)))[200:300, :100]
    assert np.array_equal(made.permute(1, 2, 0).numpy(), wanted)


def test_a_jpeg_too_short_for_its_pixels_is_refused_by_either_decoder():
    data = REFUSED["jpeg bomb under the limit"](encoded(scenery()), random.Random(0))
    assert 2 * Image.MAX_IMAGE_PIXELS > 13_000**2

    for decode in (evaluated, open_with_pillow):
        with pytest.raises(OSError, match=DAMAGED + r"\d+ bytes cannot hold 13000 x 13000 pixels"):
            decode(data)


def test_the_emptiest_jpegs_that_there_are_hold_their_pixels():
    """A black picture, progressive, with tables of its own, takes the fewest bits."""
    for mode in ("L", "RGB"):
        data = encoded(Image.new(mode, (4000, 4000)), progressive=True, optimize=True, quality=1)

        assert evaluated(data).max() <= 1


def test_what_pillow_only_warns_of_is_made_where_warnings_are_errors():
    data = MADE["exif garbage"](encoded(scenery()), random.Random(2))
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        assert open_with_pillow(data).size == (400, 320)
        try:
            Image.MAX_IMAGE_PIXELS = 320 * 400 - 1
            assert open_with_pillow(encoded(scenery(), "PNG")).size == (400, 320)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
        assert warnings.filters == filters


def test_a_file_larger_than_any_picture_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    (tmp_path / "fits").write_bytes(bytes(160))
    (tmp_path / "large").write_bytes(bytes(161))

    assert len(read_file(str(tmp_path / "fits"))) == 160
    with pytest.raises(OSError, match=r"161 bytes are too many for a picture$"):
        read_file(str(tmp_path / "large"))


def test_a_link_to_itself_does_not_hide_the_folder(tmp_path):
    folder = tmp_path / "root" / "a"
    folder.mkdir(parents=True)
    scenery().save(folder / "1.jpg")
    (folder / "2.jpg").symlink_to("2.jpg")
    (tmp_path / "root" / "b").symlink_to("b")

    dataset = ImageFolder(tmp_path / "root", cache_dir=tmp_path / "cache")

    assert dataset.classes == ["a"]
    assert len(dataset) == 2
    assert dataset[0][0].shape == (3, SIZE, SIZE)
