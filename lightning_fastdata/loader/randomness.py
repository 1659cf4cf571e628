"""The random numbers of samples: seeded by position, so they never depend on who makes a sample.

A dataset draws from torch's, NumPy's or Python's generator, or from none. Seeding all three for
each sample costs 8 microseconds, so only those seen drawing are seeded: when another's state has
changed after a batch, the batch is made again with that one seeded too.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Generator:
    """One of the process's generators: how it is seeded, read, compared and put back."""

    name: str
    seed: Callable[[int], object]
    read: Callable[[], Any]
    put_back: Callable[[Any], object]
    same: Callable[[Any, Any], bool]


def _same_numpy(one: Any, other: Any) -> bool:
    return bool(
        one["state"]["pos"] == other["state"]["pos"]
        and one["has_gauss"] == other["has_gauss"]
        and np.array_equal(one["state"]["key"], other["state"]["key"])
    )


_GENERATORS = (
    _Generator(
        name="torch",
        seed=lambda seed: torch.default_generator.manual_seed(seed),
        read=lambda: torch.default_generator.get_state(),
        put_back=lambda state: torch.default_generator.set_state(state),
        same=torch.equal,
    ),
    _Generator(
        name="numpy",
        seed=lambda seed: np.random.seed(seed & 0xFFFFFFFF),
        read=lambda: np.random.get_state(legacy=False),
        put_back=lambda state: np.random.set_state(state),
        same=_same_numpy,
    ),
    _Generator(
        name="random",
        seed=random.seed,
        read=random.getstate,
        put_back=random.setstate,
        same=lambda one, other: bool(one == other),
    ),
)


class SeededDraws:
    """Makes batches whose random draws depend on the seeds alone.

    Args:
        restore: Whether the process's own generators are put back after each batch, which a
            training process needs and a worker process does not.
    """

    def __init__(self, *, restore: bool) -> None:
        self._restore = restore
        self._seeded: tuple[_Generator, ...] = ()

    def seed(self, seed: int) -> None:
        """Seed the generators that have been seen drawing, from a seed of 64 bits."""
        for generator in self._seeded:
            generator.seed(seed)

    def run(self, make: Callable[[], T]) -> T:
        """Call ``make``, which calls ``seed`` before each sample, until no draw went unseeded."""
        watched = _GENERATORS if self._restore else self._unseeded()
        before = {generator.name: generator.read() for generator in watched}
        drew: tuple[_Generator, ...] = _GENERATORS  # an error may leave any of them changed
        try:
            while True:
                made = make()
                surprises = tuple(
                    generator
                    for generator in self._unseeded()
                    if not generator.same(before[generator.name], generator.read())
                )
                if not surprises:
                    drew = self._seeded
                    return made
                self._seeded += surprises
        finally:
            if self._restore:
                for generator in drew:
                    generator.put_back(before[generator.name])

    def _unseeded(self) -> tuple[_Generator, ...]:
        return tuple(generator for generator in _GENERATORS if generator not in self._seeded)
