"""Pictures to train on: JPEG files cut from the photographs inside the scikit-image package.

The folder is made under another name and renamed when it is whole, and it holds a note of how many
bytes it should have: a run that was killed, or a file that is gone, leaves nothing that is taken
for a whole set.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from random import Random

from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]  # tqdm ships no types

from lightning_fastdata.errors import DatasetError, MissingExtraError

# In every wheel of scikit-image since 0.18, so none of them is ever downloaded.
PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
_NOTE = "complete.json"
_UNFINISHED = "unfinished-demo-"
_OWNER = "owner.pid"


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureRecipe:
    """How the pictures are cut: the same recipe gives the same pictures."""

    photographs: tuple[str, ...] = PHOTOGRAPHS
    """Files in scikit-image's ``data`` folder; each is a class."""
    train_of_each: int = 300
    """Training pictures of each photograph."""
    val_of_each: int = 50
    """Validation pictures of each photograph."""
    pixels: int = 400
    """Height and width of a picture."""
    quality: int = 90
    """JPEG quality, 1 to 95."""
    seed: int = 0
    """Names the crops."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cut:
    photograph: Image.Image
    path: Path
    key: str


def ensure_pictures(cache_dir: Path, recipe: PictureRecipe, *, threads: int) -> Path:
    """Give the folder of the recipe's pictures, cutting them where they are not whole yet.

    Args:
        cache_dir: Where it is kept, made where it is missing.
        recipe: How the pictures are cut.
        threads: How many pictures are cut at once.

    Returns:
        A folder with ``train`` and ``val``, each with one folder a class.

    Raises:
        MissingExtraError: scikit-image is not installed.
        DatasetError: It ships other photographs, or the folder cannot be written.
    """
    named = hashlib.sha256(json.dumps(asdict(recipe)).encode()).hexdigest()[:16]
    folder = cache_dir / f"demo-pictures-{named}"
    if _is_whole(folder):
        return folder
    photographs = _read_photographs(recipe.photographs)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(cache_dir)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=cache_dir))
        try:
            (unfinished / _OWNER).write_text(str(os.getpid()))
            _write(unfinished, recipe, photographs, threads)
            _put_in_place(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise DatasetError(
            f"{cache_dir} cannot hold the demo's pictures ({error.strerror or error}), wanted a "
            "folder to write some 120 MB to. Pass --cache-dir with another folder, or --data with "
            "your own pictures."
        ) from error
    return folder


def _read_photographs(names: tuple[str, ...]) -> dict[str, Image.Image]:
    if find_spec("skimage") is None:
        raise MissingExtraError(
            "scikit-image is not installed, but the demo cuts its pictures from the photographs "
            'in it. Run pip install "lightning-fastdata[demo]", or pass --data with your own '
            "pictures."
        )
    photographs = {}
    for name in names:
        shipped = resources.files("skimage") / "data" / name
        if not shipped.is_file():
            raise DatasetError(
                f"the installed scikit-image has no {name}, but the demo cuts pictures from it. "
                "Install another version, 0.22 or newer, or pass --data with your own pictures."
            )
        with shipped.open("rb") as file:
            photographs[name.partition(".")[0]] = Image.open(file).convert("RGB")
    return photographs


def _write(
    root: Path, recipe: PictureRecipe, photographs: dict[str, Image.Image], threads: int
) -> None:
    cuts = []
    for side, count in (("train", recipe.train_of_each), ("val", recipe.val_of_each)):
        for name, photograph in photographs.items():
            folder = root / side / name
            folder.mkdir(parents=True)
            cuts += [
                _Cut(
                    photograph=photograph,
                    path=folder / f"{number:04}.jpg",
                    key=f"{recipe.seed}/{side}/{name}/{number}",
                )
                for number in range(count)
            ]
    bytes_written = 0
    pool = ThreadPoolExecutor(threads)  # Pillow lets other threads run while it resizes and encodes
    try:
        written = pool.map(lambda cut: _write_cut(cut, recipe), cuts)
        for picture_bytes in _shown(written, len(cuts)):
            bytes_written += picture_bytes
    finally:
        pool.shutdown(cancel_futures=True)  # ctrl-C must not wait for all that is queued
    note = {"pictures": len(cuts), "bytes": bytes_written, "recipe": asdict(recipe)}
    (root / _OWNER).unlink()
    (root / _NOTE).write_text(json.dumps(note))


def _write_cut(cut: _Cut, recipe: PictureRecipe) -> int:
    draws = Random(cut.key)  # a text, which Python hashes alike in every process and version
    width, height = cut.photograph.size
    side = draws.uniform(0.5, 1.0) * min(width, height)
    left, top = draws.uniform(0, width - side), draws.uniform(0, height - side)
    picture = cut.photograph.resize(
        (recipe.pixels, recipe.pixels),
        Image.Resampling.BICUBIC,
        box=(left, top, left + side, top + side),
    )
    picture.save(cut.path, "JPEG", quality=recipe.quality)
    return cut.path.stat().st_size


def _shown(written: Iterable[int], total: int) -> Iterable[int]:
    shown: Iterable[int] = tqdm(
        written, total=total, desc="Cutting pictures", unit="picture", disable=None, ncols=80
    )
    return shown


def _put_in_place(unfinished: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # half of an older set, if anything
    try:
        unfinished.rename(folder)
    except OSError:
        if not _is_whole(folder):  # else another demo was faster, and its pictures are the same
            raise


def _is_whole(folder: Path) -> bool:
    try:
        note = json.loads((folder / _NOTE).read_text())
        sizes = [path.stat().st_size for path in folder.glob("*/*/*.jpg")]
        return bool(len(sizes) == note["pictures"] and sum(sizes) == note["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _remove_abandoned(cache_dir: Path) -> None:
    """Remove what demos that were killed left behind, but not what one is writing right now."""
    import psutil  # type: ignore[import-untyped]  # it ships no types

    for folder in cache_dir.glob(f"{_UNFINISHED}*"):
        try:
            is_written_now = psutil.pid_exists(int((folder / _OWNER).read_text()))
        except (OSError, ValueError):
            continue  # just made by another demo, or not ours to judge
        if not is_written_now:
            shutil.rmtree(folder, ignore_errors=True)
