"""What a machine is like for loading data: pure functions of what was read of it."""

import sys
from collections.abc import Iterator

from lightning_fastdata.checkup.result import Check
from lightning_fastdata.machine import Machine
from lightning_fastdata.machine.limits import Limits

FEW_MEMORY_BYTES = 2 * 2**30  # guess: torch and a few workers take about one GiB before any batch
FEW_SHM_BYTES = 2**30  # guess: some batches of pictures for each of a few of torch's workers
FEW_FILES = 1024  # the usual soft limit of Linux; macOS has 256
FEW_ADDRESS_BYTES = 64 * 2**30  # guess: a process with CUDA maps about 40 GiB that it never uses
FEW_PROCESSES = 1024  # guess: each worker has several threads, and so have all other programs


def check_machine(
    machine: Machine,
    limits: Limits | None,
    *,
    oom_kills: int | None,
    ring_problem: str | None,
    start_method: str,
    threads: int,
) -> list[Check]:
    """Judge what was read of a machine.

    Args:
        machine: What this process may use.
        limits: Its limits; ``None`` where the system has none.
        oom_kills: Processes of this container that were killed for memory; ``None`` is not known.
        ring_problem: Why the ring cannot serve here; ``None`` where it can.
        start_method: How workers are started here.
        threads: Python threads of this process.
    """
    return [
        _cores(machine),
        _memory(machine),
        _shared_memory(machine, ring_problem),
        _files(machine),
        *_limits(limits),
        _kills(oom_kills),
        _ring(ring_problem),
        _start(start_method, threads),
    ]


def gib(number_bytes: float) -> str:
    """Return bytes in the unit that suits their number."""
    for unit, size_bytes in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number_bytes >= size_bytes:
            return f"{number_bytes / size_bytes:.3g} {unit}"
    return f"{number_bytes:.0f} bytes"


def _cores(machine: Machine) -> Check:
    reason = machine.cores_reason.rstrip(".")
    if machine.cores < 2:
        return Check(
            name="cores",
            level="warning",
            found=reason,
            wanted="2 or more, so that a worker does not take the training process's time",
            remedy="Ask for more cores: docker --cpus, Kubernetes limits.cpu, SLURM "
            "--cpus-per-task.",
        )
    if machine.quota_cores is not None and machine.quota_cores < machine.affinity_cores:
        return Check(
            name="cores",
            level="note",
            found=f"{reason}; programs that count cores see {machine.affinity_cores}",
            wanted=f"no more busy threads than {machine.cores:g} cores",
            remedy=f"Set OMP_NUM_THREADS={int(machine.cores)}; num_workers='auto' counts right.",
        )
    return Check(name="cores", level="ok", found=reason)


def _memory(machine: Machine) -> Check:
    reason = machine.memory_reason.rstrip(".")
    free_bytes = machine.memory_available_bytes
    if free_bytes is not None and free_bytes < FEW_MEMORY_BYTES:
        return Check(
            name="memory",
            level="warning",
            found=reason,
            wanted=f"{gib(FEW_MEMORY_BYTES)} or more; a process that takes more is killed",
            remedy="Raise the container's or the job's memory, or use fewer workers.",
        )
    return Check(name="memory", level="ok", found=reason)


def _shared_memory(machine: Machine, ring_problem: str | None) -> Check:
    total_bytes, free_bytes = machine.shm_total_bytes, machine.shm_free_bytes
    if total_bytes is None or free_bytes is None:
        return Check(name="/dev/shm", level="ok", found="none here, and none is needed")
    found = f"{gib(free_bytes)} free of {gib(total_bytes)}"
    if free_bytes >= FEW_SHM_BYTES:
        return Check(name="/dev/shm", level="ok", found=found)
    return Check(
        name="/dev/shm",
        level="note" if ring_problem is None else "warning",
        found=f"{found}; the ring takes none of it, torch's own DataLoader fails when it is full"
        if ring_problem is None
        else f"{found}; workers pass batches through it and are killed when it is full",
        wanted=f"{gib(FEW_SHM_BYTES)} or more",
        remedy="Start the container with --shm-size=8g or --ipc=host (Kubernetes: an emptyDir "
        "with medium Memory on /dev/shm).",
    )


def _files(machine: Machine) -> Check:
    soft, hard, used = (
        machine.file_descriptors_soft,
        machine.file_descriptors_hard,
        machine.file_descriptors_open,
    )
    if soft is None:
        return Check(name="open files", level="ok", found="no limit")
    found = f"at most {soft:,} ({used or 0:,} in use)"
    if soft >= FEW_FILES:
        return Check(name="open files", level="ok", found=found)
    may_raise = hard is None or hard > soft
    return Check(
        name="open files",
        level="warning",
        found=found,
        wanted=f"{FEW_FILES:,} or more; each batch in flight, worker and data file takes some",
        remedy=f"Run ulimit -n {'65536' if hard is None else hard} in the shell before training."
        if may_raise
        else "Ask the administrator for a higher limit (nofile in /etc/security/limits.conf).",
    )


def _limits(limits: Limits | None) -> Iterator[Check]:
    if limits is None:
        return
    locked_bytes = limits.locked_memory_bytes
    locked = "no limit" if locked_bytes is None else f"at most {gib(locked_bytes)}"
    if locked_bytes is not None:
        locked += "; CUDA's page-locked memory is not counted in it, InfiniBand's is"
    yield Check(name="locked memory", level="ok", found=locked)
    for name, option, limit_bytes in (
        ("address space", "-v", limits.address_space_bytes),
        ("data memory", "-d", limits.data_bytes),
    ):
        if limit_bytes is not None:
            low = limit_bytes < FEW_ADDRESS_BYTES
            yield Check(
                name=name,
                level="warning" if low else "note",
                found=f"at most {gib(limit_bytes)} for each process",
                wanted="no limit: much of what a process maps is never used",
                remedy=f"Run ulimit {option} unlimited, and limit memory by the container or job.",
            )
    if limits.processes is not None and limits.processes < FEW_PROCESSES:
        yield Check(
            name="processes",
            level="warning",
            found=f"at most {limits.processes:,} processes and threads of this user",
            wanted=f"{FEW_PROCESSES:,} or more; workers cannot start beyond it",
            remedy="Run ulimit -u 4096, or raise the container's limit (docker --pids-limit).",
        )


def _kills(oom_kills: int | None) -> Check:
    if oom_kills:
        times = "once" if oom_kills == 1 else f"{oom_kills:,} times"
        return Check(
            name="kills for memory",
            level="note",
            found=f"the system has killed a process of this container {times} because memory "
            "ran out",
            wanted="none",
            remedy="If it was a worker: use fewer workers or smaller batches, or raise the memory.",
        )
    found = "none in this container" if oom_kills == 0 else "not measured"
    return Check(name="kills for memory", level="ok", found=found)


def _ring(ring_problem: str | None) -> Check:
    if ring_problem is None:
        return Check(name="ring", level="ok", found="can serve: workers fill batches in place")
    return Check(
        name="ring",
        level="note",
        found=ring_problem,
        wanted="Linux with memfd_create",
        remedy="Nothing: torch's own workers are used, which are slower for large batches.",
    )


def _start(start_method: str, threads: int) -> Check:
    found = (
        f"{start_method}, the default of Python {sys.version_info[0]}.{sys.version_info[1]} here"
    )
    if start_method == "fork" and threads > 1:
        return Check(
            name="start method",
            level="note",
            found=f"fork, while {threads} threads run in this process",
            wanted="a fork without other threads: a lock that one holds stays locked in workers",
            remedy='If workers hang at the first batch, pass multiprocessing_context="spawn".',
        )
    return Check(name="start method", level="ok", found=found)
