"""Load a folder with bad files through two workers, and say as JSON what was delivered.

Run ``python tests/campaign/load_corrupt.py FILES.json CACHE_DIR [QUARANTINE]``: with a quarantine
file bad samples are skipped, without one the first is an error.
"""

import json
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import torch
from corrupt_files import Written, vanish
from read_corrupt import memory_kib

from lightning_fastdata.dataset.image_folder import ImageFolder
from lightning_fastdata.loader.fast_data_loader import FastDataLoader

BATCH = 8


class Numbered(torch.utils.data.Dataset[Any]):
    """Adds its index to each sample, and names its file as the folder does."""

    def __init__(self, folder: ImageFolder) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.folder[index][0], index

    def sample_path(self, index: int) -> str:
        return self.folder.sample_path(index)


class Peaks:
    """Looks at the largest memory of every process below this one, until it is told to stop."""

    def __init__(self) -> None:
        self.mib: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            for process in psutil.Process().children(recursive=True):
                try:
                    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                except OSError:  # it has ended
                    continue
                for line in lines:
                    if line.startswith("VmHWM:"):
                        peak = int(line.split()[1]) / 1024
                        self.mib[process.pid] = max(self.mib.get(process.pid, 0), peak)

    def stop(self) -> list[float]:
        self._stop.set()
        self._thread.join()
        return list(self.mib.values())


def main(files_at: str, cache_dir: str, quarantine: str | None = None) -> None:
    files = [Written(**fields) for fields in json.loads(Path(files_at).read_text())]
    folder = ImageFolder(Path(files[0].path).parents[1], train=False, cache_dir=cache_dir)
    vanish(files)
    policy: dict[str, Any] = {}
    if quarantine is not None:
        policy = {"on_bad_sample": "skip", "max_bad_fraction": 1.0, "quarantine": quarantine}
    told: dict[str, Any] = {
        "delivered": [],
        "error": None,
        "imported_mib": memory_kib("VmHWM") / 1024,
    }
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        loader = FastDataLoader(
            Numbered(folder), batch_size=BATCH, num_workers=2, persistent_workers=False, **policy
        )
        peaks = Peaks()
        try:
            for pictures, numbers in loader:
                assert pictures.shape[1:] == (3, 224, 224)
                told["delivered"] += numbers.tolist()
        except Exception as error:
            told |= {"error": type(error).__name__, "message": str(error)}
        finally:
            told["peaks_mib"] = peaks.stop()
    told["warnings"] = [str(warning.message) for warning in heard]
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
