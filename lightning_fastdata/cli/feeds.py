"""Three ways to feed the same pictures to the same training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightning.fabric.utilities.data import suggested_max_num_workers
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets, transforms  # type: ignore[import-untyped]  # it ships no types
from typing_extensions import override

from lightning_fastdata.cli.choice import PictureSets
from lightning_fastdata.datamodule import FastDataModule
from lightning_fastdata.dataset.image_folder import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True, kw_only=True, slots=True)
class Feed:
    """One way to feed training."""

    key: str
    """Name of its JSON file, without the ending."""
    title: str
    """Its column in the table."""
    build: Callable[[], LightningDataModule]
    """Makes a new data module."""


class StockData(LightningDataModule):
    """What most tutorials write: torchvision's ImageFolder in torch's DataLoader.

    Args:
        pictures: What to train and validate on.
        batch_size: Samples a batch.
        size: Height and width of a sample in pixels.
        loader_arguments: Further arguments for both loaders.
    """

    def __init__(
        self, pictures: PictureSets, *, batch_size: int, size: int, loader_arguments: dict[str, Any]
    ) -> None:
        super().__init__()
        self.pictures = pictures
        self.batch_size = batch_size
        self.size = size
        self.loader_arguments = loader_arguments

    @override
    def train_dataloader(self) -> Any:
        dataset = datasets.ImageFolder(
            self.pictures.train_root,
            transforms.Compose(
                [
                    transforms.RandomResizedCrop(self.size),
                    transforms.RandomHorizontalFlip(),
                    transforms.ToTensor(),
                    transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
                ]
            ),
        )
        return DataLoader(
            part_of(dataset, self.pictures.train_indices),
            batch_size=self.batch_size,
            shuffle=True,
            **self.loader_arguments,
        )

    @override
    def val_dataloader(self) -> Any:
        dataset = datasets.ImageFolder(
            self.pictures.val_root,
            transforms.Compose(
                [
                    transforms.Resize(self.size * 256 // 224),
                    transforms.CenterCrop(self.size),
                    transforms.ToTensor(),
                    transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
                ]
            ),
        )
        return DataLoader(
            part_of(dataset, self.pictures.val_indices),
            batch_size=self.batch_size,
            **self.loader_arguments,
        )


def three_feeds(pictures: PictureSets, *, batch_size: int, size: int, seed: int) -> list[Feed]:
    """List the ways to feed, in the order that they are run and shown in."""
    advised_workers = suggested_max_num_workers(local_world_size=1)

    def stock(**loader_arguments: Any) -> Callable[[], LightningDataModule]:
        return lambda: StockData(
            pictures, batch_size=batch_size, size=size, loader_arguments=loader_arguments
        )

    def automatic() -> LightningDataModule:
        return FastDataModule(
            train_dataset=part_of(pictures.train, pictures.train_indices),
            val_dataset=part_of(pictures.val, pictures.val_indices),
            batch_size=batch_size,
            seed=seed,
        )

    return [
        Feed(key="usual", title="DataLoader()", build=stock()),
        Feed(
            key="advice",
            title=f"num_workers={advised_workers}",
            build=stock(num_workers=advised_workers),
        ),
        Feed(key="auto", title="FastDataModule", build=automatic),
    ]


def part_of(dataset: Dataset[Any], indices: list[int] | None) -> Dataset[Any]:
    """Give the samples of a dataset with these indices; all of them for ``None``."""
    return dataset if indices is None else Subset(dataset, indices)
