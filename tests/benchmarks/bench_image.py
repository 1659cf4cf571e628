"""How many JPEGs a second do two workers turn into training batches?

Run ``python tests/benchmarks/bench_image.py [--json FILE]``. The data are the ImageNet photographs
beside the project, random-resized-crop to 224 and mirrored, batches of 64. Every loader has two
persistent workers; an epoch is a turn, and its start is part of it.

    fastdata          FastDataLoader on our ImageFolder: uint8
    torch_uint8       DataLoader, torchvision decode_image and v2 transforms: uint8
    torch_pil         DataLoader, PIL, ToTensor, Normalize: float32, the common recipe
    torch_fastdata    torch's DataLoader on our ImageFolder: what the loader itself adds or saves
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from harness import Variant, arguments, report, take_turns
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from lightning_fastdata import FastDataLoader, ImageFolder

SAMPLE = Path(__file__).resolve().parents[2].parent / "shared/data/imagenet-sample"
BATCH_SIZE, WORKERS, SIZE = 64, 2, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SAMPLE, help="an image folder")
    parsed = parser.parse_args()
    ours = ImageFolder(parsed.data, size=SIZE, train=True)
    loaders: dict[str, Iterable[list[torch.Tensor]]] = {
        "fastdata": FastDataLoader(ours, BATCH_SIZE, shuffle=True, num_workers=WORKERS),
        "torch_uint8": stock(uint8_folder(parsed.data)),
        "torch_pil": stock(pil_folder(parsed.data)),
        "torch_fastdata": stock(ours),
    }
    refuse_wrong_answers(loaders, len(ours))
    variants: dict[str, Variant] = {
        name: lambda loader=loader: sum(len(labels) for _, labels in loader)
        for name, loader in loaders.items()
    }

    rates = take_turns(variants, parsed.rounds)
    claims = {
        "at least 1.9 x the usual PIL float pipeline": ("fastdata", "torch_pil", 1.9),
        "at least 1.15 x torchvision uint8": ("fastdata", "torch_uint8", 1.15),
    }
    report(
        "image",
        rates,
        claims,
        parsed.json,
        batch_size=BATCH_SIZE,
        num_workers=WORKERS,
        pictures=len(ours),
    )


def stock(dataset: torch.utils.data.Dataset) -> DataLoader:
    return DataLoader(
        dataset, BATCH_SIZE, shuffle=True, num_workers=WORKERS, persistent_workers=True
    )


def read_uint8(path: str) -> torch.Tensor:
    return decode_image(path, mode=ImageReadMode.RGB)


def uint8_folder(root: Path) -> datasets.ImageFolder:
    steps = [v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip()]
    return datasets.ImageFolder(root, transform=v2.Compose(steps), loader=read_uint8)


def pil_folder(root: Path) -> datasets.ImageFolder:
    steps = [
        transforms.RandomResizedCrop(SIZE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    return datasets.ImageFolder(root, transform=transforms.Compose(steps))


def refuse_wrong_answers(loaders: dict[str, Iterable[list[torch.Tensor]]], count: int) -> None:
    """Same labels an epoch, same shapes; ``bench_decode.py`` compares the pixels themselves."""
    wanted = None
    for name, loader in loaders.items():
        batches = list(loader)
        labels = sorted(label for batch in batches for label in batch[1].tolist())
        wanted = wanted or labels
        assert labels == wanted, f"never time a wrong answer: {name}"
        assert len(labels) == count, f"never time a wrong answer: {name}"
        assert batches[0][0].shape == (BATCH_SIZE, 3, SIZE, SIZE), f"wrong shape: {name}"


if __name__ == "__main__":
    main()
