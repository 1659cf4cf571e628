"""The network that the demo trains: small enough for a CPU that loading matters."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from typing_extensions import override


class ResidualBlock(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )
        self.around: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            self.around = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    @override
    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.layers(maps) + self.around(maps))


class SmallResNet(LightningModule):
    """A ResNet of four blocks that tells pictures of ``classes`` kinds apart.

    Args:
        classes: How many kinds.
        width: Channels after the first layer; the last block has eight times as many.
        steps: Over how many steps the learning rate falls to nothing.
    """

    def __init__(self, classes: int, width: int, *, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.network = nn.Sequential(
            nn.Conv2d(3, width, 7, 4, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            ResidualBlock(width, width, 1),
            ResidualBlock(width, 2 * width, 2),
            ResidualBlock(2 * width, 4 * width, 2),
            ResidualBlock(4 * width, 8 * width, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8 * width, classes),
        )

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.network(images), labels)

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        is_right = self.network(images).argmax(dim=1) == labels
        self.log("accuracy", is_right.float().mean(), batch_size=len(labels))

    @override
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
        # Without it the accuracy of so short a run is a matter of luck.
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
