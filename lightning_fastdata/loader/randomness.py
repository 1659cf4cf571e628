"""The random numbers of samples: seeded by position, so they never depend on who makes a sample.

A dataset draws from torch's, NumPy's or Python's generator, or from none. Seeding all three for
each sample costs 8 microseconds, so only those seen drawing are seeded: when another's state has
changed after a batch, the batch is made again with that one seeded too.
"""

import ctypes
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
    glance: Callable[[], Any]
    """Something quickly read that changes with the first draw after a seeding."""


def _same_numpy(one: Any, other: Any) -> bool:
    return bool(
        one["state"]["pos"] == other["state"]["pos"]
        and one["has_gauss"] == other["has_gauss"]
        and np.array_equal(one["state"]["key"], other["state"]["key"])
    )


def _glance_at_numpy() -> Any:
    """The generator's own memory, which takes a two-hundredth of the time of ``get_state``."""
    bits: Any = np.random.get_bit_generator()  # type: ignore[attr-defined]  # missing in its stub
    if type(bits) is not np.random.MT19937:
        return repr(bits.state)
    return ctypes.string_at(bits.ctypes.state_address, _MT19937_BYTES)


_MT19937_BYTES = 625 * 4  # numpy's struct mt19937_state: 624 words of key, and the place in them

_GENERATORS = (
    _Generator(
        name="torch",
        seed=lambda seed: torch.default_generator.manual_seed(seed),
        read=lambda: torch.default_generator.get_state(),
        put_back=lambda state: torch.default_generator.set_state(state),
        same=torch.equal,
        glance=lambda: torch.default_generator.get_state().numpy().tobytes(),
    ),
    _Generator(
        name="numpy",
        seed=lambda seed: np.random.seed(seed & 0xFFFFFFFF),
        read=lambda: np.random.get_state(legacy=False),
        put_back=lambda state: np.random.set_state(state),
        same=_same_numpy,
        glance=_glance_at_numpy,
    ),
    _Generator(
        name="random",
        seed=random.seed,
        read=random.getstate,
        put_back=random.setstate,
        same=lambda one, other: bool(one == other),
        glance=random.getstate,
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
        self._unseeded: tuple[_Generator, ...] = _GENERATORS
        self._last: dict[str, Any] = {}
        self._is_new, self._covers_all = True, False

    def seed(self, seed: int) -> None:
        """Seed the generators that have been seen drawing, from a seed of 64 bits.

        The very first time all are seeded, so that the first sample is right whatever it draws.
        """
        if self._is_new:
            if not self._covers_all:
                self._covers_all = True
                for generator in _GENERATORS:
                    generator.seed(seed)
                self._last = self._states(_GENERATORS)
                return
            self._look_at_first()
        for generator in self._seeded:
            generator.seed(seed)

    def run(self, make: Callable[[], T]) -> T:
        """Call ``make``, which calls ``seed`` before each sample, until no draw went unseeded."""
        self._covers_all = False
        if not self._restore:
            # What was seen last is compared with after the next batch: nothing draws in between.
            self._last = self._last or self._states(_GENERATORS)
            return self._until_seeded(make)
        before = self._states(_GENERATORS)
        self._last = dict(before)
        may_differ: tuple[_Generator, ...] = _GENERATORS  # after an error, or a first seeding
        was_new = self._is_new
        try:
            made = self._until_seeded(make)
            may_differ = _GENERATORS if was_new else self._seeded
            return made
        finally:
            for generator in may_differ:
                generator.put_back(before[generator.name])

    def _until_seeded(self, make: Callable[[], T]) -> T:
        while True:
            made = make()
            self._look_at_first()
            if not self._see_drawing():
                return made

    def _look_at_first(self) -> None:
        if self._covers_all:
            self._is_new = self._covers_all = False
            self._see_drawing()

    def _see_drawing(self) -> bool:
        """Find those that drew without being seeded; from now on they will be."""
        before, now = self._last, self._states(self._unseeded)
        drew = tuple(g for g in self._unseeded if not self._same(g, before[g.name], now[g.name]))
        self._last = now
        self._seeded += drew
        self._unseeded = tuple(other for other in self._unseeded if other not in drew)
        return bool(drew)

    def _states(self, generators: tuple[_Generator, ...]) -> dict[str, Any]:
        return {g.name: g.read() if self._restore else g.glance() for g in generators}

    def _same(self, generator: _Generator, one: Any, other: Any) -> bool:
        return generator.same(one, other) if self._restore else bool(one == other)
