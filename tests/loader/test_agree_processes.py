"""Two real processes agree through the store that they were started with."""

import json
from pathlib import Path

import pytest
from two_ranks import run_two_ranks

from lightning_fastdata.loader.agree import EXPIRES_WINDOWS

PROGRAM = """
import datetime, json, os, signal, subprocess, sys
from pathlib import Path
import torch.distributed as dist
from lightning_fastdata.loader.agree import EXPIRES_WINDOWS, agreement_for

folder, dies = Path(sys.argv[1]), sys.argv[2]
first = 1 if dies == "server" else 0  # which rank this program is before it starts the other
rank = int(os.environ.get("RANK", first))
other = None
if "RANK" not in os.environ:
    other = subprocess.Popen([sys.executable, *sys.argv], env=os.environ | {"RANK": str(1 - first)})
os.environ["MASTER_ADDR"] = "127.0.0.1"
dist.init_process_group("gloo", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60))
store = dist.distributed_c10d._get_default_store()

agreement = agreement_for("train", num_workers=1, most_workers=16)
wish, used = (2, 5)[rank], []
for window in range(3):
    used.append(agreement.propose(wish, 0.1))
    dist.barrier()
before = used[-1]
if dies == "none":
    wish = 3
    if rank == 1:
        used.append(agreement.propose(wish, 0.0))  # nobody else is at a window just now
    dist.barrier()
    used.append(agreement.propose(wish, 0.0))
    dist.barrier()
elif other is None:
    os.kill(os.getpid(), signal.SIGKILL)
else:
    other.wait()
    for _ in range(EXPIRES_WINDOWS + 1):
        used.append(agreement.propose(used[-1], 0.0))  # its controller is content
(folder / f"rank{rank}.json").write_text(json.dumps({"before": before, "used": used}))
if dies == "none":
    dist.destroy_process_group()
    sys.exit(other.wait() if other else 0)
os._exit(0)  # without the other rank, torch's own end would wait for it
"""


def numbers_of(folder: Path, rank: int) -> tuple[int, list[int]]:
    told = json.loads((folder / f"rank{rank}.json").read_text())
    return told["before"], told["used"]


@pytest.mark.slow
def test_two_processes_come_to_one_number_and_down_again(tmp_path: Path) -> None:
    run_two_ranks(PROGRAM, tmp_path, "none", beside=Path(__file__))

    for rank in range(2):
        before, used = numbers_of(tmp_path, rank)
        assert (before, used[-1]) == (5, 3)


@pytest.mark.slow
def test_a_rank_that_dies_holds_nobody_up_and_is_forgotten(tmp_path: Path) -> None:
    run_two_ranks(PROGRAM, tmp_path, "client", beside=Path(__file__))

    before, used = numbers_of(tmp_path, 0)
    assert before == 5
    assert used[3] == 5
    assert used[-1] == 2
    assert used[3:].count(5) <= EXPIRES_WINDOWS


@pytest.mark.slow
def test_where_the_store_dies_with_its_rank_the_other_goes_on_alone(tmp_path: Path) -> None:
    run_two_ranks(PROGRAM, tmp_path, "server", beside=Path(__file__))

    before, used = numbers_of(tmp_path, 1)
    assert before == 5
    assert used[3:] == [5] * (EXPIRES_WINDOWS + 1)
