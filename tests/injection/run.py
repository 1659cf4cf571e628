"""Does the profiler tell the truth about a known bottleneck, and does its prediction hold?

Run ``python tests/injection/run.py`` on a quiet machine (about 5 minutes). It prints a JSON line a
case: the cause that was named, the stall that was said and the true one, and the stall that was
predicted for the advised change beside the one that the run with that change really had. The lines
go to ``tests/injection/results`` with the machine that they were measured on.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # before the imports below, which lie there
sys.path.insert(0, str(Path(__file__).parent))

from injection_cases import CASES, Injected
from injection_outcome import Outcome, outcome_of
from injection_ranks import RANKS_CASE, outcome_of_ranks

from lightning_fastdata.machine import facts, read_machine

RESULTS = Path(__file__).parent / "results" / "injection_amd-epyc_2cores.jsonl"
ENOUGH_PREDICTIONS = 12
STRAGGLER = "straggling_rank-torch"


def main() -> int:
    """Run all cases, or those that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[*CASES, STRAGGLER], help="names of cases")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the rows are kept")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows = [_row(name) for name in options.only]
    held = [
        row["case"]
        for row in rows
        if row["measured"] is not None and not any("predicted" in miss for miss in row["misses"])
    ]
    total = {
        "cases": len(rows),
        "without_a_miss": sum(not row["misses"] for row in rows),
        "predictions_that_held": len(held),
        "enough": len(held) >= ENOUGH_PREDICTIONS,
        "machine": facts(read_machine(os.environ)),
    }
    print(json.dumps(total))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text("".join(json.dumps(row) + "\n" for row in [*rows, total]))
    return 0 if total["without_a_miss"] == len(rows) else 1


def _row(name: str) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="injection-"))
    try:
        case, outcome = _outcome(name, folder / "run")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    row = outcome.row(name, case)
    print(json.dumps(row), flush=True)
    return row


def _outcome(name: str, folder: Path) -> tuple[Injected, Outcome]:
    if name == STRAGGLER:
        return RANKS_CASE, outcome_of_ranks(folder)
    return CASES[name], outcome_of(CASES[name], folder)


if __name__ == "__main__":
    sys.exit(main())
