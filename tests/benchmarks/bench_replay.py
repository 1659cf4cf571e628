"""Does replay say what real loaders then do, and does it say so at once?

Run ``python tests/benchmarks/bench_replay.py [--rounds 3] [--batches 64] [--json FILE]``; it prints
one JSON line a comparison. Batches are sleeps, so any number of workers fits the cores. Two traces:
every batch alike, and one in sixteen six times as slow. Each sample says how long it really took.
``replayed`` is what a run's own costs give with its own setting: whether the dispatch is right.
``predicted`` is what costs recorded with two workers give with that setting: whether one run tells
of another. What it takes to hand a chunk out, to send a batch over and to take it in is read from
two settings an engine. Cores may be shared: of several runs, the one with the median stall counts.

    speed       10,000 batches, per dispatch: seconds a replay takes
    stall       measured and predicted stall of torch.utils.data.DataLoader and FastDataLoader
    summary     how far apart they are
"""

import json
import os
import random
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from harness import arguments, write
from torch.utils.data import DataLoader, Dataset

from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.machine import facts, read_machine
from lightning_fastdata.tuning.replay import (
    BatchCost,
    Dispatch,
    InlineDispatch,
    RingDispatch,
    Span,
    Steps,
    TorchDispatch,
    replay,
)

SAMPLES, SAMPLE_NS, STEP_NS = 16, 2_500_000, 12_000_000  # a batch: 40 ms of work
SLOW_EVERY, SLOW_TIMES = 16, 6
SPEED_BATCHES = 10_000
TRACES = ("alike", "slow_batches")


class SleepingSet(Dataset[torch.Tensor]):
    """Sleeps as long as each sample is told to, and gives how long that really took."""

    def __init__(self, sleeps_ns: Sequence[int]) -> None:
        self.sleeps_ns = torch.tensor(sleeps_ns)

    def __len__(self) -> int:
        return len(self.sleeps_ns)

    def __getitem__(self, index: int) -> torch.Tensor:
        began_ns = time.perf_counter_ns()
        time.sleep(int(self.sleeps_ns[index]) / 1e9)
        return torch.tensor([index, began_ns, time.perf_counter_ns(), os.getpid()])


def sleeps_of(trace: str, batches: int) -> list[int]:
    order = random.Random(0)
    slow = {order.randrange(k, k + SLOW_EVERY) for k in range(0, batches, SLOW_EVERY)}
    return [
        SAMPLE_NS * (SLOW_TIMES if trace == "slow_batches" and number in slow else 1)
        for number in range(batches)
        for _ in range(SAMPLES)
    ]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a loader is run."""

    engine: str
    num_workers: int
    prefetch_factor: int = 2
    in_order: bool = True

    def loader(self, sleeps_ns: Sequence[int]) -> Any:
        options: dict[str, Any] = {"batch_size": SAMPLES, "num_workers": self.num_workers}
        options["prefetch_factor"] = self.prefetch_factor
        if not self.in_order:
            options["in_order"] = False
        if self.engine == "torch":
            return DataLoader(SleepingSet(sleeps_ns), **options)
        return FastDataLoader(SleepingSet(sleeps_ns), engine=self.engine, **options)

    def dispatch(self, handover: "Handover") -> Dispatch:
        costs = {"next_ns": handover.next_ns, "handing_ns": handover.handing_ns}
        workers, factor = self.num_workers, self.prefetch_factor
        if self.engine == "torch":
            return TorchDispatch(
                num_workers=workers, prefetch_factor=factor, in_order=self.in_order, **costs
            )
        return RingDispatch(
            num_workers=workers, depth=workers * factor, in_order=self.in_order, **costs
        )


@dataclass(frozen=True, kw_only=True)
class Handover:
    """What batches cost besides being made."""

    next_ns: int
    handing_ns: int
    transit_ns: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run of a real loader."""

    stall_fraction: float
    median_wait_ns: int
    median_gap_ns: int
    """Of a worker, between two chunks."""
    median_way_ns: int
    """From the last sample to the loop."""
    host_ns: list[int]
    costs: list[BatchCost]
    """In the order of the dataset."""


def measure(setting: Setting, sleeps_ns: Sequence[int]) -> Measured:
    waits_ns: list[int] = []
    host_ns: list[int] = []
    ways_ns: list[int] = []
    made: list[list[list[int]]] = []
    batches: Iterator[torch.Tensor] = iter(setting.loader(sleeps_ns))
    for _ in range(len(sleeps_ns) // SAMPLES):
        wanted_ns = time.perf_counter_ns()
        batch = next(batches)
        taken_ns = time.perf_counter_ns()
        waits_ns.append(taken_ns - wanted_ns)
        made.append(batch.tolist())
        ways_ns.append(taken_ns - int(batch[:, 2].max()))
        time.sleep(STEP_NS / 1e9)
        host_ns.append(time.perf_counter_ns() - taken_ns)
    del batches
    made.sort()
    seen = [index for rows in made for index, *_ in rows]
    assert seen == list(range(len(sleeps_ns))), "never time a wrong answer"
    stall_ns = sum(waits_ns[1:])
    steady_ns = stall_ns + sum(host_ns[1:])
    return Measured(
        stall_fraction=stall_ns / steady_ns,
        median_wait_ns=round(statistics.median(waits_ns[1:])),
        median_gap_ns=round(statistics.median(gaps_of(made))),
        median_way_ns=round(statistics.median(ways_ns)),
        host_ns=host_ns,
        costs=costs_of(made),
    )


def costs_of(made: list[list[list[int]]]) -> list[BatchCost]:
    """What each row took, with what lies between two samples of one worker: it is work as well."""
    between_ns = [
        later[1] - sooner[2]
        for rows in made
        for sooner, later in pairwise(rows)
        if sooner[3] == later[3]
    ]
    extra_ns = round(statistics.median(between_ns))
    return [
        BatchCost(spans=tuple(Span(1, ended - began + extra_ns) for _, began, ended, _ in rows))
        for rows in made
    ]


def gaps_of(made: list[list[list[int]]]) -> list[int]:
    """What workers had to do between two chunks."""
    samples = sorted(
        (process, began_ns, ended_ns, index)
        for rows in made
        for index, began_ns, ended_ns, process in rows
    )
    return [
        later[1] - sooner[2]
        for sooner, later in pairwise(samples)
        if sooner[0] == later[0] and (later[3] != sooner[3] + 1 or later[3] % SAMPLES == 0)
    ]


def settings_of(engine: str) -> list[Setting]:
    base = Setting(engine=engine, num_workers=2)
    settings = [replace(base, num_workers=workers) for workers in (1, 2, 3, 4, 5, 6, 8)]
    settings += [replace(base, num_workers=3, prefetch_factor=4)]
    settings += [replace(base, num_workers=4, in_order=False)]
    return settings


def measure_often(setting: Setting, sleeps_ns: Sequence[int], rounds: int) -> Measured:
    runs = [measure(setting, sleeps_ns) for _ in range(rounds)]
    return sorted(runs, key=lambda run: run.stall_fraction)[rounds // 2]


def compare(engine: str, batches: int, rounds: int) -> list[dict[str, Any]]:
    rows = []
    alike = sleeps_of("alike", batches)
    ample = Setting(engine=engine, num_workers=8)
    starved = Setting(engine=engine, num_workers=1)
    next_ns = measure_often(ample, alike, rounds).median_wait_ns
    one = measure_often(starved, alike, rounds)
    handover = Handover(
        next_ns=next_ns,
        handing_ns=one.median_gap_ns,
        transit_ns=max(0, one.median_way_ns - next_ns),
    )
    for trace in TRACES:
        sleeps_ns = sleeps_of(trace, batches)
        recorded = measure_often(Setting(engine=engine, num_workers=2), sleeps_ns, rounds)
        for setting in settings_of(engine):
            measured = measure_often(setting, sleeps_ns, rounds)
            replayed, predicted = (
                replay(
                    run.costs,
                    Steps(host_ns=run.host_ns),
                    setting.dispatch(handover),
                    transit_ns=handover.transit_ns,
                ).stall_fraction
                for run in (measured, recorded)
            )
            rows.append(
                {"benchmark": "replay", "trace": trace, **vars(setting)}
                | {"measured_stall_fraction": round(measured.stall_fraction, 4)}
                | {"replayed_stall_fraction": round(replayed, 4)}
                | {"predicted_stall_fraction": round(predicted, 4)}
                | {"batches": batches, "rounds": rounds, **vars(handover)}
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def time_replays(rounds: int) -> list[dict[str, Any]]:
    order = random.Random(0)
    costs = [
        BatchCost(spans=tuple(Span(16, round(order.lognormvariate(16, 0.5))) for _ in range(4)))
        for _ in range(SPEED_BATCHES)
    ]
    dispatches: dict[str, Dispatch] = {
        "ring": RingDispatch(num_workers=4, depth=8),
        "torch": TorchDispatch(num_workers=4),
        "inline": InlineDispatch(),
    }
    rows = []
    for name, dispatch in dispatches.items():
        for device_ns in (None, [9_000_000]):
            steps = Steps(host_ns=[6_000_000], device_ns=device_ns)
            times_s = []
            for _ in range(rounds):
                began_ns = time.process_time_ns()  # the cores are shared
                result = replay(costs, steps, dispatch)
                times_s.append((time.process_time_ns() - began_ns) / 1e9)
                assert len(result.waits_ns) == SPEED_BATCHES, "never time a wrong answer"
            took = {"core_seconds_median": round(statistics.median(times_s), 4), "rounds": rounds}
            what = {"speed": name, "with_device": device_ns is not None, "batches": SPEED_BATCHES}
            rows.append({"benchmark": "replay", **what, **took})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def summary_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    apart = {}
    for engine in ("torch", "ring"):
        for said in ("replayed", "predicted"):
            of_engine = [row for row in rows if row["engine"] == engine]
            wanted, name = "measured_stall_fraction", f"{said}_stall_fraction"
            gaps = [abs(row[name] - row[wanted]) for row in of_engine]
            apart[f"{engine}_{said}"] = {
                "settings": len(gaps),
                "median": round(statistics.median(gaps), 4),
                "worst": round(max(gaps), 4),
                "within_0.02": sum(gap <= 0.02 for gap in gaps),
                "within_0.05": sum(gap <= 0.05 for gap in gaps),
            }
    return {"benchmark": "replay", "apart": apart, "machine": facts(read_machine(os.environ))}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=64)
    parser.set_defaults(rounds=3)
    settings = parser.parse_args()
    warnings.simplefilter("ignore")  # torch warns of more workers than cores; these only sleep
    rows = time_replays(settings.rounds)
    compared = compare("torch", settings.batches, settings.rounds)
    compared += compare("ring", settings.batches, settings.rounds)
    rows += [*compared, summary_of(compared)]
    print(json.dumps(rows[-1]))
    if settings.json is not None:
        write(rows, settings.json)


if __name__ == "__main__":
    main()
