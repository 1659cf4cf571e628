"""Named parts of a dataset's own code, timed where somebody measures the worker that runs it."""

import time
from collections.abc import Callable
from threading import get_ident

from lightning_fastdata.errors import SettingsError

MOST_NAMES = 64  # guess: more than a person reads; they travel with every chunk
OTHER_STAGES = "other stages"
"""Stands for all stages after the first ``MOST_NAMES``."""

# The chunk that each thread is making. It is state of the module, since ``with stage(...)`` stands
# in code that is handed nothing of ours and has to find what its own thread is doing. Not a
# ``ContextVar``: threads of the dataset may inherit it. Not a ``threading.local``: being empty is
# what makes an unmeasured block cheap (0.25 microseconds against 0.36).
_measured: "dict[int, StageTimes]" = {}


class stage:  # noqa: N801 - read as a statement, like contextlib's
    """Give a name to a part of a dataset's code, so that reports say how long it takes.

    ::

        def __getitem__(self, index):
            with stage("read"):
                data = self.paths[index].read_bytes()
            with stage("decode"):
                return decode(data)

    The time of a block inside another counts for the inner one only. A block counts in the thread
    that makes the sample; in any other, and where nobody measures, it does nothing. Leave out a
    ``yield``: what happens elsewhere meanwhile would count too, until the end of the batch's part.

    Args:
        name: What reports call it. The first 64 names of a worker are told apart.

    Raises:
        SettingsError: ``name`` is empty or no string.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise SettingsError(
                f"stage({name!r}): wanted a name, such as 'decode'. Pass a string that is not "
                "empty."
            )
        self.name = name

    def __enter__(self) -> None:
        if _measured and (times := _measured.get(get_ident())) is not None:
            times.enter(self)

    # Three arguments, not ``*_``: packing them would be a tenth of what an unmeasured block costs.
    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if _measured and (times := _measured.get(get_ident())) is not None:
            times.leave(self)


class StageTimes:
    """How long each stage took in the chunk that one thread is making."""

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock_ns = clock_ns
        self._times_ns: dict[str, int] = {}
        self._open: list[stage] = []
        self._since_ns = 0
        self._outer: StageTimes | None = None

    def begin(self) -> None:
        """Begin a chunk: from here on, stages that this thread enters count here."""
        self._reset()
        outer = _measured.get(get_ident())
        if outer is not self:
            # A dataset may itself load by a loader that is measured in this thread.
            self._outer = outer
        _measured[get_ident()] = self

    def take(self) -> tuple[tuple[str, int], ...]:
        """End the chunk that ``begin`` began, in the same thread.

        Returns:
            Name and nanoseconds of each stage. A block that is still open, as in a generator that
            was left half way, counts until now and never again.
        """
        self._count()
        if self._outer is None:
            _measured.pop(get_ident(), None)
        else:
            _measured[get_ident()], self._outer = self._outer, None
        taken = tuple((name, spent_ns) for name, spent_ns in self._times_ns.items() if spent_ns)
        self._reset()
        return taken

    def enter(self, block: stage) -> None:
        """A block begins; the one around it stands still."""
        self._count()
        self._open.append(block)

    def leave(self, block: stage) -> None:
        """A block ends, and with it every block inside it that has not ended: a generator's."""
        opened = self._open
        if opened and opened[-1] is block:
            self._count()
            opened.pop()
        elif any(block is each for each in opened):
            self._count()
            while opened.pop() is not block:
                pass

    def _count(self) -> None:
        """Add the time since the last call to the innermost open block."""
        now_ns = self._clock_ns()
        if self._open:
            name = self._open[-1].name
            if name not in self._times_ns and len(self._times_ns) >= MOST_NAMES:
                name = OTHER_STAGES
            self._times_ns[name] = self._times_ns.get(name, 0) + now_ns - self._since_ns
        self._since_ns = now_ns

    def _reset(self) -> None:
        self._open.clear()
        # Names stay, so that no more than the first ones are ever told apart.
        for name in self._times_ns:
            self._times_ns[name] = 0
