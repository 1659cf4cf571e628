"""Whole batches of tensors that lie in memory, picked out by one vectorised copy a tensor."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from lightning_fastdata.order import Int64s

Allocate = Callable[[tuple[int, ...], torch.dtype], Tensor]


def can_gather(dataset: Any) -> bool:
    """Whether batches of this dataset are plain picks of rows out of ordinary CPU tensors."""
    return type(dataset) is TensorDataset and all(
        type(tensor) is Tensor
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.requires_grad
        and not tensor.is_quantized
        for tensor in dataset.tensors
    )


def gather_rows(dataset: TensorDataset, indices: Int64s, allocate: Allocate) -> list[Tensor]:
    """Pick the rows of one batch out of each tensor.

    Args:
        dataset: One that ``can_gather`` accepts.
        indices: Shape ``(B,)``; a negative one counts from the end.
        allocate: Gives the memory to write into, by shape and dtype; its caller owns it.

    Returns:
        One tensor of shape ``(B, ...)`` for each of the dataset's: what torch's default collation
        makes of these samples, in the same list.
    """
    rows = torch.from_numpy(np.where(indices < 0, indices + len(dataset), indices))
    batch = []
    for tensor in dataset.tensors:
        out = allocate((len(indices), *tensor.shape[1:]), tensor.dtype)
        batch.append(torch.index_select(tensor, 0, rows, out=out))
    return batch
