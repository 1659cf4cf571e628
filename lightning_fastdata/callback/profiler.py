"""A profiler that stands in front of the user's, and tells what it hears."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import lightning.pytorch.profilers
import pytorch_lightning.profilers
from typing_extensions import override


class Listener(Protocol):
    """Who is told. Must not raise: an exception here would end the user's run."""

    hears_all: bool
    """Whether every action matters; before training and between epochs."""
    hears: frozenset[str]
    """The actions that matter; looked into for each of some 24 a step."""

    def started(self, action: str) -> None:
        """Take note that ``action`` has started."""

    def stopped(self, action: str) -> None:
        """Take note that ``action`` is stopping."""


class ListeningProfiler(lightning.pytorch.profilers.Profiler, pytorch_lightning.profilers.Profiler):
    """Stands in the place of the user's profiler and hands everything on to it.

    Its own marks lie inside the user's, so what that profiler costs is not counted as waiting.
    """

    def __init__(self, wrapped: Any, listener: Listener) -> None:
        object.__setattr__(self, "wrapped", wrapped)
        object.__setattr__(self, "_listener", listener)

    def __getattr__(self, name: str) -> Any:
        if name in ("wrapped", "_listener"):  # not there yet: being copied or unpickled
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.wrapped, name, value)

    def __del__(self) -> None:
        """Leave the user's profiler alone: the base class would tear it down."""

    @override
    def start(self, action_name: str) -> None:
        self.wrapped.start(action_name)
        self._listener.started(action_name)

    @override
    def stop(self, action_name: str) -> None:
        self._listener.stopped(action_name)
        self.wrapped.stop(action_name)

    @override
    def profile(  # type: ignore[override]  # any context manager, whatever the user's gives
        self, action_name: str
    ) -> AbstractContextManager[Any]:
        listener = self._listener
        if action_name in listener.hears or listener.hears_all:
            return self._profile_and_listen(action_name)
        untouched: AbstractContextManager[Any] = self.wrapped.profile(action_name)
        return untouched

    @contextmanager
    def _profile_and_listen(self, action_name: str) -> Iterator[str]:
        with self.wrapped.profile(action_name):
            self._listener.started(action_name)
            try:
                yield action_name
            finally:
                self._listener.stopped(action_name)

    @override
    def summary(self) -> str:
        return str(self.wrapped.summary())

    @override
    def describe(self) -> None:
        self.wrapped.describe()

    @override
    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        self.wrapped.setup(stage=stage, local_rank=local_rank, log_dir=log_dir)

    @override
    def teardown(self, stage: str | None) -> None:
        self.wrapped.teardown(stage=stage)

    @property
    @override
    def local_rank(self) -> int:
        return int(self.wrapped.local_rank)
