"""A training loader in use, and what it comes to: a decision that the next run can start from."""

import weakref
from collections.abc import Callable
from typing import Any, Literal

from lightning_fastdata.dataset.views import base_of
from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.tuning.fingerprint import PlanKey
from lightning_fastdata.tuning.remembered import Remembered

LEAST_BATCHES, LEAST_S = 100, 10.0  # guess: some windows of the controller, after its start


def _gone() -> None:
    return None


class Used:
    """Follows one loader without keeping it, and so its workers, alive.

    Args:
        key: What its plan is remembered by.
        loader: The loader.
        batch_bytes: Of one batch; ``None`` is not known.
        before: The one before it under the same name, in the same run: epochs that are short, each
            with a loader of its own, prove a number together.
    """

    def __init__(
        self,
        key: PlanKey,
        loader: FastDataLoader,
        batch_bytes: int | None,
        before: "Used | None" = None,
    ) -> None:
        self.key = key
        self._use_before = (0, 0.0)
        if before is not None and before.key == key and before.adapts():
            self._use_before = before.use()
        base = base_of(loader.dataset)
        self.description = f"{len(loader.dataset):,} samples of {type(base).__qualname__}"  # type: ignore[arg-type]  # streams have no key
        self._loader: Callable[[], FastDataLoader | None] = weakref.ref(loader)
        self._pace, self._batch_bytes = loader.pace, batch_bytes
        self._plan, self._window = loader.plan, loader.newest_window

    def __getstate__(self) -> dict[str, Any]:
        """Leave the loader behind: a data module is sent to the ranks that it starts."""
        self._look()
        return vars(self) | {"_loader": _gone}

    def plan(self) -> LoaderPlan:
        """Give the plan in use now, or the last one known of a loader that is gone."""
        self._look()
        return self._plan

    def adapts(self) -> bool:
        """Whether training may change the number of workers, so that it says what is needed."""
        return self.plan().max_workers is not None

    def is_proven(self) -> bool:
        """Whether it was used for long enough to have come to something."""
        steps, used_s = self.use()
        return self.adapts() and steps >= LEAST_BATCHES and used_s >= LEAST_S

    def use(self) -> tuple[int, float]:
        """Give the batches and the seconds that it was used for, with those before it."""
        steps, used_s = self._use_before
        return steps + self._pace.steps, used_s + self._pace.used_s()

    def decision(self, source: Literal["run", "checkpoint", "loader"], saved_on: str) -> Remembered:
        """Say how it loads now, and what came of it.

        Args:
            source: Who the decision will have come from when it is looked up.
            saved_on: The day, by ISO 8601.
        """
        plan, window = self.plan(), self._window
        if window is not None and window.num_workers != plan.num_workers:
            window = None  # it changed since
        step_time_s = self._pace.median_s() if window is None else window.step_ns / 1e9
        return Remembered(
            engine=plan.engine,
            num_workers=plan.num_workers,
            prefetch_batches=plan.prefetch_batches,
            stall_fraction=None if window is None else window.stall_fraction,
            step_time_s=step_time_s,
            batch_bytes=self._batch_bytes,
            source=source,
            saved_on=saved_on,
        )

    def _look(self) -> None:
        loader = self._loader()
        if loader is not None:
            self._plan, self._window = loader.plan, loader.newest_window
