"""Does ``tune`` find the plan that an exhaustive grid finds, and in how much less time?

Run ``python tests/benchmarks/bench_tuner.py [--workloads io,jpeg] [--seconds 2] [--json FILE]``; it
prints one JSON line a workload and step time, and one a claim. The step is a sleep, as a device
that computes leaves its host. The grid is every number of workers from 0 to twice the cores, with 2
and 4 batches in flight for each worker; torch's loader stands beside it without workers and with
Lightning's advice, all cores but one. Its cells take turns in an order drawn anew for each round,
and then those that decide the claim do.

    best            the least stall of the grid, and its cell
    fewest          the fewest workers with a cell at most 0.03 above it
    chosen          what ``tune`` chose; its stall is that of its own cell of the grid
    extra_workers   chosen workers more than the fewest
    again           the best and the chosen cell measured once more, in turns
    predicted       the stall that ``tune`` expects of each number it weighed, and what the grid
                    or, where ``tried``, its own trial shows for it

``--online`` measures the controller while training runs instead (``tuner_online.py``), and
``--tick`` goes quickly through a small part of either, to see whether it still works.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import arguments, write
from torch.utils.data import DataLoader, Dataset
from tuner_cells import (
    Measured,
    Setting,
    measure,
    medians,
    planned,
    refuse_other_answers,
    setting_of,
)
from tuner_online import online_rows
from tuner_sets import Workload, pick

from lightning_fastdata import LoaderPlan, tune
from lightning_fastdata.machine import facts, read_machine, whole_cores

WITHIN, MOST_EXTRA = 0.03, 1
WANTED_SHARE = 22 / 24
MOST_TUNE_S, MOST_TUNE_SHARE = 10.0, 0.1
DEPTHS = (2, 4)
AGAIN = 2  # times the grid's rounds
TICK = ("tokens", "io")

Runs = dict[Setting, list[Measured]]


def main() -> None:
    parser = arguments((__doc__ or "").splitlines()[0])
    parser.set_defaults(rounds=1)
    parser.add_argument("--workloads", default="", help="names, with commas between them")
    parser.add_argument("--seconds", type=float, help="that a cell is measured (2)")
    parser.add_argument("--budget", type=float, help="seconds that tune may take (10)")
    parser.add_argument("--tick", action="store_true", help="a quick look at whether it works")
    parser.add_argument("--online", action="store_true", help="measure the controller instead")
    parser.add_argument("--online-seconds", type=float, help="that training runs (180)")
    parser.add_argument("--disturb", action="store_true", help="take half of the cores for a while")
    parsed = parser.parse_args()
    if parsed.disturb and not parsed.online:
        parser.error("--disturb is for --online")
    usual = (0.3, 2.0, 12.0) if parsed.tick else (2.0, 10.0, 180.0)
    parsed.seconds = parsed.seconds or usual[0]
    parsed.budget = parsed.budget or usual[1]
    parsed.online_seconds = parsed.online_seconds or usual[2]
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores
    machine = facts(read_machine(os.environ))
    rows: list[dict[str, Any]] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            measured = online_rows if parsed.online else grid_rows
            for row in measured(parsed, Path(folder)):
                rows.append({"benchmark": "tuner", **row, "machine": machine})
                print(json.dumps(rows[-1]), flush=True)
        for row in tally(rows) if parsed.online else claims(rows):
            rows.append({"benchmark": "tuner", **row})
            print(json.dumps(rows[-1]), flush=True)
    finally:  # many minutes of measuring are kept, whatever ends them
        if parsed.json is not None:
            write(rows, parsed.json)


def grid_rows(parsed: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """One row a workload and step time."""
    for workload in pick(parsed.workloads, TICK if parsed.tick else ()):
        if workload.missing is not None:
            yield {"workload": workload.name, "skipped": workload.missing}
            continue
        dataset = workload.make(folder)
        for step_ms in workload.steps_ms[1:2] if parsed.tick else workload.steps_ms:
            yield compare(workload, dataset, step_ms, parsed)


def compare(
    workload: Workload, dataset: Dataset[Any], step_ms: float, parsed: argparse.Namespace
) -> dict[str, Any]:
    """The grid, what ``tune`` makes of the same, and both once more."""
    cores = whole_cores(read_machine(os.environ).cores)
    step_s = step_ms / 1e3
    began_s = time.perf_counter()
    plan = tune(
        DataLoader(dataset, batch_size=workload.batch_size, collate_fn=workload.collate_fn),
        step_time_s=step_s,
        budget_s=parsed.budget,
    )
    tune_s = time.perf_counter() - began_s
    refuse_other_answers(workload, dataset, plan)
    own, stock = grid(cores), stock_settings(cores)
    runs: Runs = {setting: [] for setting in (*own, *stock)}
    grid_s = 0.0
    for turn in range(parsed.rounds):
        # Whoever comes after cells that left a core idle may find it faster.
        for setting in random.Random(turn).sample(list(runs), len(runs)):
            began_s = time.perf_counter()
            loader = setting.loader(workload, dataset)
            runs[setting].append(
                measure(loader, workload, step_s, parsed.seconds, setting.in_flight)
            )
            grid_s += (time.perf_counter() - began_s) * (setting in own)
    judged = judge({setting: runs[setting] for setting in own}, plan)
    again = measure_again(workload, dataset, step_s, parsed, judged["best_setting"], plan)
    chosen_again, best_again = again["chosen"]["stall"], again["best"]["stall"]
    if judged["chosen_stall"] is None:  # a plan that is no cell of the grid
        judged["chosen_stall"] = chosen_again
    is_within = judged["chosen_stall"] <= judged["best_stall"] + WITHIN
    return {
        "workload": workload.name,
        "step_ms": step_ms,
        "batch_size": workload.batch_size,
        "best": vars(judged.pop("best_setting")),
        "chosen": vars(setting_of(plan)),
        **judged,
        "is_within": is_within and judged["extra_workers"] <= MOST_EXTRA,
        "is_within_again": chosen_again <= best_again + WITHIN,
        "again": again,
        "tune_s": round(tune_s, 2),
        "grid_s": round(grid_s, 1),
        "predicted": predictions(plan, runs),
        "reasons": dict(plan.reasons),
        "grid": [{**vars(setting), **medians(runs[setting])} for setting in runs],
    }


def grid(cores: int) -> list[Setting]:
    found = [Setting(engine="inline", num_workers=0)]
    for num_workers in range(1, 2 * cores + 1):
        for depth in DEPTHS:
            found.append(Setting(engine="ring", num_workers=num_workers, per_worker=depth))
    return found


def stock_settings(cores: int) -> list[Setting]:
    """Torch's loader, as it is and as Lightning advises."""
    advised = max(1, cores - 1)
    return [
        Setting(engine="torch", num_workers=0),
        Setting(engine="torch", num_workers=advised, per_worker=2),
    ]


def judge(runs: Runs, plan: LoaderPlan) -> dict[str, Any]:
    """Hold the chosen cell against the best one."""
    stalls = {setting: medians(of_cell)["stall"] for setting, of_cell in runs.items()}
    best = min(stalls, key=lambda setting: (stalls[setting], setting.num_workers))
    reaching = [setting for setting in stalls if stalls[setting] <= stalls[best] + WITHIN]
    fewest = min(setting.num_workers for setting in reaching)
    return {
        "best_setting": best,
        "best_stall": stalls[best],
        "fewest_workers": fewest,
        "chosen_stall": stalls.get(setting_of(plan)),
        "extra_workers": plan.num_workers - fewest,
    }


def measure_again(
    workload: Workload,
    dataset: Dataset[Any],
    step_s: float,
    parsed: argparse.Namespace,
    best: Setting,
    plan: LoaderPlan,
) -> dict[str, Any]:
    """The best cell and the chosen plan in turns; the best was picked for being lucky, too."""
    fixed = replace(plan, max_workers=None)  # it is the plan that is asked about, not what follows
    seen: dict[str, list[Measured]] = {"best": [], "chosen": []}
    for _ in range(AGAIN * parsed.rounds):
        for name, of_name in seen.items():
            setting = best if name == "best" else setting_of(plan)
            loader: Any = setting.loader(workload, dataset)
            if name == "chosen":
                loader = planned(workload, dataset, fixed)
            of_name.append(measure(loader, workload, step_s, parsed.seconds, setting.in_flight))
    return {name: medians(of_name) for name, of_name in seen.items()}


def predictions(plan: LoaderPlan, runs: Runs) -> list[dict[str, Any]]:
    """What ``tune`` expected of each number of workers, beside what was seen of it."""
    found = []
    for one in plan.candidates:
        per_worker = one.prefetch_batches // one.num_workers if one.num_workers else 0
        setting = Setting(engine=one.engine, num_workers=one.num_workers, per_worker=per_worker)
        in_grid = medians(runs[setting])["stall"] if setting in runs else None
        found.append(
            {
                "num_workers": one.num_workers,
                "prefetch_batches": one.prefetch_batches,
                "predicted": rounded(one.predicted_stall_fraction),
                "tried": rounded(one.measured_stall_fraction),
                "grid": in_grid,
            }
        )
    return found


def rounded(stall: float | None) -> float | None:
    return None if stall is None else round(stall, 4)


def claims(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What the rows come to, against what was wanted."""
    rows = [row for row in rows if "grid" in row]
    wanted = round(WANTED_SHARE * len(rows))
    counts = {
        "chosen within 0.03 of the grid's best, at most one worker more than the fewest": (
            [row["is_within"] for row in rows]
        ),
        "the same when both are measured once more": [
            row["is_within_again"] and row["extra_workers"] <= MOST_EXTRA for row in rows
        ],
        "found in 10 s, or a tenth of the grid's time": [
            row["tune_s"] <= max(MOST_TUNE_S, MOST_TUNE_SHARE * row["grid_s"]) for row in rows
        ],
    }
    for claim, holds in counts.items():
        found = {"holds": sum(holds), "of": len(rows), "wanted": wanted}
        yield {"claim": claim, **found, "reached": sum(holds) >= wanted}
    ratios = [ratio for row in rows if (ratio := rate_of_chosen(row)) is not None]
    if ratios:
        yield {
            "chosen": "samples a second of its cell, of the grid's most",
            "median": round(statistics.median(ratios), 3),
            "least": round(min(ratios), 3),
            "of": len(ratios),
        }
    for has_workers, what in enumerate(("without workers", "with all cores but one")):
        holds = sum(
            cell["stall"] <= row["best_stall"] + WITHIN
            for row in rows
            for cell in row["grid"]
            if cell["engine"] == "torch" and bool(cell["num_workers"]) == bool(has_workers)
        )
        yield {"torch": f"{what}, within 0.03 of the best", "holds": holds, "of": len(rows)}
    for seen in ("tried", "grid"):
        yield {"replay": f"predicted against {seen}", **errors_of(rows, seen)}


def rate_of_chosen(row: dict[str, Any]) -> float | None:
    """Of the most samples a second that any cell of the grid gave; ``None``: no cell of it."""
    own = [cell for cell in row["grid"] if cell["engine"] != "torch"]
    most = max(cell["samples_per_s"] for cell in own)
    same = [cell for cell in own if row["chosen"].items() <= cell.items()]
    return same[0]["samples_per_s"] / most if same else None


def tally(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """How many of the controller's runs reached what was wanted of them."""
    seen: dict[str, list[bool]] = {}
    for row in rows:
        for name, reached in row.get("reached", {}).items():
            seen.setdefault(name, []).append(reached)
    for name, holds in seen.items():
        yield {"claim": name, "holds": sum(holds), "of": len(holds), "reached": all(holds)}


def errors_of(rows: list[dict[str, Any]], seen: str) -> dict[str, Any]:
    errors = [
        abs(one["predicted"] - one[seen])
        for row in rows
        for one in row["predicted"]
        if one["predicted"] is not None and one[seen] is not None
    ]
    if not errors:
        return {"candidates": 0}
    return {
        "candidates": len(errors),
        "median": round(statistics.median(errors), 4),
        "worst": round(max(errors), 4),
        "within_0.03": sum(error <= WITHIN for error in errors),
    }


if __name__ == "__main__":
    main()
