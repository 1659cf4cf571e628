"""The random numbers of samples: seeded by position, so they never depend on who makes a sample.

A dataset draws from torch's, NumPy's or Python's generator, or from none. Seeding all three for
each sample costs 8 microseconds, so only those seen drawing are seeded: when another's state has
changed after a batch, the batch is made again with that one seeded too.
"""

import contextlib
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


def _forget_spare_normal() -> None:
    """NumPy makes normal numbers in pairs; no glance would show that the second one was taken."""
    state: Any = np.random.get_state(legacy=False)
    np.random.set_state({**state, "has_gauss": 0, "gauss": 0.0})


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


class DrewUnseededError(Exception):
    """A sample drew from a generator that had not been seeded for it."""


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
        self._glances: dict[str, Any] = {}
        self._changed: Callable[[], tuple[_Generator, ...]] | None = None
        self._looked = False

    def seed(self, seed: int) -> None:
        """Seed the generators that have been seen drawing, from a seed of 64 bits."""
        for generator in self._seeded:
            generator.seed(seed)

    def run(self, make: Callable[[], T]) -> T:
        """Call ``make``, which calls ``seed`` before each sample, until no draw went unseeded."""
        if self._restore:
            return self._run_and_restore(make)
        if not self._glances:
            _forget_spare_normal()
            self._glances = {other.name: other.glance() for other in self._unseeded}
        return self._until_seeded(make, self._changed_at_a_glance)

    def look(self) -> None:
        """After the very first sample: begin again at once if it drew, not after a whole batch.

        Raises:
            DrewUnseededError: If it did; ``run`` takes it.
        """
        if not self._looked and self._changed is not None:
            self._looked = True
            if self._see_drawing(self._changed()):
                raise DrewUnseededError

    def _run_and_restore(self, make: Callable[[], T]) -> T:
        before = {generator.name: generator.read() for generator in _GENERATORS}

        def changed() -> tuple[_Generator, ...]:
            return tuple(
                other
                for other in self._unseeded
                if not other.same(before[other.name], other.read())
            )

        drew: tuple[_Generator, ...] = _GENERATORS  # an error may leave any of them changed
        try:
            made = self._until_seeded(make, changed)
            drew = self._seeded
            return made
        finally:
            for generator in drew:
                generator.put_back(before[generator.name])

    def _until_seeded(
        self, make: Callable[[], T], changed: Callable[[], tuple[_Generator, ...]]
    ) -> T:
        self._changed = changed
        try:
            while True:
                with contextlib.suppress(DrewUnseededError):
                    made = make()
                    if not self._see_drawing(changed()):
                        return made
        finally:
            self._changed = None

    def _changed_at_a_glance(self) -> tuple[_Generator, ...]:
        # What is seen now is compared with after the next batch: nothing draws in between.
        before, self._glances = self._glances, {g.name: g.glance() for g in self._unseeded}
        return tuple(g for g in self._unseeded if self._glances[g.name] != before[g.name])

    def _see_drawing(self, generators: tuple[_Generator, ...]) -> bool:
        self._seeded += generators
        self._unseeded = tuple(other for other in self._unseeded if other not in generators)
        return bool(generators)
