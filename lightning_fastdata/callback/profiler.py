"""A profiler that stands in front of the user's, and tells what it hears."""

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Protocol

import lightning.pytorch.profilers
import pytorch_lightning.profilers
from typing_extensions import override

_DO_NOTHING = (
    lightning.pytorch.profilers.PassThroughProfiler,
    pytorch_lightning.profilers.PassThroughProfiler,
)


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
        # Where the user has none, Lightning's own does nothing, at a microsecond for each of some
        # 24 actions a step: that is saved, and pays for most of listening (bench_profiler).
        object.__setattr__(self, "_profile", _make_profile(wrapped))

    def __getattr__(self, name: str) -> Any:
        if name in ("wrapped", "_listener", "_profile"):  # not there yet: being copied or unpickled
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
            return _Heard(self._profile(action_name), listener, action_name)
        untouched: AbstractContextManager[Any] = self._profile(action_name)
        return untouched

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


class _Heard:
    """What the wrapped profiler gives for an action, and inside it a word to the listener.

    A class: ``contextlib.contextmanager`` takes twice as long.
    """

    __slots__ = ("_action", "_inner", "_listener")

    def __init__(self, inner: AbstractContextManager[Any], listener: Listener, action: str) -> None:
        self._inner = inner
        self._listener = listener
        self._action = action

    def __enter__(self) -> Any:
        entered = self._inner.__enter__()
        self._listener.started(self._action)
        return entered

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._listener.stopped(self._action)
        return self._inner.__exit__(kind, error, traceback)


def _make_profile(wrapped: Any) -> Any:
    return nullcontext if type(wrapped) in _DO_NOTHING else wrapped.profile
