"""How soon, how calmly and how well does a loader find its number of workers while training runs?

Part of ``bench_tuner`` (``--online``). A loop with a sleeping step runs for some minutes on a
loader that may adapt, once from one worker and once from twice the cores; the best setting that
stays as it is runs before each of them for a third of that time.

    within_after_s      from the first batch to the first window (5 s) from which on the stall of
                        all that follows is within 0.03 of the best that stays
    changes_a_minute    the most in any minute from the 30th second on
    ratio               samples a second over the whole run, of the best that stays

With ``--disturb`` busy processes hold half of the cores for the middle third. Wanted is a stall
within 0.03 of what it was before, from 30 s after they ended on. A shorter run of the same kind is
compared with the training process's own batches, byte by byte.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset
from tuner_cells import Setting, digest_of, measure, passes, planned
from tuner_sets import Workload, pick

from lightning_fastdata import LoaderPlan
from lightning_fastdata.machine import read_machine, whole_cores
from lightning_fastdata.tuning.forecast import usual_prefetch

CHOSEN, TICK = ("jpeg", "io", "heavy tail"), ("io",)
STEP = 1  # of a workload's three: where one worker is too few
WITHIN, SETTLED_S, WANTED_RATIO, MOST_CHANGES = 0.03, 30.0, 0.95, 2
WINDOW_S = 5.0
STATIC_SHARE = 1 / 3
COMPARED_SHARE = 1 / 18  # each of its thirds; this process makes it all again
SPIN = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


@dataclass(kw_only=True)
class Course:
    """What a loop saw, batch by batch."""

    began_s: float
    waits_s: list[float] = field(default_factory=list)
    busy_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    """Of each step, from ``began_s`` on."""

    def stall_between(self, from_s: float, to_s: float) -> float | None:
        """Share of that time that was waiting; ``None`` where no step ended in it."""
        chosen = [k for k, end_s in enumerate(self.ends_s) if from_s < end_s <= to_s]
        wait_s = sum(self.waits_s[k] for k in chosen)
        whole_s = wait_s + sum(self.busy_s[k] for k in chosen)
        return wait_s / whole_s if chosen else None

    def windows(self, window_s: float) -> list[float | None]:
        whole = int(self.ends_s[-1] / window_s)
        return [self.stall_between(k * window_s, (k + 1) * window_s) for k in range(whole)]


def online_rows(parsed: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of one workload after the other: undisturbed, or disturbed and compared."""
    cores = whole_cores(read_machine(os.environ).cores)
    for workload in pick(parsed.workloads, TICK if parsed.tick else CHOSEN):
        if workload.missing is not None:
            yield {"workload": workload.name, "skipped": workload.missing}
            continue
        dataset = workload.make(folder)
        if parsed.disturb:
            for _ in range(parsed.rounds):
                yield disturbed(workload, dataset, cores, parsed)
            yield same_bytes(workload, dataset, cores, parsed)
        else:
            yield from undisturbed(workload, dataset, cores, parsed)


def undisturbed(
    workload: Workload, dataset: Dataset[Any], cores: int, parsed: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    step_s = workload.steps_ms[STEP] / 1e3
    best = best_that_stays(workload, dataset, step_s, cores, parsed.seconds)
    static_stalls, static_rates, rows = [], [], []
    for start in (1, 2 * cores) * parsed.rounds:
        fixed = best.loader(workload, dataset)
        course = train(fixed, step_s, STATIC_SHARE * parsed.online_seconds)
        static_stalls.append(settled_stall(course))
        static_rates.append(rate(course, workload))
        loader = planned(workload, dataset, adapting_plan(start, cores))
        course = train(loader, step_s, parsed.online_seconds)
        rows.append((start, course, figures(course, loader.changes)))
    static_stall, static_rate = statistics.mean(static_stalls), statistics.mean(static_rates)
    for start, course, found in rows:
        within_after_s = seconds_until(course, static_stall + WITHIN)
        ratio = rate(course, workload) / static_rate
        calm = found["changes_a_minute"] <= MOST_CHANGES
        soon = within_after_s is not None and within_after_s <= SETTLED_S
        yield {
            "workload": workload.name,
            "online": f"from {start}",
            "step_ms": workload.steps_ms[STEP],
            "seconds": parsed.online_seconds,
            "best_that_stays": {**vars(best), "stall": round(static_stall, 4)},
            "static_samples_per_s": [round(one, 1) for one in static_rates],
            "within_after_s": within_after_s,
            "ratio": round(ratio, 4),
            **found,
            "reached": {"soon": soon, "calm": calm, "as_fast": ratio >= WANTED_RATIO},
        }


def disturbed(
    workload: Workload, dataset: Dataset[Any], cores: int, parsed: argparse.Namespace
) -> dict[str, Any]:
    step_s, third_s = workload.steps_ms[STEP] / 1e3, parsed.online_seconds / 3
    loader = planned(workload, dataset, adapting_plan(1, cores))
    with busy_cores(cores, third_s, 2 * third_s) as look:
        course = train(loader, step_s, 3 * third_s, look)
    rest_s = min(SETTLED_S, third_s / 2)
    parts = {
        "before": course.stall_between(third_s - rest_s, third_s),
        "during": course.stall_between(third_s, 2 * third_s),
        "after": course.stall_between(2 * third_s + rest_s, 3 * third_s),
    }
    before, after = parts["before"], parts["after"]
    known = before is not None and after is not None
    until_s = seconds_until(course, before + WITHIN, 2 * third_s) if known else None
    return {
        "workload": workload.name,
        "online": "disturbed",
        "step_ms": workload.steps_ms[STEP],
        "seconds": parsed.online_seconds,
        "busy_cores": max(1, cores // 2),
        "stall": {name: stall and round(stall, 4) for name, stall in parts.items()},
        "recovered_after_s": until_s,
        "longest_wait_s": round(max(course.waits_s[1:]), 3),
        **figures(course, loader.changes),
        "reached": {"recovers": known and after <= before + WITHIN},
    }


def same_bytes(
    workload: Workload, dataset: Dataset[Any], cores: int, parsed: argparse.Namespace
) -> dict[str, Any]:
    """Compare a disturbed and adapting run with batches made in this process."""
    step_s, third_s = workload.steps_ms[STEP] / 1e3, COMPARED_SHARE * parsed.online_seconds
    digests: list[str] = []
    loader = planned(workload, dataset, adapting_plan(1, cores))
    with busy_cores(cores, third_s, 2 * third_s) as look:
        train(loader, step_s, 3 * third_s, look, lambda batch: digests.append(digest_of(batch)))
    inline = Setting(engine="inline", num_workers=0).loader(workload, dataset)
    with contextlib.closing(passes(inline)) as batches:
        wanted = [digest_of(batch) for batch in islice(batches, len(digests))]
    assert digests == wanted, f"{workload.name}: batches differ once workers come and go"
    counts = [change.after for change in loader.changes]
    return {
        "workload": workload.name,
        "online": "same bytes",
        "batches": len(digests),
        "workers": [1, *counts],
        "reached": {"same": True},
    }


def adapting_plan(start: int, cores: int) -> LoaderPlan:
    """A plan that starts with so many workers and may have up to twice the cores."""
    return LoaderPlan(
        engine="ring",
        num_workers=start,
        prefetch_batches=start * usual_prefetch("ring", start),
        pin_memory=False,
        persistent_workers=True,
        start_method="fork",
        max_workers=2 * cores,
    )


def best_that_stays(
    workload: Workload, dataset: Dataset[Any], step_s: float, cores: int, seconds: float
) -> Setting:
    """The setting of least stall, of two rounds; where several are as good, the fewest workers."""
    settings = [Setting(engine="inline", num_workers=0)]
    for workers in range(1, 2 * cores + 1):
        each = usual_prefetch("ring", workers)
        settings.append(Setting(engine="ring", num_workers=workers, per_worker=each))
    stalls: dict[Setting, list[float]] = {setting: [] for setting in settings}
    for _ in range(2):
        for setting in settings:
            loader = setting.loader(workload, dataset)
            cell = measure(loader, workload, step_s, seconds, setting.in_flight)
            stalls[setting].append(cell.stall_fraction)
    least = min(map(statistics.mean, stalls.values()))
    return next(one for one in settings if statistics.mean(stalls[one]) <= least + 0.005)


def train(
    loader: Any,
    step_s: float,
    seconds: float,
    look: Callable[[float], None] = lambda now_s: None,
    consume: Callable[[Any], None] = lambda batch: None,
) -> Course:
    """Run the loop from the loader's first batch on; ``look`` is told the time once a step."""
    course = Course(began_s=time.perf_counter())
    with contextlib.closing(passes(loader)) as batches:
        ended_s = course.began_s
        while ended_s < course.began_s + seconds:
            batch = next(batches)
            taken_s = time.perf_counter()
            course.waits_s.append(taken_s - ended_s)
            consume(batch)
            time.sleep(step_s)
            del batch
            look(taken_s - course.began_s)
            ended_s = time.perf_counter()
            course.busy_s.append(ended_s - taken_s)
            course.ends_s.append(ended_s - course.began_s)
    return course


@contextlib.contextmanager
def busy_cores(cores: int, from_s: float, to_s: float) -> Iterator[Callable[[float], None]]:
    """Give a function that, told the time, keeps half of the cores busy between the two."""
    spinners: list[subprocess.Popen[bytes]] = []
    held = sorted(os.sched_getaffinity(0))[: max(1, cores // 2)]

    def look(now_s: float) -> None:
        if from_s <= now_s < to_s and not spinners:
            for core in held:
                spinners.append(subprocess.Popen([sys.executable, "-c", SPIN, str(core)]))
        elif now_s >= to_s:
            end_all()

    def end_all() -> None:
        while spinners:
            spinner = spinners.pop()
            spinner.kill()
            spinner.wait()

    try:
        yield look
    finally:
        end_all()


def settled_stall(course: Course) -> float:
    """The stall of the later half, in which every queue has settled."""
    return course.stall_between(course.ends_s[-1] / 2, course.ends_s[-1]) or 0.0


def rate(course: Course, workload: Workload) -> float:
    return len(course.ends_s) * workload.batch_size / course.ends_s[-1]


def seconds_until(course: Course, limit: float, from_s: float = 0.0) -> float | None:
    """When the first window began that is within, as is all that follows; from a time on."""
    last_s = course.ends_s[-1]
    for number in range(int((last_s - from_s) / WINDOW_S)):
        began_s = from_s + number * WINDOW_S
        stall = course.stall_between(began_s, began_s + WINDOW_S)
        rest = course.stall_between(began_s, last_s)
        if stall is not None and rest is not None and max(stall, rest) <= limit:
            return began_s - from_s
    return None


def figures(course: Course, changes: tuple[Any, ...]) -> dict[str, Any]:
    """What the loader did, and when."""
    at_s = [change.at_ns / 1e9 - course.began_s for change in changes]
    later_s = [one for one in at_s if one >= SETTLED_S]
    most = max((sum(one <= other < one + 60 for other in later_s) for one in later_s), default=0)
    return {
        "changes_a_minute": most,
        "changes": [
            {
                "at_s": round(when_s, 1),
                "kind": change.kind,
                "before": change.before,
                "after": change.after,
                "predicted": change.predicted_stall_fraction,
                "measured": change.measured_stall_fraction,
                "reason": change.reason,
            }
            for when_s, change in zip(at_s, changes, strict=True)
        ],
        "windows": [stall and round(stall, 3) for stall in course.windows(WINDOW_S)],
    }
