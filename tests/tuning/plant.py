"""A loader and a training loop in virtual time: what a controller's windows would show.

Fluid: batches flow into a queue and out of it, in pieces of a fifth of a second. Nothing sleeps.
The truth is not the controller's own prediction: workers also slow each other down a little, and
threads collide before the cores are full on average.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from lightning_fastdata.tuning.control.controller import Controller
from lightning_fastdata.tuning.control.window import Window
from lightning_fastdata.tuning.forecast import usual_prefetch
from lightning_fastdata.tuning.replay import BatchCost, Span, service_factor

PIECE_S = 0.2
WINDOW_S = 3.0
STARTING_S = 0.1  # until new workers give batches
ROWS = 32
COSTS_SHOWN = 96

At = Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class World:
    """What is true of a training run, as functions of the seconds since its start."""

    cores: int
    work_s: At
    """Of a worker that is not disturbed, for a batch."""
    step_s: At
    free_cores: At
    cpu_fraction: float = 1.0
    host_cores: float = 0.1
    spread: float = 0.1
    """Of a batch's work: the deviation of its logarithm."""
    slow_share: float = 0.0
    """Share of the batches that take ten times as long."""
    bandwidth_workers: float = math.inf
    """Workers' worth of work that the storage gives at once, however many ask."""
    loop_s: float = 0.0
    """Of the training process, to take a batch in; no number of workers changes it."""
    tells_core_wait: bool = True
    pass_s: float = math.inf
    """From the start of a pass to the next one's."""


def world(
    *,
    cores: int,
    work_s: float | At,
    step_s: float | At,
    free_cores: At | None = None,
    **other: float | bool,
) -> World:
    """Make a world of constants and functions."""
    return World(
        cores=cores,
        work_s=_at(work_s),
        step_s=_at(step_s),
        free_cores=_at(float(cores)) if free_cores is None else free_cores,
        **other,  # type: ignore[arg-type]
    )


@dataclass
class Flow:
    """What happened in some time."""

    wall_s: float = 0.0
    batches: float = 0.0
    made: float = 0.0
    stall_s: float = 0.0
    work_s: float = 0.0
    cpu_s: float = 0.0
    host_s: float = 0.0
    ready: float = 0.0

    def __add__(self, other: "Flow") -> "Flow":
        return Flow(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})


@dataclass
class Plant:
    """Training that goes on with the number of workers that it is told to."""

    world: World
    num_workers: int
    seed: int = 0
    shows_costs: bool = True
    now_s: float = 0.0
    queue: float = 0.0
    starts_at_s: float = 0.0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def resize(self, num_workers: int) -> None:
        """Go on with another number; more workers need a moment."""
        if num_workers > self.num_workers:
            self.starts_at_s = self.now_s + STARTING_S
        self.num_workers = num_workers

    def window(self) -> Window:
        """Train for one window: three seconds, and three batches at least."""
        began_s, workers = self.now_s, self.num_workers
        is_new_pass = self.now_s % self.world.pass_s < WINDOW_S if began_s else True
        if is_new_pass:
            self.queue = 0.0
        flow = Flow()
        while flow.wall_s < WINDOW_S - PIECE_S / 2 or flow.batches < 3:
            flow += self._piece()
        return self._shown(flow, began_s, workers, is_new_pass)

    def _piece(self) -> Flow:
        true = self.world
        work_s = true.work_s(self.now_s) * self._random.lognormvariate(0.0, 0.3 * true.spread)
        work_s *= 1.0 + 9.0 * true.slow_share * self._random.choice((0.0, 2.0))
        step_s, cores = true.step_s(self.now_s), true.free_cores(self.now_s)
        self.now_s += PIECE_S
        step_s += true.loop_s
        if self.num_workers == 0:
            batches = PIECE_S / (step_s + work_s)
            cpu_s = batches * work_s * true.cpu_fraction
            host_s = batches * step_s * true.host_cores
            stall_s = batches * (work_s + true.loop_s)
            return Flow(PIECE_S, batches, batches, stall_s, batches * work_s, cpu_s, host_s)
        return self._piece_with_workers(work_s, step_s, cores)

    def _piece_with_workers(self, work_s: float, step_s: float, cores: float) -> Flow:
        true, workers = self.world, self.num_workers
        if self.now_s <= self.starts_at_s:
            workers = max(1, workers // 2)
        work_s *= self._crowd(workers)
        needed = work_s / step_s
        stretch = service_factor(
            num_workers=workers,
            cpu_fraction=true.cpu_fraction,
            cores=0.95 * cores,
            busy_elsewhere=min(true.host_cores, 0.9 * cores),
            needed=needed,
        )
        queued = max(1.0, workers / true.bandwidth_workers)
        took_s = (work_s * queued + 1e-4) * stretch
        supply, demand = workers / took_s, 1.0 / step_s
        depth = workers * usual_prefetch("ring", workers)
        # Batches differ: a queue that is nearly balanced runs empty now and then.
        deviation = true.spread + 3.0 * true.slow_share
        supply_felt = supply / (1.0 + deviation / (2.0 * depth))
        if supply_felt >= demand:
            batches = made = PIECE_S * demand
            room = depth - self.queue
            made = max(0.0, min(PIECE_S * supply, batches + room))
            self.queue += made - batches
            stall_s = 0.0
        else:
            batches = min(PIECE_S * demand, self.queue + PIECE_S * supply_felt)
            made = PIECE_S * supply_felt
            self.queue = max(0.0, self.queue + made - batches)
            stall_s = PIECE_S - batches * step_s
        stall_s = min(PIECE_S, max(0.0, stall_s) + batches * true.loop_s)
        return Flow(
            wall_s=PIECE_S,
            batches=batches,
            made=made,
            stall_s=stall_s,
            work_s=made * took_s,
            cpu_s=made * work_s * true.cpu_fraction,
            host_s=batches * step_s * true.host_cores,
            ready=batches if not stall_s else 0.0,
        )

    def _crowd(self, workers: int) -> float:
        """Caches and memory are shared."""
        return 1.0 + 0.003 * workers * self.world.cpu_fraction

    def _shown(self, flow: Flow, began_s: float, workers: int, is_new_pass: bool) -> Window:
        true = self.world
        batches = max(1, round(flow.batches))
        mean_s = flow.work_s / max(1e-9, flow.made)
        undisturbed_s = true.work_s(began_s) * self._crowd(workers) + 1e-4
        wait_s = max(0.0, flow.work_s - flow.made * undisturbed_s) if workers else 0.0
        free = true.free_cores(began_s)
        if flow.cpu_s + flow.host_s < 0.85 * free * flow.wall_s:
            wait_s = 0.0  # what was slow was not the cores
        return Window(
            began_ns=round(began_s * 1e9),
            ended_ns=round(self.now_s * 1e9),
            num_workers=workers,
            batches=batches,
            busy_ns=round((flow.wall_s - flow.stall_s) * 1e9),
            stall_ns=round(flow.stall_s * 1e9),
            ready_fraction=min(1.0, flow.ready / max(1e-9, flow.batches)),
            costs=self._costs(mean_s, min(batches, COSTS_SHOWN)) if self.shows_costs else (),
            work_ns=round(mean_s * batches * 1e9),
            cpu_ns=round(flow.cpu_s * 1e9),
            core_wait_ns=round(wait_s * 1e9) if true.tells_core_wait else None,
            host_cores=flow.host_s / flow.wall_s,
            is_new_pass=is_new_pass,
        )

    def _costs(self, mean_s: float, count: int) -> tuple[BatchCost, ...]:
        true, draw = self.world, self._random
        costs = []
        for _ in range(count):
            took_s = mean_s * math.exp(draw.gauss(-(true.spread**2) / 2, true.spread))
            if true.slow_share:
                is_slow = draw.random() < true.slow_share
                took_s *= (10.0 if is_slow else 1.0) / (1.0 + 9.0 * true.slow_share)
            costs.append(BatchCost(spans=(Span(ROWS, round(took_s * 1e9)),)))
        return tuple(costs)


@dataclass(frozen=True)
class Run:
    """What came of a run."""

    windows: tuple[Window, ...]
    workers: tuple[int, ...]

    def stall_fraction_after(self, began_s: float, until_s: float = math.inf) -> float:
        """Share of the training time that was stall."""
        some = [w for w in self.windows if began_s * 1e9 <= w.began_ns < until_s * 1e9]
        stall_ns = sum(window.stall_ns for window in some)
        return stall_ns / max(1, stall_ns + sum(window.busy_ns for window in some))

    @property
    def batches_per_s(self) -> float:
        """Over all of it."""
        return sum(window.batches for window in self.windows) / (self.windows[-1].ended_ns / 1e9)


def windows_of(plant: Plant, seconds: float) -> Iterator[Window]:
    """Train for some time."""
    while plant.now_s < seconds:
        yield plant.window()


def run_with(controller: Controller, plant: Plant, seconds: float) -> Run:
    """Train while a controller looks on, and do what it says."""
    windows, workers = [], []
    for window in windows_of(plant, seconds):
        change = controller.see(window)
        windows.append(replace(window, costs=()))
        workers.append(window.num_workers)
        if change is not None:
            plant.resize(change.after)
    return Run(tuple(windows), tuple(workers))


def run_static(true: World, num_workers: int, seconds: float) -> Run:
    """Train with one number of workers."""
    windows = tuple(windows_of(Plant(true, num_workers, shows_costs=False), seconds))
    return Run(windows, tuple(window.num_workers for window in windows))


def best_static(true: World, most: int, seconds: float) -> tuple[int, Run]:
    """Train with some numbers, and give the fewest workers that are about as fast as any."""
    tried = sorted(
        {1, 2, 3, 5, 7, *(round(most * k / 8) for k in range(1, 9))} & set(range(1, most + 1))
    )
    runs = {num_workers: run_static(true, num_workers, seconds) for num_workers in tried}
    fastest = max(run.batches_per_s for run in runs.values())
    return next((n, r) for n, r in runs.items() if r.batches_per_s >= 0.99 * fastest)


def _at(value: float | At) -> At:
    return value if callable(value) else lambda _: value
