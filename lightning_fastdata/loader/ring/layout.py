"""Where the rows of a batch lie: known from one sample, so every worker finds it out alone.

A layout is written as text, the same for equal layouts, which travels with each result: the loop's
process builds the batch from it without ever calling the dataset.
"""

import ast
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch

from lightning_fastdata.loader.ring.memory import aligned, size_of

Node = tuple[Any, ...]
"""``("rows", dtype, shape, class)``, ``("texts", as_tuple)``, ``("list" | "tuple", nodes)``,
``("dict" | "OrderedDict", ((key, node), ...))`` or ``("named", module, name, nodes)``. The classes
of the samples are in it because torch refuses, or converts, batches of unlike ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One leaf of the samples: a row of a tensor each, or a text each."""

    kind: Literal["rows", "texts", "texts in a tuple"]
    dtype: torch.dtype = torch.uint8
    shape: tuple[int, ...] = ()
    """Of one sample."""

    def collected(self, texts: list[Any]) -> Any:
        """A batch's texts as torch hands them over."""
        return tuple(texts) if self.kind == "texts in a tuple" else texts


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a batch of some size lies in its slot."""

    offsets: tuple[int, ...]
    """Bytes, one for each column; texts have none and stand at 0."""
    size: int
    """Bytes in all."""


class Layout:
    """The structure of one kind of batch.

    Args:
        text: As ``describe`` gives it.
    """

    def __init__(self, text: str) -> None:
        self.columns: list[Column] = []
        self._build = self._read(ast.literal_eval(text))
        self._places: dict[int, Place] = {}

    def place(self, batch_size: int) -> Place:
        """Say where the columns of a batch of ``batch_size`` samples lie."""
        place = self._places.get(batch_size)
        if place is None:
            offsets, end = [], 0
            for column in self.columns:
                offsets.append(end)
                if column.kind == "rows":
                    end = aligned(end + size_of(column.dtype, (batch_size, *column.shape)))
            place = Place(offsets=tuple(offsets), size=end)
            if len(self._places) > 16:  # guess: a full batch and an epoch's last are two
                self._places.clear()
            self._places[batch_size] = place
        return place

    def build(self, leaves: Sequence[Any]) -> Any:
        """Put the collated columns together as torch's default collation does."""
        return self._build(leaves)

    def _read(self, node: Node) -> Callable[[Sequence[Any]], Any]:
        kind = node[0]
        if kind in ("rows", "texts"):
            number = len(self.columns)
            self.columns.append(_column(node))
            return lambda leaves: leaves[number]
        if kind in ("list", "tuple"):
            parts = [self._read(part) for part in node[1]]
            return lambda leaves: [part(leaves) for part in parts]
        if kind == "named":
            fields = [self._read(part) for part in node[3]]
            # Looked up each time: a notebook's cell may define the class anew.
            return lambda leaves: class_at(node[1], node[2])(*(part(leaves) for part in fields))
        of_dict: Any = {"dict": dict, "OrderedDict": OrderedDict}[kind]
        items = [(key, self._read(part)) for key, part in node[1]]
        return lambda leaves: of_dict((key, part(leaves)) for key, part in items)


@lru_cache(maxsize=64)
def layout_of(text: str) -> Layout:
    """The layout that a text describes."""
    return Layout(text)


def class_at(module: str, name: str) -> Any:
    """The class of that name, in a module that this process has imported."""
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _column(node: Node) -> Column:
    if node[0] == "texts":
        return Column(kind="texts in a tuple" if node[1] else "texts")
    return Column(kind="rows", dtype=getattr(torch, node[1]), shape=node[2])
