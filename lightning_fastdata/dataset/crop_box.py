"""Which part of a picture becomes the sample: a random box in training, else the centre."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

_TRIES = 10  # torchvision's RandomResizedCrop gives up after as many


class CropBox(NamedTuple):
    """A rectangle inside a picture, in pixels, in the order that torchvision uses."""

    top: int
    left: int
    height: int
    width: int


class CentreGrid(NamedTuple):
    """Where the sample lies in a picture resized as a whole: exact, unlike a rounded box."""

    rows_per_pixel: float
    """Rows of the picture for one row of the resized picture."""
    columns_per_pixel: float
    """Columns of the picture for one column of the resized picture."""
    top: int
    """First row of the sample in the resized picture."""
    left: int
    """First column of the sample in the resized picture."""


class Cut(NamedTuple):
    """How one sample comes out of one picture."""

    box: CropBox
    """The part of the picture that is needed: all of the sample, unless there is a grid."""
    grid: CentreGrid | None
    """For evaluation; the box then starts at the picture's first pixel."""
    mirrored: bool
    """Whether left and right change places."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CropRule:
    """Which random boxes may be drawn: torchvision's ``scale`` and ``ratio``."""

    scale: tuple[float, float]
    """Smallest and largest share of the picture's area (0 to 1)."""
    ratio: tuple[float, float]
    """Smallest and largest width / height."""
    log_ratio: tuple[float, float]
    """Logarithms of ``ratio``, rounded to float32 as torchvision's are."""


def crop_rule(scale: tuple[float, float], ratio: tuple[float, float]) -> CropRule:
    """Make a rule from pairs that have been checked."""
    low, high = torch.log(torch.tensor(ratio)).tolist()
    return CropRule(scale=scale, ratio=ratio, log_ratio=(low, high))


def draw_crop_box(height: int, width: int, rule: CropRule) -> CropBox:
    """Draw a box exactly as torchvision's ``RandomResizedCrop.get_params`` does.

    Takes the same values in the same order from torch's default generator, so the same seed
    gives the same box. One scalar tensor serves all draws of a call, in 0.7 of torchvision's time.

    Args:
        height: Rows of the picture.
        width: Columns of the picture.
        rule: The boxes that are allowed.

    Returns:
        The box, inside the picture.
    """
    area = height * width
    drawn = torch.empty(())
    for _ in range(_TRIES):
        target_area = area * drawn.uniform_(*rule.scale).item()
        aspect = drawn.uniform_(*rule.log_ratio).exp_().item()
        box_width = round(math.sqrt(target_area * aspect))
        box_height = round(math.sqrt(target_area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            place = torch.empty((), dtype=torch.int64)
            top = int(place.random_(0, height - box_height + 1).item())
            left = int(place.random_(0, width - box_width + 1).item())
            return CropBox(top, left, box_height, box_width)
    return _largest_centre_box(height, width, *rule.ratio)


def draw_flip(probability: float) -> bool:
    """Draw whether to mirror, as torchvision's ``RandomHorizontalFlip``: one value, none at 0."""
    return probability > 0 and torch.empty(()).uniform_(0.0, 1.0).item() < probability


def centre_cut(height: int, width: int, size: int) -> Cut:
    """Plan what torchvision's ``Resize(size * 256 / 224)`` and ``CenterCrop(size)`` leave.

    The grid is that of the whole resized picture, so the result is torchvision's; what lies right
    of and below the centre is not touched.
    """
    short_side = int(size * 256 / 224)
    if height <= width:
        resized_height, resized_width = short_side, int(short_side * width / height)
    else:
        resized_height, resized_width = int(short_side * height / width), short_side
    top, rows = _centre_span(height, resized_height, size)
    left, columns = _centre_span(width, resized_width, size)
    if short_side == size:  # under 7 pixels: no margin that the grid could end in
        top, left = round(top * height / resized_height), round(left * width / resized_width)
        rows, columns = min(rows, height) - top, min(columns, width) - left
        return Cut(CropBox(top, left, max(1, rows), max(1, columns)), None, False)
    grid = CentreGrid(height / resized_height, width / resized_width, top, left)
    return Cut(CropBox(0, 0, rows, columns), grid, False)


def _centre_span(length: int, resized_length: int, size: int) -> tuple[int, int]:
    """First pixel of the sample in the resized picture, and how much of the source it needs."""
    start = round((resized_length - size) / 2)
    # A triangle filter reaches one resized pixel (or one source pixel) further than its centre.
    reach = math.ceil((start + size + 1) * length / resized_length) + 2
    return start, min(length, reach)


def _largest_centre_box(height: int, width: int, low: float, high: float) -> CropBox:
    """What torchvision takes when no draw fits: the largest centre box of an allowed shape."""
    if width / height < low:
        box_height, box_width = round(width / low), width
    elif width / height > high:
        box_height, box_width = height, round(height * high)
    else:
        box_height, box_width = height, width
    return CropBox((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)
