"""The README's Python is run as it stands, by a reader who has pictures and a model."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(), flags=re.MULTILINE | re.DOTALL)
MODEL = """
import torch
import lightning.pytorch as L

class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def training_step(self, batch, batch_index):
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.layer(images.mean((2, 3))), labels)

    def validation_step(self, batch, batch_index):
        self.training_step(batch, batch_index)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

model = Model()
"""


@pytest.fixture
def folder_with_pictures(tmp_path: Path) -> Path:
    for side in ("train", "val"):
        for label, colour in (("cat", "red"), ("dog", "blue")):
            folder = tmp_path / "pictures" / side / label
            folder.mkdir(parents=True)
            for number in range(20):
                Image.new("RGB", (320, 240), colour).save(folder / f"{number}.jpg")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_each_python_block_runs_as_it_stands(block: str, folder_with_pictures: Path) -> None:
    script = folder_with_pictures / "reader.py"
    script.write_text(f"{MODEL if 'fit(model' in block else ''}{block}")

    finished = subprocess.run(
        [sys.executable, script.name], cwd=folder_with_pictures, capture_output=True, text=True
    )

    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_the_quick_start_ends_with_a_stall_table(folder_with_pictures: Path) -> None:
    script = folder_with_pictures / "reader.py"
    script.write_text(MODEL + next(block for block in BLOCKS if "fit(model" in block))

    printed = subprocess.check_output(
        [sys.executable, script.name],
        cwd=folder_with_pictures,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    assert "waiting for data" in printed
    assert "summary.json" in printed
