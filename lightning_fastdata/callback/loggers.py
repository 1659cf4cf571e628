"""Times what a trainer's loggers take to log, and the trainer to save a checkpoint."""

import threading
from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any

from lightning_fastdata.trace import Part

_LOGGING = ("log_metrics", "save")
_SAVING = ("save_checkpoint",)


class LoggerClock:
    """Says when the loggers of one trainer log, and when it saves, for as long as a fit lasts.

    Each of these functions is covered by an attribute of the same name on the one object, which
    calls it; ``put_back`` takes the attributes away. Nothing gentler sees these calls: Lightning
    has no hook and no profiler action around logging, and none around saving before 2.5. Classes
    are left alone, because other trainers may share them. What a logger is told directly
    (``logger.experiment.add_image(...)``) is not seen. Only calls of the thread that trains count.

    Args:
        started: Called before a logger logs or a checkpoint is saved, with which of the two.
        stopped: Called afterwards, also where that failed. Neither may raise.
    """

    def __init__(self, started: Callable[[Part], None], stopped: Callable[[], None]) -> None:
        self._started = started
        self._stopped = stopped
        self._covered: list[tuple[Any, str, Callable[..., Any]]] = []

    def put_into(self, trainer: Any) -> None:
        """Time the loggers that ``trainer`` has now, and its checkpoints."""
        self._cover(trainer, _SAVING, Part.CHECKPOINT)
        for logger in {id(logger): logger for logger in trainer.loggers}.values():
            self._cover(logger, _LOGGING, Part.LOGGING)

    def put_back(self) -> None:
        """Leave everything as it was found, but for what somebody else has covered since."""
        for owner, name, timed in self._covered:
            if vars(owner).get(name) is timed:
                del vars(owner)[name]
        self._covered = []

    def _cover(self, owner: Any, names: tuple[str, ...], part: Part) -> None:
        for name in names:
            own = getattr(owner, "__dict__", None)
            # Not a Mock, which makes its functions up, and nothing that somebody covers already.
            is_plain = isinstance(getattr(type(owner), name, None), FunctionType)
            if not is_plain or not isinstance(own, dict) or name in own:
                continue
            timed = self._timed(getattr(owner, name), part)
            own[name] = timed  # not setattr: a logger may hand that on to its service
            self._covered.append((owner, name, timed))

    def _timed(self, call: Callable[..., Any], part: Part) -> Callable[..., Any]:
        trains = threading.get_ident()

        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != trains:
                return call(*args, **kwargs)
            self._started(part)
            try:
                return call(*args, **kwargs)
            finally:
                self._stopped()

        return timed
