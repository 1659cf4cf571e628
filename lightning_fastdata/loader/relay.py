"""An engine in the training process from which another may take over in the middle of a pass."""

from lightning_fastdata.loader.engine import Engine, HostBatch, Request


class RelayEngine:
    """Makes batches as the engine that it was given does, until there is a successor.

    Args:
        engine: Makes the batches, none of them ahead.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._successor: Engine | None = None

    @property
    def watched(self) -> bool:
        """As the engine's."""
        return self._engine.watched

    @watched.setter
    def watched(self, watched: bool) -> None:
        self._engine.watched = watched
        if self._successor is not None:
            self._successor.watched = watched

    @property
    def depth(self) -> int:
        """As that of whoever makes the next batch: a successor is asked for all at once."""
        if self._successor is not None and not self._engine.in_flight:
            return self._successor.depth
        return self._engine.depth

    @property
    def in_flight(self) -> int:
        """As the engine's."""
        return self._engine.in_flight

    def hand_over_to(self, successor: Engine) -> None:
        """Let another engine make what is asked for from now on."""
        successor.watched = self._engine.watched
        self._successor = successor

    def submit(self, request: Request) -> None:
        """Ask for one more batch; the first one after a hand-over is the successor's."""
        if self._successor is not None and not self._engine.in_flight:
            self._engine.close()
            self._engine, self._successor = self._successor, None
        self._engine.submit(request)

    def next(self) -> HostBatch:
        """Wait for the oldest batch."""
        return self._engine.next()

    def resize(self, num_workers: int, depth: int) -> bool:
        """Have so many workers from now on, where whoever makes the next batch can."""
        if self._engine.resize(num_workers, depth):
            self._successor = None  # without it there was nothing to change after all
            return True
        return self._successor is not None and self._successor.resize(num_workers, depth)

    def stop(self) -> None:
        """Stop every worker; what was asked for is still made."""
        self._engine.stop()

    def close(self) -> None:
        """Stop every worker and forget what was asked for."""
        self._engine.close()
