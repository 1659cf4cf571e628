"""The engines of one loader: made at the first pass, kept for the next, closed with the loader."""

from collections.abc import Callable
from typing import Any

from lightning_fastdata.loader.engine import Engine, Stream
from lightning_fastdata.loader.hazards.handles import find_all_handles, warn_of_handles
from lightning_fastdata.loader.hazards.state import StateGlance, glance_at
from lightning_fastdata.loader.inline import InlineEngine
from lightning_fastdata.loader.make import PARTS, Recipe
from lightning_fastdata.loader.mend import Mender
from lightning_fastdata.loader.relay import RelayEngine
from lightning_fastdata.loader.serves import start_method_of
from lightning_fastdata.loader.torch_engine import TorchEngine, WorkerSettings
from lightning_fastdata.loader.torch_stream import StreamLoader
from lightning_fastdata.plan import LoaderPlan


class Ending:
    """Calls functions when a ``with`` block ends, with whether it failed.

    A class, not a generator with ``contextmanager``: on Python 3.10 that one keeps a generator that
    was dropped half way alive, and with it the loader and its workers.

    Args:
        calls: What to call, in this order.
    """

    def __init__(self, *calls: Callable[[bool], None]) -> None:
        self._calls = calls

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A pass that is dropped has not failed; but ctrl-C may have cut anything in two.
        failed = kind is not None and kind is not GeneratorExit
        for call in self._calls:
            call(failed)


class EngineShelf:
    """Lends an engine to each pass, so that workers outlive a pass and two passes never share one.

    Args:
        recipe: What the engines make batches with.
        plan: Which engine, and whether it is kept between passes.
        mender: Says what becomes of bad samples; ``None`` for a stream.
    """

    def __init__(self, recipe: Recipe, plan: LoaderPlan, mender: Mender | None) -> None:
        self._recipe, self._plan, self._mender = recipe, plan, mender
        self.parts = {name: getattr(recipe, name) for name in PARTS}
        """What workers have of the user's, by name."""
        self._has_looked = False
        self._idle: list[Engine] = []
        self._glances: dict[Engine | Stream, StateGlance] = {}
        self._lent: list[Engine] = []
        self._stale: list[Engine] = []
        """Of those lent, what is of no use to the next pass."""
        self._idle_streams: list[Stream] = []
        self._lent_streams: list[Stream] = []

    def take(self, settings: WorkerSettings) -> Engine:
        """Lend an engine with nothing in flight, until ``give_back``."""
        engine = self._idle.pop() if self._idle else self._new_engine(settings)
        _drain(engine)
        self._renew(engine)
        self._lent.append(engine)
        return engine

    def give_back(self, lent: Engine | Stream, failed: bool) -> None:
        """Take something back at the end of a pass; after a failure it holds nothing of worth."""
        if lent not in self._lent and lent not in self._lent_streams:
            return
        lent.watched = False
        if failed or (self._plan.num_workers and not self._plan.persistent_workers):
            lent.close()
        both: Any = ((self._lent, self._idle), (self._lent_streams, self._idle_streams))
        for out, back in both:
            if lent in out:
                out.remove(lent)
                back.append(lent)
        if lent in self._stale:
            self._stale.remove(lent)
            self._idle.remove(lent)
            self._glances.pop(lent, None)
            lent.close()

    def resize(self, plan: LoaderPlan, settings: WorkerSettings) -> bool:
        """Load by another plan from now on.

        Returns:
            Whether every pass under way follows it at once; else the next one does.
        """
        self._plan, self._stale = plan, []
        wanted = plan.num_workers, plan.prefetch_batches
        for engine in [engine for engine in self._idle if not engine.resize(*wanted)]:
            self._idle.remove(engine)
            self._glances.pop(engine, None)
            engine.close()
        for engine in self._lent:
            if engine.resize(*wanted):
                continue
            if plan.engine == "ring" and isinstance(engine, RelayEngine):
                engine.hand_over_to(self._new_engine(settings))
                self._glances[engine] = glance_at(self.parts)
            else:
                self._stale.append(engine)
        return not self._stale

    def is_stale(self, lent: Engine) -> bool:
        """Whether it goes on as it is to the end of its pass, while the plan is another by now."""
        return lent in self._stale

    def take_stream(
        self, settings: WorkerSettings, batch_size: int | None, drop_last: bool
    ) -> Stream:
        """Lend a stream loader, until ``give_back``."""
        if self._idle_streams:
            stream = self._idle_streams.pop()
        else:
            stream = self._new_stream(settings, batch_size, drop_last)
        self._renew(stream)
        self._lent_streams.append(stream)
        return stream

    def close(self) -> None:
        """Stop all workers; a pass under way loses no batch, and starts new ones if it goes on."""
        while self._idle:
            self._idle.pop().close()
        # New workers of a pass under way may not have what is changed after it either.
        self._glances = {lent: seen for lent, seen in self._glances.items() if lent in self._lent}
        for engine in self._lent:
            engine.stop()
        while self._idle_streams or self._lent_streams:
            (self._idle_streams or self._lent_streams).pop().close()

    def _renew(self, lent: Engine | Stream) -> None:
        """End workers that have the dataset as it was before the user changed it."""
        if not self._plan.num_workers:
            return
        now = glance_at(self.parts)
        if self._glances.get(lent, now) != now:
            lent.close()
        self._glances[lent] = now

    def _warn_of_handles(self, settings: WorkerSettings) -> None:
        """Say what forked workers would share; what is sent to fresh ones has to be pickled."""
        forks = start_method_of(settings.multiprocessing_context) == "fork"
        if forks and self._plan.num_workers and not self._has_looked:
            self._has_looked = True
            warn_of_handles(find_all_handles(self.parts))

    def _new_engine(self, settings: WorkerSettings) -> Engine:
        assert self._mender is not None
        if self._plan.engine == "inline":
            pin_memory = self._plan.pin_memory
            return RelayEngine(InlineEngine(self._recipe, self._mender, pin_memory=pin_memory))
        self._warn_of_handles(settings)
        if self._plan.engine == "torch":
            return TorchEngine(self._recipe, settings, self._mender)
        # Here, because elsewhere than on Linux it cannot even be imported.
        from lightning_fastdata.loader.ring.ring_engine import RingEngine

        return RingEngine(
            self._recipe,
            _ring_settings(settings, self._plan, finds_all_bad=not self._mender.raises),
            mender=self._mender,
            start_method=start_method_of(settings.multiprocessing_context),
            depth=settings.num_workers * (settings.prefetch_factor or 2),
            pin_memory=settings.pin_memory,
            timeout_s=settings.timeout,
            in_order=settings.in_order,
        )

    def _new_stream(
        self, settings: WorkerSettings, batch_size: int | None, drop_last: bool
    ) -> Stream:
        self._warn_of_handles(settings)
        if self._plan.engine != "ring":
            return StreamLoader(self._recipe, settings, batch_size, drop_last)
        from lightning_fastdata.loader.ring.ring_stream import RingStream

        return RingStream(
            self._recipe,
            _ring_settings(settings, self._plan, stream_batch_size=batch_size, drop_last=drop_last),
            start_method=start_method_of(settings.multiprocessing_context),
            prefetch=settings.prefetch_factor or 2,
            pin_memory=settings.pin_memory,
            timeout_s=settings.timeout,
            in_order=settings.in_order,
        )


def _ring_settings(settings: WorkerSettings, plan: LoaderPlan, **others: Any) -> Any:
    from lightning_fastdata.loader.ring.settings import RingSettings

    return RingSettings(
        num_workers=settings.num_workers,
        worker_init_fn=settings.worker_init_fn,
        seed=settings.seed,
        sample_timeout_s=plan.sample_timeout_s,
        timeout_follows=plan.sample_timeout_follows,
        worker_cores=plan.worker_cores,
        **others,
    )


def _drain(engine: Engine) -> None:
    """Throw away what a pass that was left half way had asked for; it is of no use to the next."""
    try:
        while engine.in_flight:
            engine.next()
    except Exception:  # of a batch that nobody will see; the pass that needs it meets it again
        engine.close()
