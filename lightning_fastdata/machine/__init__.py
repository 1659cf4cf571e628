"""What this process may use: cores, memory, shared memory and files, each with its reason.

``cgroup``, ``slurm``, ``cores``, ``memory``, ``hardware``, ``gpus``, ``numa`` and ``siblings`` are
pure functions of texts; ``readings`` joins them into a ``Machine``, and ``budget`` says how many
workers that is; only ``read``, ``limits`` and ``oom`` ask the system. Nothing here imports torch.
"""

from lightning_fastdata.machine.budget import most_workers_on, worker_budget
from lightning_fastdata.machine.cores import whole_cores
from lightning_fastdata.machine.numa import NearCores
from lightning_fastdata.machine.read import (
    read_host_id,
    read_machine,
    read_near_cores,
    read_rank_cores,
)
from lightning_fastdata.machine.value import Machine, facts

__all__ = [
    "Machine",
    "NearCores",
    "facts",
    "most_workers_on",
    "read_host_id",
    "read_machine",
    "read_near_cores",
    "read_rank_cores",
    "whole_cores",
    "worker_budget",
]
