"""What the tests of the command line share."""

from pathlib import Path

import pytest
import torch
from PIL import Image


@pytest.fixture
def folder_of_pictures(tmp_path: Path) -> Path:
    """Two classes of ten small JPEG files each."""
    root = tmp_path / "pictures"
    for colour in ("blue", "red"):
        (root / colour).mkdir(parents=True)
        for number in range(10):
            picture = Image.new("RGB", (24 + number, 20), colour)
            picture.save(root / colour / f"{number}.jpg")
    return root


@pytest.fixture(autouse=True)
def leaves_generator_alone() -> None:
    torch.manual_seed(0)
