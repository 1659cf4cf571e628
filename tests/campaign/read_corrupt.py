"""Read each sample of a folder by itself, and say as JSON what came of it and what it took.

Run ``python -W error tests/campaign/read_corrupt.py FILES.json CACHE_DIR``: the JSON holds the
fields of each ``Written``. A process of its own, so that a crash or a hang is seen from outside,
and the peak of its memory is that of these samples.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corrupt_files import Written, vanish
from PIL import Image

from lightning_fastdata.dataset.image_folder import ImageFolder

WAYS: dict[str, dict[str, Any]] = {
    "train": {"train": True},
    "evaluation": {"train": False},
    "transform": {"transform": lambda picture: np.asarray(picture.resize((224, 224)))},
}


def outcome(dataset: ImageFolder, index: int) -> dict[str, Any]:
    """What one sample became: its pixels' mean and shape, or the error and its cause."""
    torch.manual_seed(index)
    forget_peak()
    begun_s, before_kib = time.perf_counter(), memory_kib("VmRSS")
    told: dict[str, Any] = {"index": index, "path": dataset.sample_path(index)}
    try:
        pixels = np.asarray(dataset[index][0])
    except BaseException as error:
        cause = error.__cause__
        told |= {"error": type(error).__name__, "message": str(error)}
        told |= {"cause": None if cause is None else type(cause).__name__}
    else:
        told |= {"error": None, "shape": pixels.shape, "mean": float(pixels.mean())}
    told["took_s"] = time.perf_counter() - begun_s
    return told | {"peak_mib": (memory_kib("VmHWM") - before_kib) / 1024}


def memory_kib(name: str) -> int:
    """One line of this process's status; ``ru_maxrss`` would begin at the peak of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main(files_at: str, cache_dir: str) -> None:
    files = [Written(**fields) for fields in json.loads(Path(files_at).read_text())]
    root = Path(files[0].path).parents[1]
    sets = {way: ImageFolder(root, cache_dir=cache_dir, **how) for way, how in WAYS.items()}
    vanish(files)
    Image.new("RGB", (9, 9)).resize((4, 4))  # so that no sample pays for what is loaded once
    results = {
        way: [outcome(dataset, at) for at in range(len(files))] for way, dataset in sets.items()
    }
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
