"""Two ranks that train in step, one of which has a slow loader."""

import json
from pathlib import Path

from injection_cases import Injected
from injection_outcome import Outcome
from injection_rig import Setup
from two_ranks import run_two_ranks

from lightning_fastdata.stalls.json_form import summary_from_json

PROGRAM = """
import json, sys
from pathlib import Path
from bottlenecks import Timed
from injection_rig import Setup, run_once
import os

folder, rank = Path(sys.argv[1]), int(os.environ.get("LOCAL_RANK", "0"))
setup = Setup(
    dataset=Timed(70 * 4, sleep_s=0.015 if rank else 0.001),
    loader={"batch_size": 4, "num_workers": 1},
    trainer={"devices": 2, "strategy": "ddp", "use_distributed_sampler": False},
)
run = run_once(setup, folder)
notes = {"truth": run.truth, "is_overloaded": run.is_overloaded}
(folder / f"rank{rank}.json").write_text(json.dumps(notes))
"""


def _setup(folder: Path) -> Setup:
    raise NotImplementedError("two processes run it: see PROGRAM")


RANKS_CASE = Injected(setup=_setup, cause="rank_straggler", is_predicted=False)


def outcome_of_ranks(folder: Path) -> Outcome:
    """Train with two processes; give what rank 0 says."""
    folder.mkdir(parents=True, exist_ok=True)
    run_two_ranks(PROGRAM, folder, beside=Path(__file__))
    notes = json.loads((folder / "rank0.json").read_text())
    summary = summary_from_json((folder / "summary.json").read_text(encoding="utf-8"))
    first = next(iter(summary.findings), None)
    return Outcome(
        cause=None if first is None else first.cause,
        stall=summary.stall_fraction or 0.0,
        truth=notes["truth"],
        worst=max((each.stall_fraction for each in summary.findings), default=0.0),
        predicted=None,
        measured=None,
        is_followed=None,
        advice="" if first is None else first.advice,
        is_overloaded=notes["is_overloaded"],
    )
