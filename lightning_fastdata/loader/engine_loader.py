"""A ``DataLoader`` with engines of ours: they are resized and stopped here."""

from functools import partial
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from lightning_fastdata.loader.adapting import Adaptation, AdaptingEngine
from lightning_fastdata.loader.agree import ranks_have_met
from lightning_fastdata.loader.controlled import adaptation_of
from lightning_fastdata.loader.engine import Engine
from lightning_fastdata.loader.exposure import device_of, exposure_of
from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.mend import Mender
from lightning_fastdata.loader.resized import (
    WorkerWishes,
    check_handover,
    check_resize,
    prefetch_wish,
    resized_plan,
)
from lightning_fastdata.loader.serves import name_of_context, start_method_of
from lightning_fastdata.loader.shelf import EngineShelf
from lightning_fastdata.loader.torch_engine import worker_settings_of
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.trace.changes import PlanChange
from lightning_fastdata.tuning.control.window import Window


class EngineLoader(DataLoader[Any]):
    """The part of ``FastDataLoader`` that is about its workers.

    Its constructor is torch's; afterwards ``_own`` has to be called.
    """

    plan: LoaderPlan
    deliver: Any
    max_stall_fraction: float
    _mender: Mender | None
    _shelf: Any = None  # torch's constructor already sets _iterator, below
    _adaptation: Adaptation | None = None
    """Says how many workers there are to be while training runs; ``None`` leaves them as they are.
    """
    _context: Any = None

    def _own(
        self,
        recipe: Recipe,
        plan: LoaderPlan,
        prefetch_factor: int | None,
        persistent_workers: bool | Literal["auto"],
    ) -> None:
        """Get ready to make engines, once ``_mender`` and ``max_stall_fraction`` are known.

        Args:
            recipe: What they make batches with.
            plan: How they are to load.
            prefetch_factor: Batches in flight a worker, where the user fixed that; it is not what
                Lightning tells a loader that it makes anew.
            persistent_workers: Whether workers, should there be some one day, live on between
                passes.
        """
        self._shelf = EngineShelf(recipe, plan, self._mender)
        self._adaptation = adaptation_of(plan, recipe, self.max_stall_fraction)
        self._prefetch_wish = prefetch_wish(plan, prefetch_factor)
        has_workers = plan.num_workers > 0
        self._persistent_wish = (
            plan.persistent_workers if has_workers else persistent_workers is not False
        )

    def check_worker_number_rationality(self) -> None:
        """Let torch warn of more workers than cores, but not of those that a plan weighed."""
        if self.plan.max_workers is None and not self.plan.candidates:
            super().check_worker_number_rationality()

    def resize(self, num_workers: int) -> None:
        """Have so many worker processes from now on; not one byte of the batches changes.

        Workers of the ring come and go at once, also in the middle of a pass, and a pass without
        workers goes on with them. Torch's own workers, and having none again, begin with the next
        pass. ``plan``, ``num_workers`` and ``prefetch_factor`` follow.

        Call it in the thread that takes the batches. A loader with ``num_workers="auto"`` goes on
        from there: it may change the number again when training shows that it needs another.

        Args:
            num_workers: 0 or more; 0 loads in this process.

        Raises:
            SettingsError: If there cannot be so many: an ``IterableDataset`` would give data twice,
                ``engine`` may ask for something else, and without workers so far only the ring
                can take over.
        """
        self._resized(num_workers, f"resized from {self.num_workers} workers")

    def _resized(self, num_workers: int, why: str) -> bool:
        """Have so many workers; say whether passes under way follow at once."""
        wishes = WorkerWishes(
            engine=getattr(self, "engine", "auto"),
            persistent_workers=self._persistent_wish,
            prefetch_factor=self._prefetch_wish,
            sample_timeout_s=getattr(self, "sample_timeout_s", "auto"),
            start_method=name_of_context(self.multiprocessing_context),
        )
        check_resize(num_workers, wishes, self.dataset)
        if num_workers == self.num_workers:
            return True
        plan = resized_plan(self.plan, num_workers, wishes, why=why)
        self.plan, self.num_workers = plan, num_workers
        self.prefetch_factor = plan.prefetch_batches // num_workers if num_workers else None
        # Torch lets nobody set it later: its own iterator would go on with the workers that it has.
        vars(self)["persistent_workers"] = plan.persistent_workers
        self.multiprocessing_context = self.multiprocessing_context  # is checked with workers only
        return bool(self._shelf.resize(plan, worker_settings_of(self)))

    def _adapted(self, num_workers: int, why: str) -> bool:
        """Do what the controller says; nobody has asked for workers, so they may do no harm."""
        if not self.num_workers:
            parts = {**self._shelf.parts, "worker_init_fn": self.worker_init_fn}
            check_handover(num_workers, parts, start_method_of(self.multiprocessing_context))
        return self._resized(num_workers, why)

    @property
    def changes(self) -> tuple[PlanChange, ...]:
        """How the number of workers was changed while training ran, newest last."""
        return () if self._adaptation is None else self._adaptation.changes

    def why_no_change(self, since_ns: int = 0) -> str | None:
        """Say why the number of workers stays as it is though training waits.

        Args:
            since_ns: What was seen before it, by ``time.perf_counter_ns``, does not count.

        Returns:
            One sentence about the newest seconds; ``None``: training hardly waited in them, a
            change is being tried, or the number is not, or no longer, the loader's to change.
        """
        adaptation = self._adaptation
        if adaptation is None or adaptation.newest is None:
            return None
        return adaptation.why_no_change if adaptation.newest.ended_ns >= since_ns else None

    def _workers_of(self, lent: Engine) -> int | None:
        """How many make a pass's batches now; ``None`` where the loader has other ones by now."""
        return None if self._shelf.is_stale(lent) else self.num_workers

    def _lend_engine(self) -> Engine:
        """An engine for a pass, with one before it, if need be, that keeps its workers right."""
        if self._adaptation is not None and ranks_have_met():
            self._adaptation.join(self.num_workers)
        lent: Engine = self._shelf.take(worker_settings_of(self))
        if self._adaptation is None:
            return lent
        return AdaptingEngine(
            lent,
            self._adaptation,
            workers=partial(self._workers_of, lent),
            resize=self._adapted,
            exposure=exposure_of(device_of(self.deliver, pin_memory=self.pin_memory)),
        )

    def _give_back(self, lent: Engine, failed: bool) -> None:
        if isinstance(lent, AdaptingEngine):
            lent.end(failed)
            lent = lent.engine
        self._shelf.give_back(lent, failed)

    @property
    def newest_window(self) -> Window | None:
        """What the last seconds of training showed of this loader; ``None``: not known."""
        return None if self._adaptation is None else self._adaptation.newest

    def close(self) -> None:
        """Stop all workers; the next pass starts new ones."""
        if self._shelf is not None:
            self._shelf.close()

    @property
    def multiprocessing_context(self) -> Any:
        """How workers are started; kept while there are none, since some may come."""
        return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: Any) -> None:
        if self.num_workers:
            torchs: Any = DataLoader.multiprocessing_context
            torchs.fset(self, context)
            context = torchs.fget(self)
        elif isinstance(context, str):
            context = torch.multiprocessing.get_context(context)  # Lightning expects no name
        self._context = context

    @property
    def _iterator(self) -> None:
        """Lightning sets this to ``None`` when it is done with a loader: then the workers stop."""
        return None

    @_iterator.setter
    def _iterator(self, value: object) -> None:
        if value is None:
            self.close()

    def __del__(self) -> None:
        self.close()
