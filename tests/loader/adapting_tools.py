"""A loop, an engine and a controller for adapting engines, whose clock moves only when told to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lightning_fastdata.loader.adapting import Adaptation, AdaptingEngine
from lightning_fastdata.loader.engine import HostBatch, Request
from lightning_fastdata.loader.exposure import Exposure, HostExposure
from lightning_fastdata.trace.changes import PlanChange
from lightning_fastdata.trace.work import ChunkTimes
from lightning_fastdata.tuning.control.window import Window

MS = 1_000_000
S = 1_000_000_000
PLAIN_WINDOW = Window(
    began_ns=0,
    ended_ns=1,
    num_workers=1,
    batches=1,
    busy_ns=1,
    stall_ns=0,
    ready_fraction=1.0,
    costs=(),
    work_ns=0,
    cpu_ns=0,
    core_wait_ns=None,
)


@dataclass
class FakeClock:
    now_ns: int = 0

    def __call__(self) -> int:
        return self.now_ns


def change_of(window: Window, after: int) -> PlanChange:
    return PlanChange(
        at_ns=window.ended_ns,
        kind="grow" if after > window.num_workers else "shrink",
        before=window.num_workers,
        after=after,
        reason=f"because of {after}",
        stall_fraction=window.stall_fraction,
    )


class FakeControls:
    """Wants what it was told to, one answer a window."""

    def __init__(self, *answers: int | None) -> None:
        self.windows: list[Window] = []
        self.changes: tuple[PlanChange, ...] = ()
        self.why_not: str | None = None
        self._answers = list(answers)

    def see(self, window: Window) -> PlanChange | None:
        self.windows.append(window)
        after = self._answers.pop(0) if self._answers else None
        if after is None:
            return None
        change = change_of(window, after)
        self.changes += (change,)
        return change


class Alone:
    """This rank's own wish counts."""

    reason: str | None = None

    def propose(self, num_workers: int, stall_fraction: float) -> int:
        return num_workers


def chunk(began_ns: int, ended_ns: int, *, core_wait_ns: int | None = 0, **more: Any) -> ChunkTimes:
    values: dict[str, Any] = {
        "worker": 0,
        "samples": 4,
        "cpu_ns": (ended_ns - began_ns) // 2,
        "page_faults": 0,
        "read_bytes": 0,
        **more,
    }
    return ChunkTimes(began_ns=began_ns, ended_ns=ended_ns, core_wait_ns=core_wait_ns, **values)


@dataclass
class FakeEngine:
    """Makes the next batch within so many nanoseconds; an arrival in the past is a ready one."""

    clock: FakeClock
    wait_ns: int = 0
    arrived_ago_ns: int | None = None
    times: Sequence[ChunkTimes] = ()
    watched: bool = False
    depth: int = 4
    in_flight: int = 4
    number: int = 0
    error: Exception | None = None
    asked: list[Request] = field(default_factory=list)

    def submit(self, request: Request) -> None:
        self.asked.append(request)

    def next(self) -> HostBatch:
        if self.error is not None:
            raise self.error
        arrived_ns = self.clock.now_ns + self.wait_ns
        if self.arrived_ago_ns is not None:
            arrived_ns = self.clock.now_ns - self.arrived_ago_ns
        self.clock.now_ns += self.wait_ns
        self.number += 1
        return HostBatch(
            request=request_of(self.number), data=None, times=self.times, arrived_ns=arrived_ns
        )

    def resize(self, num_workers: int, depth: int) -> bool:
        return True

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def request_of(number: int) -> Request:
    return Request(
        number=number,
        epoch=0,
        indices=np.arange(4),
        seeds=np.arange(4, dtype=np.uint64),
        batch_seed=0,
    )


class Loop:
    """One loader's training loop.

    Args:
        controls: What its adaptation asks.
        num_workers: At the start.
        exposure: Tells stalls from waits.
        agrees: How ranks agree.
        follows: Whether passes under way follow a change at once.
    """

    def __init__(
        self,
        controls: Any,
        *,
        num_workers: int = 2,
        exposure: Exposure | None = None,
        agrees: Any = None,
        follows: bool = True,
    ) -> None:
        self.clock = FakeClock(now_ns=5)
        self.engine = FakeEngine(self.clock)
        self.num_workers = num_workers
        self.resized: list[tuple[int, str]] = []
        self.adaptation = Adaptation(
            lambda _: controls, lambda _: Alone() if agrees is None else agrees
        )
        self._exposure, self._follows = exposure or HostExposure(), follows
        self.adapting: AdaptingEngine
        self.begin_pass()

    def begin_pass(self, workers: Callable[[], int | None] | None = None) -> AdaptingEngine:
        self._stale = False
        self.adapting = AdaptingEngine(
            self.engine,
            self.adaptation,
            workers=workers or (lambda: None if self._stale else self.num_workers),
            resize=self._resize,
            exposure=self._exposure,
            clock_ns=self.clock,
        )
        return self.adapting

    def _resize(self, num_workers: int, why: str) -> None:
        self.num_workers = num_workers
        self.resized.append((num_workers, why))
        self._stale = not self._follows

    def steps(self, count: int, *, step_ns: int, wait_ns: int = 0, ready: bool = False) -> None:
        """So many batches, each waited for and then trained on."""
        self.engine.wait_ns = wait_ns
        self.engine.arrived_ago_ns = 1 if ready else None
        for _ in range(count):
            self.adapting.next()
            self.clock.now_ns += step_ns


def want_two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every loader's controller want two workers, after the loader's second batch."""
    control_loaders(monkeypatch, lambda: FakeControls(2))


def control_loaders(monkeypatch: pytest.MonkeyPatch, controls: Callable[[], FakeControls]) -> None:
    """Let every batch after the first end a window, which controllers made by ``controls`` see."""
    monkeypatch.setattr(
        "lightning_fastdata.loader.meter.Meter.is_due",
        lambda self, now_ns, is_first: self._batches > 0,
    )
    monkeypatch.setattr("lightning_fastdata.loader.meter.FIRST_NS", 0)
    monkeypatch.setattr(
        "lightning_fastdata.loader.engine_loader.adaptation_of",
        lambda plan, recipe, share: Adaptation(lambda _: controls(), lambda _: Alone()),
    )
