"""Delivery of a batch: on its device, transformed, with draws that only the batch decides."""

import random
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

from lightning_fastdata.transfer.deliver import Deliver

CPU = torch.device("cpu")


def draw_from_all(batch: Any) -> list[float]:
    return [float(torch.rand(())), float(np.random.rand()), random.random()]


def never(batch: Any) -> Any:
    raise AssertionError("moved")


def states() -> list[Any]:
    return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]  # type: ignore[index]


def test_each_batch_seed_gives_its_own_draws_whatever_came_before() -> None:
    deliver = Deliver(CPU, never, draw_from_all)

    first, other = deliver(None, 1), deliver(None, 2**64 - 1)
    draw_from_all(None)
    again = deliver(None, 1)

    assert first == again
    assert all(mine != yours for mine, yours in zip(first, other, strict=True))


@pytest.mark.parametrize("fails", [False, True])
def test_the_generators_of_the_process_are_put_back(fails: bool) -> None:
    def transform(batch: Any) -> Any:
        draw_from_all(batch)
        return 1 / (0 if fails else 1)

    torch.manual_seed(99)  # none of the states that an earlier delivery could have left
    np.random.seed(99)
    random.seed(99)
    before = states()

    if fails:
        with pytest.raises(ZeroDivisionError):
            Deliver(CPU, never, transform)(None, 1)
    else:
        Deliver(CPU, never, transform)(None, 1)

    assert states() == before


def test_a_transform_that_does_not_draw_is_not_seeded() -> None:
    deliver = Deliver(CPU, never, lambda batch: states(), draws=False)

    assert deliver(None, 1) == states()


def test_without_a_transform_the_batch_is_passed_on() -> None:
    batch = {"x": [torch.zeros(2)]}

    assert Deliver(CPU, never, None)(batch, 1) is batch


def test_batches_for_another_device_are_moved_before_they_are_transformed() -> None:
    meta = torch.device("meta")
    deliver = Deliver(
        meta, partial(move_data_to_device, device=meta), lambda batch: batch[0].device, draws=False
    )

    assert deliver([torch.zeros(2)], 1) == meta


@pytest.mark.gpu
def test_nested_batches_arrive_on_the_device_with_their_values() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    batch = {"x": [torch.arange(6.0).pin_memory(), (torch.arange(3), "name")]}

    found = Deliver(device, partial(move_data_to_device, device=device), None)(batch, 1)

    assert found["x"][0].device == found["x"][1][0].device == device
    assert found["x"][0].tolist() == list(range(6))
    assert found["x"][1][0].tolist() == [0, 1, 2]
    assert found["x"][1][1] == "name"


@pytest.mark.gpu
def test_draws_on_the_device_are_seeded_and_its_generator_put_back() -> None:
    device = torch.device("cuda")
    deliver = Deliver(device, lambda batch: batch, lambda _: torch.rand(3, device=device).tolist())
    before = torch.cuda.get_rng_state()

    first, other, again = deliver(None, 1), deliver(None, 2), deliver(None, 1)

    assert first == again != other
    assert torch.equal(torch.cuda.get_rng_state(), before)
