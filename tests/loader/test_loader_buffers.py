"""Batch memory: never changed under a reader, used again when nobody reads it."""

import random
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from sample_sets import loader_of
from torch.utils.data import TensorDataset

from lightning_fastdata.loader.buffers import BufferPool

LARGE = 100_000  # bytes, enough to be worth keeping


def rows(length: int = 4000) -> TensorDataset:
    """80 KiB a batch of 32, so that memory is worth keeping."""
    values = torch.arange(length * 640, dtype=torch.float32).view(length, 640)
    return TensorDataset(values, torch.arange(length))


def kept_in_some_way(batch: list[Any], way: int) -> Any:
    """What a reader may hold on to instead of the batch."""
    images, dlpack = batch[0], cast(Any, torch.utils.dlpack)
    ways: list[Callable[[], Any]] = [
        lambda: images,
        lambda: images[3:5],
        lambda: images.numpy(),
        lambda: images.numpy()[::2, 1:],
        lambda: memoryview(images.numpy())[1:2],
        lambda: images.t().unsqueeze(0),
        lambda: images.view(torch.uint8),
        lambda: dlpack.from_dlpack(dlpack.to_dlpack(images)),
        lambda: images.untyped_storage(),
        lambda: images.detach().requires_grad_(),
    ]
    return ways[way]()


def content(kept: Any) -> bytes:
    if isinstance(kept, torch.UntypedStorage):
        kept = torch.empty(0, dtype=torch.uint8).set_(kept)
    return np.asarray(kept.detach() if isinstance(kept, torch.Tensor) else kept).tobytes()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_whatever_a_reader_keeps_of_a_batch_never_changes(num_workers: int) -> None:
    luck = random.Random(0)
    held: list[tuple[Any, bytes]] = []

    for batch in loader_of(rows(), 32, shuffle=True, num_workers=num_workers):
        kept = kept_in_some_way(batch, luck.randrange(10))
        held.append((kept, content(kept)))
        while luck.random() < 0.45 and held:
            before, was = held.pop(luck.randrange(len(held)))
            assert content(before) == was
    assert len(held) > 5
    for kept, was in held:
        assert content(kept) == was


def test_the_memory_of_dropped_batches_is_used_again() -> None:
    places = {batch[0].data_ptr() for batch in loader_of(rows(), 32)}

    assert len(places) <= 4  # of 125 batches


def test_a_reader_who_keeps_all_batches_gets_memory_of_its_own_for_each() -> None:
    batches = list(loader_of(rows(), 32))

    assert len({batch[0].data_ptr() for batch in batches}) == len(batches) == 125


def test_what_dies_is_kept_only_up_to_a_bound() -> None:
    pool = BufferPool()
    many = [pool.allocate((LARGE,), torch.uint8) for _ in range(50)]
    places = {tensor.data_ptr() for tensor in many}

    del many

    again = [pool.allocate((LARGE,), torch.uint8) for _ in range(50)]
    assert len([tensor for tensor in again if tensor.data_ptr() in places]) >= 1
    assert len(pool._free[LARGE]) == 0
    del again
    assert len(pool._free[LARGE]) == 4


def test_batches_of_ever_new_sizes_do_not_pile_up() -> None:
    pool = BufferPool()

    for size in range(1, 100):
        pool.allocate((LARGE + size,), torch.uint8)

    assert sum(len(free) for free in pool._free.values()) <= 32


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.bfloat16, torch.int64, torch.complex128], ids=str
)
def test_memory_of_every_dtype_has_the_shape_asked_for_and_can_be_written(
    dtype: torch.dtype,
) -> None:
    tensor = BufferPool().allocate((2, LARGE), dtype)

    tensor.fill_(1)

    assert (tensor.dtype, tensor.shape, tensor.is_contiguous()) == (dtype, (2, LARGE), True)
    assert tensor.eq(1).all()


def test_a_tensor_without_elements_is_a_tensor_too() -> None:
    assert BufferPool().allocate((4, 0), torch.float32).shape == (4, 0)
