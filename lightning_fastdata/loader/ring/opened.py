"""From a written slot to the batch that the loop gets."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from lightning_fastdata.loader.ring.arena import PackedTree, shaped, unpack
from lightning_fastdata.loader.ring.layout import layout_of
from lightning_fastdata.loader.ring.memory import Mapping
from lightning_fastdata.loader.ring.rows import WrittenRows

MakeTensor = Callable[[int, torch.dtype, Sequence[int]], torch.Tensor]
"""Gives the tensor at so many bytes of the slot, of a dtype and a shape."""


def copied(mapping: Mapping, offset: int, dtype: torch.dtype, shape: Sequence[int]) -> torch.Tensor:
    """Give a tensor in memory of its own, so that the slot is free at once."""
    return mapping.tensor(offset, dtype, shape).clone()


def batch_of_rows(result: WrittenRows, batch_size: int, tensor: MakeTensor) -> Any:
    """Put rows that workers wrote together as torch's default collation does."""
    layout = layout_of(result.layout)
    texts = iter(result.texts)
    leaves = [
        tensor(offset, column.dtype, (batch_size, *column.shape))
        if column.kind == "rows"
        else column.collected(next(texts))
        for column, offset in zip(layout.columns, layout.place(batch_size).offsets, strict=True)
    ]
    return layout.build(leaves)


def batch_of_tree(result: PackedTree, tensor: MakeTensor) -> Any:
    """Put any batch together that a worker laid into the slot."""
    leaves: list[Any] = []
    for leaf in result.leaves:
        if leaf.stride is None:
            made = tensor(leaf.offset, leaf.dtype, leaf.shape)
        else:
            made = shaped(
                tensor(leaf.offset, leaf.dtype, (leaf.size // leaf.dtype.itemsize,)), leaf
            )
        leaves.append(made.numpy() if leaf.is_array else made)
    return unpack(result.pickled, leaves)
