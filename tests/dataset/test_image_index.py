"""The list of files: torchvision's order, a cache that notices changes, and little memory."""

import logging
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fastdata.dataset.image_folder import IMG_EXTENSIONS, ImageFolder
from lightning_fastdata.dataset.image_index import ImageIndex
from lightning_fastdata.dataset.index_cache import load_or_scan
from lightning_fastdata.errors import DatasetError, FastDataError


def make_tree(root: Path, names: list[str]) -> Path:
    """Files of one byte: an index never opens them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    age_folders(root)
    return root


def age_folders(root: Path) -> None:
    """Make every folder look settled: only such folders are cached."""
    hour_ago_ns = time.time_ns() - 3600 * 10**9
    for folder, _, _ in os.walk(root, topdown=False):
        os.utime(folder, ns=(hour_ago_ns, hour_ago_ns))


def load(root: Path, cache_dir: Path) -> ImageIndex:
    return load_or_scan(str(root), IMG_EXTENSIONS, cache_dir)


def paths_of(index: ImageIndex) -> list[str]:
    return [os.fsdecode(index.path_at(at)) for at in range(len(index))]


# Characters around "/" in the order of code points, where sorting by path and by name differ.
_names = st.text("a-/0.Zé", min_size=1, max_size=6).filter(
    lambda name: all(part.strip(".") for part in name.split("/"))
)


@settings(max_examples=60, deadline=None)
@given(names=st.lists(_names, min_size=1, max_size=12))
def test_has_the_order_of_torchvision_for_any_tree(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("tree")
    for name in names:
        folder = root / "class" / name
        if not any(part.is_file() for part in [folder, *folder.parents]):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "1.jpg").write_bytes(b"x")
            (folder / "0.JPG").write_bytes(b"x")
            (folder / "notes.txt").write_bytes(b"x")

    index = load(root, root / "cache-is-a-file" / "no")

    wanted = torchvision.datasets.folder.make_dataset(str(root), {"class": 0}, IMG_EXTENSIONS)
    assert paths_of(index) == [path for path, _ in wanted]


def test_follows_links_to_folders_and_files(tmp_path):
    root = make_tree(tmp_path / "root", ["cat/1.jpg"])
    make_tree(tmp_path / "away", ["deep/2.jpg"])
    (root / "dog").symlink_to(tmp_path / "away")
    (root / "cat" / "0.jpg").symlink_to(tmp_path / "away" / "deep" / "2.jpg")

    index = load(root, tmp_path / "cache")

    assert [path[len(str(root)) + 1 :] for path in paths_of(index)] == [
        "cat/0.jpg",
        "cat/1.jpg",
        "dog/deep/2.jpg",
    ]


def test_keeps_names_that_are_not_utf8(tmp_path):
    root = make_tree(tmp_path / "root", ["cat/1.jpg"])
    odd = os.fsencode(root) + b"/cat/\xff.jpg"
    Path(os.fsdecode(odd)).write_bytes(b"x")
    age_folders(root)

    first, second = load(root, tmp_path / "cache"), load(root, tmp_path / "cache")

    assert first.path_at(1) == second.path_at(1) == odd


def test_holds_bytes_and_offsets_only(tmp_path):
    root = make_tree(tmp_path / "root", [f"{name}/{i}.jpg" for name in "ab" for i in range(50)])

    index = load(root, tmp_path / "cache")

    assert index.names.dtype == np.uint8
    assert index.offsets.dtype == np.int64
    assert index.names.nbytes == sum(len(f"a/{i}.jpg") for i in range(50)) * 2
    assert index.labels() == [index.label_at(at) for at in range(100)] == [0] * 50 + [1] * 50


def test_takes_the_second_index_from_the_cache(tmp_path, caplog):
    root = make_tree(tmp_path / "root", ["cat/1.jpg", "dog/inner/2.jpg"])
    first = load(root, tmp_path / "cache")
    # Removing a file and giving the folder its old time back: only a new scan could see it.
    times = (root / "cat").stat()
    (root / "cat" / "1.jpg").unlink()
    os.utime(root / "cat", ns=(times.st_atime_ns, times.st_mtime_ns))

    second = load(root, tmp_path / "cache")

    assert paths_of(second) == paths_of(first)
    assert second.classes == first.classes
    assert second.cache_path == first.cache_path is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "cat" / "new.jpg").write_bytes(b"x"),
        lambda root: (root / "dog" / "inner" / "2.jpg").unlink(),
        lambda root: (root / "dog" / "inner").rename(root / "dog" / "other"),
        lambda root: make_tree(root / "ant", ["3.jpg"]),
        lambda root: (root / "cat").rename(root / "bird"),
    ],
    ids=["file added", "file removed", "folder renamed", "class added", "class renamed"],
)
def test_notices_every_change_of_the_tree(tmp_path, change):
    root = make_tree(tmp_path / "root", ["cat/0.jpg", "cat/1.jpg", "dog/0.jpg", "dog/inner/2.jpg"])
    load(root, tmp_path / "cache")
    change(root)

    index = load(root, tmp_path / "cache")

    assert paths_of(index) == [path for path, _ in torchvision.datasets.ImageFolder(root).samples]
    assert list(index.classes) == torchvision.datasets.ImageFolder(root).classes


def test_does_not_cache_a_folder_that_changed_just_now(tmp_path):
    """A second change in the same tick of the file system's clock would not show."""
    root = make_tree(tmp_path / "root", ["cat/0.jpg"])
    changed_ns = (root / "cat").stat().st_mtime_ns

    young = load_or_scan(str(root), IMG_EXTENSIONS, tmp_path / "cache", lambda: changed_ns + 10**9)
    settled = load_or_scan(
        str(root), IMG_EXTENSIONS, tmp_path / "cache", lambda: changed_ns + 3 * 10**9
    )

    assert young.cache_path is None
    assert settled.cache_path is not None


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "html"])
def test_rebuilds_a_damaged_cache_file(tmp_path, damage, caplog):
    root = make_tree(tmp_path / "root", ["cat/0.jpg", "dog/1.jpg"])
    path = load(root, tmp_path / "cache").cache_path
    good = path.read_bytes()
    flipped = good[:-3] + bytes([good[-3] ^ 1]) + good[-2:]
    bad = {"cut": good[:-5], "bit": flipped, "empty": b"", "html": b"<html>" * 99}[damage]
    path.unlink()
    path.write_bytes(bad)

    with caplog.at_level(logging.INFO):
        index = load(root, tmp_path / "cache")

    assert [Path(name).name for name in paths_of(index)] == ["0.jpg", "1.jpg"]
    assert path.read_bytes() == good
    assert [record.message[:16] for record in caplog.records] == ["the cached index"]


def test_an_unwritable_cache_folder_costs_one_log_line(tmp_path, caplog):
    root = make_tree(tmp_path / "root", ["cat/0.jpg"])
    (tmp_path / "cache").write_bytes(b"a file, where a folder is wanted")

    with caplog.at_level(logging.INFO):
        index = load(root, tmp_path / "cache")

    assert index.cache_path is None
    assert len(index) == 1
    assert len(caplog.records) == 1
    assert "is not cached" in caplog.text


def test_leaves_nothing_but_the_index_in_the_cache_folder(tmp_path):
    root = make_tree(tmp_path / "root", ["cat/0.jpg"])

    path = load(root, tmp_path / "cache").cache_path

    assert list((tmp_path / "cache").iterdir()) == [path]


def test_other_extensions_and_other_roots_have_other_cache_files(tmp_path):
    root = make_tree(tmp_path / "root", ["cat/0.jpg", "cat/0.gif"])
    other = make_tree(tmp_path / "other", ["cat/0.jpg"])

    indices = [
        load(root, tmp_path / "cache"),
        load(other, tmp_path / "cache"),
        load_or_scan(str(root), (".gif",), tmp_path / "cache"),
    ]

    assert len({index.cache_path for index in indices}) == 3
    assert paths_of(indices[2]) == [str(root / "cat/0.gif")]


def test_a_mapped_index_is_pickled_without_its_names(tmp_path):
    root = make_tree(tmp_path / "root", [f"cat/{'long' * 20}{i}.jpg" for i in range(200)])
    index = load(root, tmp_path / "cache")

    copy = pickle.loads(pickle.dumps(index))

    assert len(pickle.dumps(index)) < 1000 < index.names.nbytes
    assert paths_of(copy) == paths_of(index)
    assert copy.label_at(199) == 0


def test_an_index_in_memory_is_pickled_whole(tmp_path):
    root = make_tree(tmp_path / "root", ["cat/0.jpg", "dog/1.jpg"])
    index = ImageFolder(root, is_valid_file=lambda path: True, cache_dir=tmp_path / "cache").index

    copy = pickle.loads(pickle.dumps(index))

    assert index.cache_path is None
    assert not (tmp_path / "cache").exists()
    assert paths_of(copy) == paths_of(index)


def test_a_worker_refuses_an_index_that_was_replaced(tmp_path):
    root = make_tree(tmp_path / "root", ["cat/0.jpg"])
    pickled = pickle.dumps(load(root, tmp_path / "cache"))
    (root / "cat" / "1.jpg").write_bytes(b"x")
    age_folders(root)
    os.utime(root / "cat", ns=(0, 0))
    load(root, tmp_path / "cache")

    with pytest.raises(DatasetError, match=r"^.*, the index of the pictures, was written anew"):
        pickle.loads(pickled)


def test_a_worker_says_when_the_index_is_gone(tmp_path):
    root = make_tree(tmp_path / "root", ["cat/0.jpg"])
    index = load(root, tmp_path / "cache")
    pickled = pickle.dumps(index)
    index.cache_path.unlink()

    with pytest.raises(DatasetError, match=r"^.*, the index of the pictures, cannot be mapped"):
        pickle.loads(pickled)


@pytest.mark.parametrize(
    ("names", "root", "message"),
    [
        ([], "absent", r"^.*absent does not exist, wanted a folder"),
        (["file"], "file", r"^.*file cannot be listed \(Not a directory\), wanted a folder"),
        (["other/x"], "empty", r"^.*empty has no class folder, wanted one folder of pictures"),
        (["root/1.jpg"], "root", r"^.*root has no class folder, wanted one folder of pictures"),
        (
            ["root/cat/1.jpg", "root/dog/a.txt"],
            "root",
            r"^1 of 2 class folders in .*root hold no picture: dog\. Wanted at least one each",
        ),
    ],
    ids=["missing", "a file", "empty", "no classes", "a class without pictures"],
)
def test_says_what_is_wrong_with_the_folder(tmp_path, names, root, message):
    (tmp_path / "empty").mkdir()
    make_tree(tmp_path, names)

    with pytest.raises(DatasetError, match=message) as caught:
        ImageFolder(tmp_path / root, cache_dir=tmp_path / "cache")

    assert isinstance(caught.value, (FastDataError, ValueError))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_refuses_a_link_that_leads_back_up(tmp_path):
    root = make_tree(tmp_path / "root", ["cat/inner/0.jpg"])
    (root / "cat" / "inner" / "again").symlink_to(root / "cat")

    with pytest.raises(DatasetError, match=r"^.*again is a link to a folder that contains it"):
        load(root, tmp_path / "cache")


def test_names_a_class_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    root = make_tree(tmp_path / "root", ["cat/0.jpg"])
    scandir = os.scandir

    def refuse(path):  # a superuser may list every folder, so permissions cannot make this happen
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(
        DatasetError, match=r"^.*cat cannot be listed \(Permission denied\), wanted"
    ):
        load(root, tmp_path / "cache")
