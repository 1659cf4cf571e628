"""The dataset: torchvision's samples in torchvision's order, seeded by torch's generator alone."""

import io
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from lightning_fastdata.dataset.image_folder import IMG_EXTENSIONS, ImageFolder
from lightning_fastdata.errors import SampleError, SettingsError


def write_picture(path: Path, level: int = 0, size: tuple[int, int] = (60, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(level).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for at, name in enumerate(["b/2.jpg", "b/10.png", "a/x.JPEG", "a/deep/y.bmp", "c/z.webp"]):
        write_picture(tmp_path / "root" / name, at)
    (tmp_path / "root" / "a" / "notes.txt").write_text("no picture")
    return tmp_path / "root"


@pytest.fixture
def build(root: Path, tmp_path: Path):
    return lambda **options: ImageFolder(root, cache_dir=tmp_path / "cache", **options)


def same(one: tuple, other: tuple) -> bool:
    return torch.equal(one[0], other[0]) and one[1] == other[1]


def test_has_the_classes_samples_and_order_of_torchvision(build, root):
    ours, theirs = build(), torchvision.datasets.ImageFolder(root)

    assert ours.classes == theirs.classes
    assert ours.class_to_idx == theirs.class_to_idx
    assert ours.targets == theirs.targets
    assert len(ours) == len(theirs)
    assert [ours.sample_path(at) for at in range(len(ours))] == [path for path, _ in theirs.samples]


def test_has_the_samples_of_torchvision_on_real_pictures(imagenet_sample, tmp_path):
    ours = ImageFolder(imagenet_sample, cache_dir=tmp_path)
    theirs = torchvision.datasets.ImageFolder(imagenet_sample)

    assert [(ours.sample_path(at), ours.targets[at]) for at in range(len(ours))] == theirs.samples
    assert ours.class_to_idx == theirs.class_to_idx


def test_knows_the_extensions_of_torchvision():
    assert torchvision.datasets.folder.IMG_EXTENSIONS == IMG_EXTENSIONS


@pytest.mark.parametrize("train", [True, False])
def test_a_sample_is_a_uint8_tensor_of_its_own_and_an_int(build, train):
    dataset = build(size=24, train=train)

    picture, label = dataset[1]

    assert (picture.shape, picture.dtype) == ((3, 24, 24), torch.uint8)
    assert picture.is_contiguous()
    assert picture.untyped_storage().nbytes() == 3 * 24 * 24
    assert type(label) is int


@pytest.mark.parametrize("at", range(5))
def test_training_samples_are_those_of_torchvision_from_the_same_seed(build, at):
    dataset = build(size=24, train=True)
    pipeline = v2.Compose([v2.RandomResizedCrop(24, antialias=True), v2.RandomHorizontalFlip()])
    theirs = torchvision.datasets.ImageFolder(dataset.root, lambda picture: picture)

    for seed in range(8):
        torch.manual_seed(seed)
        ours = dataset[at]
        torch.manual_seed(seed)
        wanted = pipeline(torch.from_numpy(np.array(theirs[at][0])).permute(2, 0, 1).contiguous())
        # Boxes of twice the sample come from a scaled decode; noise is the worst case for it.
        difference = (ours[0].int() - wanted.int()).abs()
        is_jpeg = dataset.sample_path(at).lower().endswith(("jpg", "jpeg"))
        assert difference.max() <= 1 or (is_jpeg and difference.float().mean() < 30)


def test_only_torchs_generator_decides(build):
    dataset = build(size=24, train=True)

    torch.manual_seed(5)
    first = [dataset[at] for at in range(5)]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(5)
    second = [dataset[at] for at in range(5)]
    other = [dataset[at] for at in range(5)]

    assert all(map(same, first, second))
    assert not all(map(same, first, other))


def test_evaluation_draws_nothing(build):
    dataset = build(size=24)
    before = torch.get_rng_state()

    assert same(dataset[0], dataset[0])

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("hflip", "mirrored"), [(0.0, False), (1.0, True)])
def test_mirrors_with_the_probability_asked_for(build, hflip, mirrored):
    always = {"scale": (1.0, 1.0), "ratio": (1.2, 1.2), "size": 24, "train": True}

    picture = build(hflip=hflip, **always)[1][0]

    plain = build(hflip=0.0, **always)[1][0]
    assert torch.equal(picture, plain.flip(-1) if mirrored else plain)


def test_a_transform_gets_the_picture_of_torchvision_and_nothing_else_is_done(build, root):
    theirs = torchvision.datasets.ImageFolder(root, transform=np.array)
    seen: list[Image.Image] = []

    def transform(picture: Image.Image) -> str:
        seen.append(picture)
        return "as it is"

    dataset = build(transform=transform, train=True)
    before = torch.get_rng_state()
    samples = [dataset[at] for at in range(5)]

    assert samples == [("as it is", label) for label in theirs.targets]
    assert all(type(picture) is Image.Image and picture.mode == "RGB" for picture in seen)
    assert all(np.array_equal(seen[at], theirs[at][0]) for at in range(5))
    assert torch.equal(torch.get_rng_state(), before)


def test_errors_of_a_transform_are_left_as_they_are(build):
    with pytest.raises(ZeroDivisionError):
        build(transform=lambda picture: 1 / 0)[0]


def test_is_valid_file_chooses_the_files(build):
    dataset = build(is_valid_file=lambda path: path.endswith(("x.JPEG", "2.jpg", "z.webp")))

    names = [Path(dataset.sample_path(at)).name for at in range(len(dataset))]

    assert names == ["x.JPEG", "2.jpg", "z.webp"]


def test_counts_indices_as_a_list_does(build):
    dataset = build(size=8)

    assert same(dataset[-1], dataset[4])
    assert same(dataset[np.int64(2)], dataset[2])
    assert dataset.sample_path(-5) == dataset.sample_path(0)
    for index in (5, -6):
        with pytest.raises(IndexError, match=rf"^sample {index} of 5: wanted -5 to 4"):
            dataset[index]
    assert len(list(dataset)) == 5


def test_writes_into_a_row_of_a_batch_what_it_returns_alone(build):
    dataset = build(size=24, train=True)
    batch = torch.zeros((5, 3, 24, 24), dtype=torch.uint8)

    torch.manual_seed(1)
    labels = [dataset.decode_into(batch[at], at) for at in range(5)]

    torch.manual_seed(1)
    alone = [dataset[at] for at in range(5)]
    assert torch.equal(batch, torch.stack([picture for picture, _ in alone]))
    assert labels == [label for _, label in alone]


def test_a_pickled_dataset_gives_the_same_samples_and_carries_no_list(build):
    dataset = build(size=24, train=True)
    assert len(dataset.targets) == 5

    copy = pickle.loads(pickle.dumps(dataset))

    assert "targets" not in copy.__dict__
    assert copy.targets == dataset.targets
    torch.manual_seed(2)
    first = dataset[3]
    torch.manual_seed(2)
    assert same(copy[3], first)


def replace(path: str, content: bytes | None) -> None:
    os.unlink(path)
    if content is not None:
        Path(path).write_bytes(content)


def cut_short(path: str) -> None:
    replace(path, Path(path).read_bytes()[:-400])


def a_bomb() -> bytes:
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("transform", [None, np.array], ids=["ours", "transform"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: replace(path, None), r"\) cannot be read: No such file"),
        (lambda path: replace(path, b""), r", 0 bytes\) cannot be decoded: Unidentified"),
        (lambda path: replace(path, b"<html>404"), r", 9 bytes\) cannot be decoded: Unidentified"),
        (cut_short, r", \d+ bytes\) cannot be decoded: OSError: .*truncated"),
        (
            lambda path: replace(path, a_bomb()),
            r", \d+ bytes\) cannot be decoded: DecompressionBombError",
        ),
    ],
    ids=["vanished", "empty", "html", "truncated", "bomb"],
)
def test_a_bad_sample_names_itself_and_survives_the_way_from_a_worker(
    build, damage, reason, transform
):
    dataset = build(transform=transform)
    path = dataset.sample_path(3)
    damage(path)

    with pytest.raises(SampleError, match=rf"^sample 3 \({path}{reason}") as caught:
        dataset[3]

    assert isinstance(caught.value.__cause__, Exception)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (SampleError, str(caught.value))
    assert dataset[2][1] == 1


def test_a_file_that_may_not_be_read_is_named(build, monkeypatch):
    dataset = build()

    def refuse(path: bytes, flags: int) -> int:  # a superuser may read every file
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(SampleError, match=r"^sample 0 \(.*x\.JPEG\) cannot be read: Permission"):
        dataset[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"^size=0, wanted a whole number of pixels"),
        ({"size": 22.5}, r"^size=22\.5, wanted a whole number"),
        ({"size": True}, r"^size=True, wanted a whole number"),
        ({"scale": (0.5, 0.1)}, r"^scale=\(0\.5, 0\.1\), wanted \(smallest, largest\)"),
        ({"scale": (0.0, 1.0)}, r"^scale=\(0\.0, 1\.0\), wanted"),
        ({"scale": (0.1, 1.5)}, r"^scale=\(0\.1, 1\.5\), wanted .* <= 1\."),
        ({"scale": (0.1, 0.5, 1.0)}, r"^scale=\(0\.1, 0\.5, 1\.0\), wanted"),
        ({"ratio": (float("nan"), 1.0)}, r"^ratio=\(nan, 1\.0\), wanted"),
        ({"ratio": (1.0, float("inf"))}, r"^ratio=\(1\.0, inf\), wanted"),
        ({"hflip": 1.1}, r"^hflip=1\.1, wanted a probability"),
        ({"mean": (0.5,)}, r"^mean=\(0\.5,\), wanted three numbers"),
        ({"std": (0.1, 0.0, 0.1)}, r"^std=\(0\.1, 0\.0, 0\.1\), wanted three numbers above 0"),
        ({"extensions": ()}, r"^extensions=\(\), wanted endings"),
    ],
)
def test_refuses_arguments_that_cannot_work(build, options, message):
    with pytest.raises(SettingsError, match=message):
        build(**options)


def test_an_unknown_argument_is_an_error(build):
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'sizes'"):
        build(sizes=3)


def test_extensions_count_in_any_case_and_may_be_one_string(build):
    (Path(build().root) / "b" / "3.JpEg").write_bytes(b"x")
    (Path(build().root) / "c" / "4.jpeg").write_bytes(b"x")

    assert len(build(extensions=".JPEG")) == len(build(extensions=(".jpeg",))) == 3
