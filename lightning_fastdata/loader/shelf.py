"""The engines of one loader: made at the first pass, kept for the next, closed with the loader."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning_fastdata.loader.engine import Engine
from lightning_fastdata.loader.inline import InlineEngine
from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.torch_engine import StreamLoader, TorchEngine, WorkerSettings
from lightning_fastdata.plan import LoaderPlan


class EngineShelf:
    """Lends an engine to each pass, so that workers outlive a pass and two passes never share one.

    Args:
        recipe: What the engines make batches with.
        plan: Which engine, and whether it is kept between passes.
    """

    def __init__(self, recipe: Recipe, plan: LoaderPlan) -> None:
        self._recipe, self._plan = recipe, plan
        self._idle: list[Engine] = []
        self._lent: list[Engine] = []
        self._idle_streams: list[StreamLoader] = []
        self._lent_streams: list[StreamLoader] = []

    @contextmanager
    def lend(self, settings: WorkerSettings) -> Iterator[Engine]:
        """Lend an engine with nothing in flight for the length of one pass."""
        engine = self._idle.pop() if self._idle else self._new_engine(settings)
        _drain(engine)
        self._lent.append(engine)
        try:
            yield engine
        except Exception:
            engine.close()  # what it still holds belongs to a pass that failed
            raise
        finally:
            if engine in self._lent:
                self._lent.remove(engine)
                self._take_back(engine)

    @contextmanager
    def lend_stream(
        self, settings: WorkerSettings, batch_size: int | None, drop_last: bool
    ) -> Iterator[StreamLoader]:
        """Lend a stream loader for the length of one pass."""
        if self._idle_streams:
            stream = self._idle_streams.pop()
        else:
            stream = StreamLoader(self._recipe, settings, batch_size, drop_last)
        self._lent_streams.append(stream)
        try:
            yield stream
        except Exception:
            stream.close()
            raise
        finally:
            if stream in self._lent_streams:
                self._lent_streams.remove(stream)
                if not self._plan.persistent_workers:
                    stream.close()
                self._idle_streams.append(stream)

    def close(self) -> None:
        """Stop all workers; a pass under way loses no batch, and starts new ones if it goes on."""
        while self._idle:
            self._idle.pop().close()
        for engine in self._lent:
            engine.stop()
        while self._idle_streams or self._lent_streams:
            (self._idle_streams or self._lent_streams).pop().close()

    def _new_engine(self, settings: WorkerSettings) -> Engine:
        if self._plan.engine == "inline":
            return InlineEngine(self._recipe, pin_memory=self._plan.pin_memory)
        return TorchEngine(self._recipe, settings)

    def _take_back(self, engine: Engine) -> None:
        if self._plan.num_workers and not self._plan.persistent_workers:
            engine.close()
        self._idle.append(engine)


def _drain(engine: Engine) -> None:
    """Throw away what a pass that was left half way had asked for; it is of no use to the next."""
    try:
        while engine.in_flight:
            engine.next()
    except Exception:  # of a batch that nobody will see; the pass that needs it meets it again
        engine.close()
