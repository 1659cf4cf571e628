"""Ten minutes of simulated training with a controller, against the best fixed number of workers."""

import math
from collections.abc import Callable
from functools import cache

import pytest
from plant import Plant, Run, World, best_static, run_with, world

from lightning_fastdata.trace.changes import PlanChange
from lightning_fastdata.tuning.control.controller import Controller, ControlLimits

SECONDS = 600.0
STEP_S = 0.02
MINUTE_NS = 60_000_000_000
QUIET_NS = 30_000_000_000

MakeWorld = Callable[[int], World]


def some_work_s(cores: int) -> float:
    """Of a worker for a batch, so that a bit less than half of the cores are wanted."""
    return max(1.25, 0.45 * cores) * STEP_S


def half_taken(cores: int) -> Callable[[float], float]:
    return lambda now_s: cores / 2 if 200 <= now_s < 260 else float(cores)


WORLDS: dict[str, MakeWorld] = {
    "even work": lambda cores: world(cores=cores, work_s=some_work_s(cores), step_s=STEP_S),
    "waiting for storage": lambda cores: world(
        cores=cores, work_s=1.6 * some_work_s(cores), step_s=STEP_S, cpu_fraction=0.2
    ),
    "a storage that gives no more": lambda cores: world(
        cores=cores,
        work_s=2 * some_work_s(cores),
        step_s=STEP_S,
        cpu_fraction=0.1,
        bandwidth_workers=max(1.0, 0.36 * cores),
    ),
    "steps of five seconds": lambda cores: world(
        cores=cores, work_s=9.0, step_s=5.0, cpu_fraction=0.5
    ),
    "a cache that warms up": lambda cores: world(
        cores=cores,
        work_s=lambda now_s: some_work_s(cores) * (0.2 + 1.8 * max(0.0, 1.0 - now_s / 60)),
        step_s=STEP_S,
        cpu_fraction=0.3,
    ),
    "steps four times as fast": lambda cores: world(
        cores=cores,
        work_s=some_work_s(cores),
        step_s=lambda now_s: 4 * STEP_S if now_s < 300 else STEP_S,
        cpu_fraction=0.8,
    ),
    "steps four times as slow": lambda cores: world(
        cores=cores,
        work_s=some_work_s(cores),
        step_s=lambda now_s: STEP_S if now_s < 300 else 4 * STEP_S,
        cpu_fraction=0.8,
    ),
    "a neighbour on half of the cores": lambda cores: world(
        cores=cores,
        work_s=1.7 * some_work_s(cores),
        step_s=STEP_S,
        cpu_fraction=0.9,
        free_cores=half_taken(cores),
    ),
    "a neighbour that the kernel does not show": lambda cores: world(
        cores=cores,
        work_s=1.7 * some_work_s(cores),
        step_s=STEP_S,
        cpu_fraction=0.9,
        free_cores=half_taken(cores),
        tells_core_wait=False,
    ),
    "slow batches now and then": lambda cores: world(
        cores=cores,
        work_s=some_work_s(cores),
        step_s=STEP_S,
        cpu_fraction=0.5,
        spread=0.4,
        slow_share=0.05,
    ),
    "more work than cores": lambda cores: world(
        cores=cores, work_s=3 * cores * STEP_S, step_s=STEP_S
    ),
    "hardly any work": lambda cores: world(cores=cores, work_s=1e-4, step_s=STEP_S),
    "a loop that is slow itself": lambda cores: world(
        cores=cores, work_s=some_work_s(cores), step_s=STEP_S, cpu_fraction=0.5, loop_s=STEP_S / 10
    ),
    "short passes": lambda cores: world(
        cores=cores, work_s=some_work_s(cores), step_s=STEP_S, cpu_fraction=0.6, pass_s=20.0
    ),
}


@cache
def best_of(name: str, cores: int) -> tuple[int, Run]:
    return best_static(WORLDS[name](cores), 2 * cores, SECONDS)


@cache
def controlled(name: str, cores: int, start: str) -> tuple[Run, tuple[PlanChange, ...]]:
    starts = {"inline": 0, "1": 1, "best": best_of(name, cores)[0], "2 x cores": 2 * cores}
    limits = ControlLimits(
        most_workers=2 * cores,
        least_workers=min(1, starts[start]),
        cores=cores,
        max_stall_fraction=0.02,
        is_cut=True,
    )
    controller = Controller(limits, num_workers=starts[start])
    run = run_with(controller, Plant(WORLDS[name](cores), starts[start], seed=3), SECONDS)
    return run, controller.changes


def most_in_a_minute(changes: tuple[PlanChange, ...]) -> int:
    """The most changes of any minute that begins after the first half one."""
    at_ns = [change.at_ns for change in changes if change.at_ns >= QUIET_NS]
    return max([sum(a <= b < a + MINUTE_NS for b in at_ns) for a in at_ns], default=0)


EVERY_WORLD = pytest.mark.parametrize("name", WORLDS)
EVERY_START = pytest.mark.parametrize("start", ["1", "2 x cores"])
# What differs from machine to machine is how many workers there may be.
SIZES = pytest.mark.parametrize(
    "cores",
    [pytest.param(2, marks=pytest.mark.slow), 8, pytest.param(64, marks=pytest.mark.slow)],
    ids=lambda cores: f"{cores} cores",
)


@SIZES
@EVERY_START
@EVERY_WORLD
def test_trains_as_fast_as_with_the_best_fixed_number(name: str, cores: int, start: str) -> None:
    _, best = best_of(name, cores)
    run, changes = controlled(name, cores, start)

    assert run.stall_fraction_after(30) <= best.stall_fraction_after(30) + 0.03
    assert run.batches_per_s >= 0.95 * best.batches_per_s
    assert most_in_a_minute(changes) <= 2
    assert all(1 <= workers <= 2 * cores for workers in run.workers)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["inline", "best"])
@EVERY_WORLD
def test_so_it_does_from_any_other_start(name: str, start: str) -> None:
    _, best = best_of(name, 8)
    run, changes = controlled(name, 8, start)

    assert run.stall_fraction_after(40) <= best.stall_fraction_after(40) + 0.03
    assert run.batches_per_s >= 0.95 * best.batches_per_s
    assert most_in_a_minute(changes) <= 2


@pytest.mark.parametrize("name", [name for name in WORLDS if "work" in name and "more" not in name])
def test_ends_with_hardly_more_workers_than_do(name: str) -> None:
    fewest, _ = best_of(name, 8)
    run, _ = controlled(name, 8, "2 x cores")

    assert run.workers[-1] <= fewest + 1


@pytest.mark.parametrize("name", [name for name in WORLDS if "neighbour" in name])
@EVERY_START
def test_has_no_more_workers_once_a_neighbour_has_gone(name: str, start: str) -> None:
    run, _ = controlled(name, 8, start)

    before = [n for n, w in zip(run.workers, run.windows, strict=True) if w.began_ns < 200e9]
    assert run.workers[-1] <= before[-1]
    assert run.stall_fraction_after(320) <= 0.02


def test_grows_at_once_when_steps_become_faster() -> None:
    run, changes = controlled("steps four times as fast", 8, "1")

    growths = [c for c in changes if c.kind == "grow" and c.at_ns >= 300e9]
    assert growths[0].at_ns <= 307e9
    assert run.stall_fraction_after(330) <= 0.03


def test_follows_a_cache_that_warms_up_down_to_the_last_worker() -> None:
    run, _ = controlled("a cache that warms up", 8, "2 x cores")

    assert run.workers[-1] == 1


def test_the_plant_trains_by_the_laws_of_queues() -> None:
    """With one worker, steps take as long as batches; with enough, as long as steps."""
    true = world(cores=8, work_s=0.04, step_s=0.02, spread=0.0)

    slow, fast = Plant(true, 1), Plant(true, 4)
    slow.window(), fast.window()

    assert slow.window().stall_fraction == pytest.approx(0.5, abs=0.02)
    assert fast.window().stall_fraction == 0.0
    assert math.isclose(fast.window().batches, 150, rel_tol=0.02)
