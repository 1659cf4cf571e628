"""The hook of a loader that there is no data for."""

from types import CodeType
from typing import Any, NoReturn

from lightning_fastdata.errors import DatasetError


class _LightningsOwn:
    """Equal to any code. Lightning calls a hook unwritten whose code is that of its own base class.

    There are two such base classes, one for each of Lightning's names, so one code would not do.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CodeType)

    def __hash__(self) -> int:
        return 0


class AbsentLoader:
    """Stands in for a loader hook, so that Lightning runs no loop, and a person gets an error.

    Args:
        kind: ``train``, ``val``, ``test`` or ``predict``.
    """

    __code__ = _LightningsOwn()

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Say which dataset is missing."""
        raise DatasetError(
            f"a {self.kind} loader was asked for, but there is no {self.kind}_dataset, wanted a "
            f"dataset for it. Pass {self.kind}_dataset=..., or override "
            f"build_{self.kind}_dataset()."
        )
