"""The demo's pictures: whole or made anew, the same every time, and made of what is installed."""

import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
from PIL import Image

from lightning_fastdata.cli.photographs import PHOTOGRAPHS, PictureRecipe, ensure_pictures
from lightning_fastdata.errors import DatasetError, MissingExtraError

SMALL = PictureRecipe(photographs=("coffee.png", "rocket.jpg"), train_of_each=3, val_of_each=2)


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("*/*/*.jpg")}


def test_each_photograph_is_a_class_on_both_sides(tmp_path: Path) -> None:
    root = ensure_pictures(tmp_path, SMALL, threads=2)

    assert sorted(files_below(root)) == [
        *(f"train/{name}/000{number}.jpg" for name in ("coffee", "rocket") for number in range(3)),
        *(f"val/{name}/000{number}.jpg" for name in ("coffee", "rocket") for number in range(2)),
    ]
    with Image.open(root / "train" / "coffee" / "0000.jpg") as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (400, 400), "RGB")


def test_the_same_recipe_gives_the_same_bytes_for_any_number_of_threads(tmp_path: Path) -> None:
    one = ensure_pictures(tmp_path / "one", SMALL, threads=1)
    three = ensure_pictures(tmp_path / "three", SMALL, threads=3)

    assert files_below(one) == files_below(three)
    assert len(set(files_below(one).values())) == 10


def test_a_whole_set_is_used_again(tmp_path: Path) -> None:
    root = ensure_pictures(tmp_path, SMALL, threads=1)
    inodes = {path: path.stat().st_ino for path in root.glob("*/*/*.jpg")}

    assert ensure_pictures(tmp_path, SMALL, threads=1) == root
    assert {path: path.stat().st_ino for path in root.glob("*/*/*.jpg")} == inodes


@pytest.mark.parametrize("damage", ["a file is gone", "a file is cut off", "the note is gone"])
def test_half_a_set_is_made_anew(damage: str, tmp_path: Path) -> None:
    root = ensure_pictures(tmp_path, SMALL, threads=1)
    whole = files_below(root)
    victim = root / "val" / "rocket" / "0001.jpg"
    if damage == "a file is gone":
        victim.unlink()
    elif damage == "a file is cut off":
        victim.write_bytes(whole["val/rocket/0001.jpg"][:100])
    else:
        (root / "complete.json").unlink()
        victim.unlink()

    ensure_pictures(tmp_path, SMALL, threads=1)

    assert files_below(root) == whole


def test_what_a_killed_run_left_is_removed_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    abandoned, busy = tmp_path / "unfinished-demo-a", tmp_path / "unfinished-demo-b"
    for folder, owner in ((abandoned, ended.pid), (busy, os.getpid())):
        folder.mkdir()
        (folder / "owner.pid").write_text(str(owner))

    ensure_pictures(tmp_path, SMALL, threads=1)

    assert not abandoned.exists()
    assert busy.exists()


def test_every_photograph_is_in_the_installed_wheel() -> None:
    """Found without importing what would download it."""
    spec = util.find_spec("skimage")

    assert spec is not None
    assert spec.origin is not None
    shipped = os.listdir(Path(spec.origin).parent / "data")
    assert set(PHOTOGRAPHS) <= set(shipped)


def test_without_scikit_image_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_fastdata.cli.photographs.find_spec", lambda name: None)

    with pytest.raises(MissingExtraError, match=r'pip install "lightning-fastdata\[demo\]"'):
        ensure_pictures(tmp_path, SMALL, threads=1)


def test_a_photograph_that_is_not_shipped_is_named(tmp_path: Path) -> None:
    recipe = PictureRecipe(photographs=("unicorn.png",))

    with pytest.raises(DatasetError, match=r"^the installed scikit-image has no unicorn\.png, but"):
        ensure_pictures(tmp_path, recipe, threads=1)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()

    with pytest.raises(DatasetError, match=r"cannot hold the demo's pictures \(.*\), wanted"):
        ensure_pictures(in_the_way, SMALL, threads=1)

    assert list(tmp_path.iterdir()) == [in_the_way]
