"""Rows of tensors: which datasets are picked by one copy, and what comes out."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset, default_collate

from lightning_fastdata.dataset.gather import can_gather, gather_rows


def picked(data: TensorDataset, *indices: int) -> list[torch.Tensor]:
    rows = np.array(indices, dtype=np.int64)
    return gather_rows(data, rows, lambda shape, dtype: torch.empty(shape, dtype=dtype))


class Special(torch.Tensor):
    pass


class Augmented(TensorDataset):
    def __getitem__(self, index: Any) -> Any:
        return [tensor[index] + 1 for tensor in self.tensors]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12).view(4, 3),
        torch.arange(12).view(3, 4).t(),
        torch.arange(4),
        torch.zeros(4, 2).to(torch.bfloat16),
        torch.tensor([True, False, True, True]),
        torch.arange(8).to(torch.complex64).conj().view(4, 2),
        torch.zeros(4, 0),
        torch.arange(5)[1:].expand(4),
        torch.arange(3).expand(4, 3),
    ],
    ids=lambda tensor: f"{tensor.dtype}, {tuple(tensor.shape)}, {tensor.stride()}",
)
def test_rows_are_what_default_collation_makes_of_the_samples(tensor: torch.Tensor) -> None:
    data = TensorDataset(tensor, torch.arange(4))
    wanted = default_collate([data[2], data[0], data[-1], data[2]])

    found = picked(data, 2, 0, -1, 2)

    assert can_gather(data)
    assert type(found) is type(wanted)
    for mine, other in zip(found, wanted, strict=True):
        assert mine.dtype == other.dtype
        assert torch.equal(mine, other)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(4, 3).to_sparse(),
        torch.zeros(4, 3, requires_grad=True),
        torch.zeros(4, 3).as_subclass(Special),
        torch.zeros(4, 3, device="meta"),
        torch.nn.Parameter(torch.zeros(4)),
    ],
    ids=["sparse", "requires_grad", "subclass", "meta", "parameter"],
)
def test_tensors_that_are_more_than_numbers_are_read_one_by_one(tensor: torch.Tensor) -> None:
    assert not can_gather(TensorDataset(torch.zeros(4), tensor))


def test_a_subclass_of_tensor_dataset_is_asked_itself() -> None:
    assert not can_gather(Augmented(torch.zeros(4)))
    assert not can_gather([1, 2, 3])


@pytest.mark.parametrize("index", [4, -5])
def test_an_index_out_of_range_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError):
        picked(TensorDataset(torch.zeros(4)), 0, index)
