"""Delivery: a host batch is copied to the device, and transformed there."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch


class Deliver:
    """Brings one batch at a time to the device, on the stream that training uses.

    Args:
        device: Where batches go. On ``cpu`` nothing is copied.
        move: Copies a nested batch to the device, not waiting for it where it is page-locked.
        transform: Called with the batch on the device; its draws are seeded by the batch. ``None``
            leaves batches as they are.
        draws: Whether ``transform`` may draw random numbers.
        measured: Gives a context around each delivery, in which a profiler sees it.
    """

    def __init__(
        self,
        device: torch.device,
        move: Callable[[Any], Any],
        transform: Callable[[Any], Any] | None,
        *,
        draws: bool = True,
        measured: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.device, self._move = device, move
        self._transform, self._draws = transform, draws
        self._measured = measured

    def __call__(self, data: Any, batch_seed: int) -> Any:
        """Deliver one batch.

        Args:
            data: A nested batch on the host.
            batch_seed: 64 bits that name this batch's random draws.

        Returns:
            The transformed batch on the device; the caller owns it.
        """
        with self._measured():
            if self.device.type != "cpu":
                data = self._move(data)
            if self._transform is None:
                return data
            if not self._draws:
                return self._transform(data)
            with _seeded(self.device, batch_seed):
                return self._transform(data)


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generators that a transform may draw from, and put them back afterwards."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    before = [generator.get_state() for generator in generators]
    numpy_before, python_before = np.random.get_state(), random.getstate()
    try:
        for generator in generators:
            generator.manual_seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        random.seed(seed)
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)
        np.random.set_state(numpy_before)
        random.setstate(python_before)
