"""Does a run survive what is done to its processes, and lose nothing? All campaigns, by hand.

Run ``make campaign`` (about 45 minutes), or ``python tests/campaign/run.py --only kills --short``;
it prints one JSON line a campaign. Seeds are fixed, but not the moments at which the kernel lets
the processes run: two runs kill at other places.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

SEED = 20_261_123
HERE = Path(__file__).parent
MAY_TAKE_S = 3600.0


class Campaign(NamedTuple):
    """One function, and how much of it: in the tests, and by hand."""

    module: str
    short: int | None
    full: int | None


CAMPAIGNS = {
    "kills": Campaign("kills", 100, 1000),
    "nursery_kills": Campaign("kills", 10, 50),
    "throughput": Campaign("kills", 1, 15),
    "hangs": Campaign("hangs", 30, 200),
    "parent_kills": Campaign("orphans", 5, 50),
    "rlimit": Campaign("starved", None, None),
    "cgroup": Campaign("starved", None, None),
    "soak": Campaign("soak", 120, 1200),
}
"""By the name of the function."""


def run(name: str, *, short: bool = True, seed: int = SEED) -> dict[str, Any]:
    """Run a campaign in a process of its own.

    Returns:
        What it found; ``failed`` is what it wrote if it did not end well, as when no batch came
        for so long that its watchdog ended it.
    """
    campaign = CAMPAIGNS[name]
    amount = campaign.short if short else campaign.full
    command = [sys.executable, str(HERE / "run.py"), "--inside", name, "--seed", str(seed)]
    command += [] if amount is None else ["--amount", str(amount)]
    begun_s = time.monotonic()
    ended = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if short else None,
        text=True,
        timeout=MAY_TAKE_S,
    )
    took_s = round(time.monotonic() - begun_s, 1)
    if ended.returncode:
        return {"campaign": name, "failed": ended.returncode, "stderr": ended.stderr}
    found: dict[str, Any] = json.loads(ended.stdout)
    return found | {"failed": None, "took_s": took_s}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", help="names of campaigns, with commas between them")
    parser.add_argument("--short", action="store_true", help="the tests' amounts")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--inside", choices=CAMPAIGNS, help="run this one in this process")
    parser.add_argument("--amount", type=int, help="how much of it")
    given = parser.parse_args()
    if given.inside:
        found = getattr(importlib.import_module(CAMPAIGNS[given.inside].module), given.inside)
        amount = [] if given.amount is None else [given.amount]
        print(json.dumps(found(*amount, given.seed)))
        return
    rows = []
    machine = _machine()
    for name in given.only.split(",") if given.only else CAMPAIGNS:
        print(f"{name}, seed {given.seed} ...", file=sys.stderr, flush=True)
        rows.append(run(name, short=given.short, seed=given.seed) | {"machine": machine})
        print(json.dumps(rows[-1]), flush=True)
    if given.json is not None:
        sys.path.append(str(HERE.parent / "benchmarks"))
        importlib.import_module("harness").write(rows, given.json)


def _machine() -> Any:
    from lightning_fastdata.machine import facts, read_machine

    return facts(read_machine(os.environ))


if __name__ == "__main__":
    main()
