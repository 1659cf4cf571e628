"""What does it gain that workers let the training process have its core?

Run ``python tests/benchmarks/bench_give_way.py [--rounds 7] [--seconds 3] [--json FILE]``; it
prints one JSON line a case and variant, and one a claim. A loop with a sleeping step, as training
on a device, or without one takes batches from workers that

    give way        run under the kernel's batch policy, as they do
    as others       run as any other process

turn by turn. Steps are some of ``bench_tuner``'s.

    stall           share of the time that the loop waited, of the later two thirds of each turn
    wait_ms_p95     of single waits
"""

import argparse
import json
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

from harness import arguments, write
from torch.utils.data import Dataset
from tuner_cells import Setting, digest_of, passes
from tuner_online import train
from tuner_sets import Workload, pick

from lightning_fastdata.loader.ring import process
from lightning_fastdata.machine import facts, read_machine

# Which of the workload's steps; -1 is none: batches are taken as fast as they come.
CASES = {"jpeg": (1, -1), "ragged": (1, -1), "tiny": (1, 2), "tokens": (2,), "io": (1, -1)}
WORKERS = (2, 4)
COMPARED = 40  # batches
WANTED_RATE = 0.97
VARIANTS: dict[str, Callable[[], None]] = {
    "give way": process.give_way,
    "as others": lambda: None,
}


def main() -> None:
    parser = arguments((__doc__ or "").splitlines()[0])
    parser.set_defaults(rounds=7)
    parser.add_argument("--workloads", default="", help="names, with commas between them")
    parser.add_argument("--seconds", type=float, default=3.0, help="that a turn lasts")
    parsed = parser.parse_args()
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for workload in pick(parsed.workloads, tuple(CASES)):
            if workload.missing is not None:
                rows.append({"workload": workload.name, "skipped": workload.missing})
                continue
            dataset = workload.make(Path(folder))
            refuse_other_answers(workload, dataset)
            for step in CASES[workload.name]:
                for workers in WORKERS:
                    rows += case(workload, dataset, step, workers, parsed)
    machine = facts(read_machine(os.environ))
    rows = [{"benchmark": "give_way", **row, "machine": machine} for row in rows + claims(rows)]
    for row in rows:
        print(json.dumps(row))
    if parsed.json is not None:
        write(rows, parsed.json)


def loader_with(workload: Workload, dataset: Dataset[Any], workers: int) -> Any:
    return Setting(engine="ring", num_workers=workers, per_worker=4).loader(workload, dataset)


def refuse_other_answers(workload: Workload, dataset: Dataset[Any]) -> None:
    """Compare what is going to be timed, batch by batch."""
    found = []
    for give_way in VARIANTS.values():
        with (
            mock.patch.object(process, "give_way", give_way),
            closing(passes(loader_with(workload, dataset, 2))) as batches,
        ):
            found.append([digest_of(batch) for batch in islice(batches, COMPARED)])
    assert found[0] == found[1], f"{workload.name}: batches differ by policy"


def case(
    workload: Workload, dataset: Dataset[Any], step: int, workers: int, parsed: argparse.Namespace
) -> list[dict[str, Any]]:
    """One step time and number of workers, both variants in turn."""
    step_ms = 0.0 if step < 0 else workload.steps_ms[step]
    stalls: dict[str, list[float]] = {name: [] for name in VARIANTS}
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    waits_ms: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for turn in range(parsed.rounds):
        for name in list(VARIANTS)[:: 1 if turn % 2 else -1]:
            with mock.patch.object(process, "give_way", VARIANTS[name]):
                loader = loader_with(workload, dataset, workers)
                course = train(loader, step_ms / 1e3, parsed.seconds)
            first = len(course.ends_s) // 3
            from_s, to_s = course.ends_s[first], course.ends_s[-1]
            stalls[name].append(course.stall_between(from_s, to_s) or 0.0)
            batches = len(course.ends_s) - 1 - first
            rates[name].append(batches * workload.batch_size / (to_s - from_s))
            waits_ms[name] += [1e3 * wait_s for wait_s in course.waits_s[first + 1 :]]
    return [
        {
            "workload": workload.name,
            "step_ms": step_ms,
            "workers": workers,
            "variant": name,
            "rounds": parsed.rounds,
            "stall": quartiles(stalls[name], 4),
            "samples_per_s": quartiles(rates[name], 1),
            "wait_ms_p95": round(statistics.quantiles(waits_ms[name], n=20)[-1], 3),
        }
        for name in VARIANTS
    ]


def quartiles(values: list[float], digits: int) -> list[float]:
    """Lower quartile, median and upper quartile."""
    return [round(value, digits) for value in statistics.quantiles(values, n=4)]


def claims(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With workers that give way, training waits less, and gets no fewer samples."""
    known = [row for row in rows if "variant" in row]
    pairs = list(zip(known[::2], known[1::2], strict=True))
    trained = [(ours, others) for ours, others in pairs if ours["step_ms"]]
    gains = [others["stall"][1] - ours["stall"][1] for ours, others in trained]
    ratios = [ours["samples_per_s"][1] / others["samples_per_s"][1] for ours, others in pairs]
    as_many = [
        ratio >= WANTED_RATE or ours["samples_per_s"][1] >= others["samples_per_s"][0]
        for ratio, (ours, others) in zip(ratios, pairs, strict=True)
    ]
    return [
        {
            "claim": "stall saved where there is a step, of the time",
            "median": round(statistics.median(gains), 4),
            "least": round(min(gains), 4),
            "most": round(max(gains), 4),
            "reached": statistics.median(gains) > 0,
        },
        {
            "claim": f"at least {WANTED_RATE} times the samples, or in the others' quartiles",
            "ratio_median": round(statistics.median(ratios), 3),
            "ratio_least": round(min(ratios), 3),
            "ratio_most": round(max(ratios), 3),
            "holds": sum(as_many),
            "of": len(as_many),
            "reached": all(as_many),
        },
    ]


if __name__ == "__main__":
    main()
