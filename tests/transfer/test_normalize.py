"""Our pictures become the floats that torchvision makes of them."""

from typing import Any

import pytest
import torch
from torchvision.transforms import Normalize  # type: ignore[import-untyped]  # it ships no types

from lightning_fastdata.transfer.normalize import NormalizePictures

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def all_values() -> torch.Tensor:
    """Each byte in each channel, ``(2, 3, 16, 8)``."""
    values = torch.arange(256, dtype=torch.uint8).view(2, 1, 16, 8)
    return torch.cat([values, values.flip(2), values.flip(3)], dim=1)


def by_torchvision(images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``ToTensor`` divides by 255; it takes single pictures only, so that is written out."""
    found: Any = Normalize(MEAN, STD)(images.to(dtype) / 255)
    return torch.as_tensor(found)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_are_torchvisions_but_for_rounding(dtype: torch.dtype) -> None:
    images = all_values()

    found, _ = NormalizePictures(MEAN, STD, dtype)([images, torch.arange(2)])

    # Two roundings of values up to 2.7 on either side.
    rounding = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, by_torchvision(images, dtype), rtol=0, atol=rounding)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once_from_accurate_values(dtype: torch.dtype) -> None:
    accurate, _ = NormalizePictures(MEAN, STD, torch.float32)([all_values(), None])

    found, _ = NormalizePictures(MEAN, STD, dtype)([all_values(), None])

    assert torch.equal(found, accurate.to(dtype))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_result_is_of_the_dtype_asked_for_and_channels_last(
    dtype: torch.dtype, channels_last: bool
) -> None:
    images = all_values()
    if channels_last:
        images = images.to(memory_format=torch.channels_last)

    found, _ = NormalizePictures(MEAN, STD, dtype)([images, None])

    assert found.dtype == dtype
    assert found.shape == images.shape
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_only_the_pictures_change_and_not_in_place() -> None:
    images, labels = all_values(), torch.arange(2)

    found = NormalizePictures(MEAN, STD, torch.float32)([images, labels, "name"])

    assert found[1] is labels
    assert found[2] == "name"
    assert torch.equal(images, all_values())


@pytest.mark.gpu
def test_the_device_computes_the_same_values() -> None:
    normalize = NormalizePictures(MEAN, STD, torch.float32)
    on_host, _ = normalize([all_values(), None])

    on_device, _ = normalize([all_values().cuda(), None])

    torch.testing.assert_close(on_device.cpu(), on_host, rtol=0, atol=1e-6)
    assert on_device.is_contiguous(memory_format=torch.channels_last)
