
import json, sys
from pathlib import Path
from bottlenecks import Timed
from injection_rig import Setup, run_once
import os

folder, rank = Path(sys.argv[1]), int(os.environ.get("LOCAL_RANK", "0"))
setup = Setup(
    dataset=Timed(70 * 4, sleep_s=0.012 if rank else 0.001),
    loader={"batch_size": 4, "num_workers": 1},
    trainer={"devices": 2, "strategy": "ddp", "use_distributed_sampler": False},
)
run = run_once(setup, folder)
notes = {"truth": run.truth, "lateness": run.lateness}
(folder / f"rank{rank}.json").write_text(json.dumps(notes))
