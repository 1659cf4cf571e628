"""What this process may use: cores, memory, shared memory and files, each with its reason.

``cgroup``, ``slurm``, ``cores``, ``memory`` and ``hardware`` are pure functions of texts;
``readings`` joins them into a ``Machine``; only ``read``, ``limits`` and ``oom`` ask
the system. Nothing here imports torch.
"""

from lightning_fastdata.machine.cores import whole_cores
from lightning_fastdata.machine.read import read_machine
from lightning_fastdata.machine.value import Machine, facts

__all__ = ["Machine", "facts", "read_machine", "whole_cores"]
