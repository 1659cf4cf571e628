"""What every benchmark shares: variants take turns, and each row says where it was measured.

A variant is a function that does a fixed piece of work and returns how many samples it made. The
cores may be shared and noisy, so the figure to quote is a ratio of medians within one run.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning_fastdata.machine import facts, read_machine

Variant = Callable[[], int]
WARMUP = 1


def arguments(question: str) -> argparse.ArgumentParser:
    """Arguments that every benchmark takes."""
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--rounds", type=int, default=9, help="turns that each variant gets")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    return parser


def take_turns(
    variants: Mapping[str, Variant],
    rounds: int,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, list[float]]:
    """Run the variants in turn, so that drift hits all alike.

    Returns:
        Samples per second of each variant and round, by the clock; the warm-up is left out.
    """
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(WARMUP + rounds):
        for name, run in variants.items():
            start_ns = clock_ns()
            samples = run()
            spent_ns = clock_ns() - start_ns
            if turn >= WARMUP:
                rates[name].append(samples / spent_ns * 1e9)
    return rates


def report(
    benchmark: str,
    rates: Mapping[str, list[float]],
    claims: Mapping[str, tuple[str, str, float]],
    path: Path | None,
    **details: Any,
) -> list[dict[str, Any]]:
    """Print one JSON line a variant and one a claim, and keep them all in ``path`` if given.

    Args:
        benchmark: Its name.
        rates: From ``take_turns``.
        claims: What is claimed: a name, and (variant, compared with, ratio wanted).
        path: Where to keep the rows.
        **details: What was measured with: batch size, worker count, ...

    Returns:
        The rows.
    """
    machine = facts(read_machine(os.environ))
    rows: list[dict[str, Any]] = []
    for name, values in rates.items():
        quarter, median, three_quarters = statistics.quantiles(values, n=4)
        rows.append(
            {
                "benchmark": benchmark,
                "variant": name,
                "samples_per_s_median": round(median, 1),
                "samples_per_s_quartiles": [round(quarter, 1), round(three_quarters, 1)],
                "rounds": len(values),
                **details,
                "machine": machine,
            }
        )
    for claim, (variant, other, wanted) in claims.items():
        ratio = statistics.median(rates[variant]) / statistics.median(rates[other])
        turns = [a / b for a, b in zip(rates[variant], rates[other], strict=True)]
        quarter, _, three_quarters = statistics.quantiles(turns, n=4)
        rows.append(
            {
                "benchmark": benchmark,
                "claim": claim,
                "ratio_of_medians": round(ratio, 3),
                "ratio_quartiles_by_round": [round(quarter, 3), round(three_quarters, 3)],
                "wanted": wanted,
                "reached": ratio >= wanted,
            }
        )
    for row in rows:
        print(json.dumps(row))
    if path is not None:
        write(rows, path)
    return rows


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Keep rows in a file, one JSON line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
