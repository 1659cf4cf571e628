"""The one place that opens /proc and /sys: it collects what is there and judges nothing."""

import contextlib
import glob
import os
import socket
import sys
from collections.abc import Mapping, Sequence

import psutil  # type: ignore[import-untyped]  # it ships no types

from lightning_fastdata.machine.cores import whole_cores
from lightning_fastdata.machine.numa import ONLINE_NODES, NearCores, numa_paths, worker_cores
from lightning_fastdata.machine.readings import Readings, limit_paths, machine_from
from lightning_fastdata.machine.siblings import choose_rank_cores, siblings_path
from lightning_fastdata.machine.value import Machine

_PROC_PATHS = ("/proc/self/cgroup", "/proc/self/mountinfo", "/proc/meminfo", "/proc/cpuinfo")
_GPU_PATHS = "/proc/driver/nvidia/gpus/*/information"
_BOOT_PATH = "/proc/sys/kernel/random/boot_id"


def read_machine(environ: Mapping[str, str], local_world_size: int | None = None) -> Machine:
    """Measure what this process may use: cores, memory, ``/dev/shm`` and open files.

    It starts nothing, initialises no driver, and what cannot be read becomes a note.

    Args:
        environ: The environment, usually ``os.environ``: SLURM's and torchrun's variables are read.
        local_world_size: Ranks on this machine, which share its cores; ``None`` reads it from
            ``environ``.

    Returns:
        What may be used at this moment.

    Raises:
        SettingsError: ``local_world_size`` is below 1.
    """
    return machine_from(collect_readings(environ), local_world_size)


def read_near_cores(
    environ: Mapping[str, str], machine: Machine, device: int | str | None = None
) -> NearCores:
    """Find the cores near this rank's GPU, where the machine has more than one memory node.

    Args:
        environ: The environment, usually ``os.environ``.
        machine: What this rank may use.
        device: The number by which CUDA knows the rank's GPU, or its PCI address or uuid;
            ``None`` goes by the local rank.

    Returns:
        The cores for its workers, or ``None`` where they may as well run anywhere; with the reason.
    """
    if sys.platform != "linux":
        return NearCores(cores=None, reason=f"memory nodes are not read on {sys.platform}")
    texts: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    _read_into((ONLINE_NODES, *glob.glob(_GPU_PATHS)), texts, unreadable)
    _read_into(numa_paths(texts), texts, unreadable)
    try:
        affinity = os.sched_getaffinity(0)
    except OSError as error:
        return NearCores(cores=None, reason=f"the affinity could not be read ({error})")
    return worker_cores(
        texts,
        environ,
        affinity=affinity,
        share_cores=machine.cores,
        local_world_size=machine.local_world_size,
        device=device,
    )


def read_rank_cores(machine: Machine) -> frozenset[int] | None:
    """Find cores that stand for this rank's share of those it may run on.

    Args:
        machine: What this rank may use.

    Returns:
        The kernel's numbers of so many whole cores; ``None`` where the system cannot say.
    """
    if sys.platform != "linux":
        return None
    try:
        affinity = os.sched_getaffinity(0)
    except OSError:
        return None
    texts: dict[str, str] = {}
    _read_into([siblings_path(core) for core in affinity], texts, {})
    return choose_rank_cores(texts, affinity, whole_cores(machine.cores))


def read_host_id() -> str:
    """Tell this machine, or container, from any other: by its name and by when it started.

    The name alone may be that of every machine (``localhost``). Ranks in two containers on one
    machine differ, as do their limits.
    """
    texts: dict[str, str] = {}
    _read_into((_BOOT_PATH,), texts, {})
    return f"{socket.gethostname()}/{texts.get(_BOOT_PATH, 'boot not known').strip()}"


def collect_readings(environ: Mapping[str, str]) -> Readings:
    """Read everything that says what this process may use, on any platform."""
    texts: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    _read_into(_PROC_PATHS, texts, unreadable)
    _read_into(limit_paths(texts), texts, unreadable)
    _read_into(glob.glob(_GPU_PATHS), texts, unreadable)
    return Readings(
        platform=sys.platform,
        environ=environ,
        texts=texts,
        unreadable=unreadable,
        machine_cores=os.cpu_count(),
        affinity_cores=_own_affinity_cores(),
        parent_affinity_cores=_parent_affinity_cores(),
        psutil_memory_bytes=_psutil_memory_bytes(),
        shm_bytes=_shm_bytes(),
        file_descriptor_limits=_file_descriptor_limits(),
        file_descriptors_open=_open_file_descriptors(),
    )


def _read_into(paths: Sequence[str], texts: dict[str, str], unreadable: dict[str, str]) -> None:
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                texts[path] = file.read()
        except (FileNotFoundError, NotADirectoryError):
            continue  # most systems have only some of these files
        except OSError as error:
            unreadable[path] = error.strerror or str(error)


def _own_affinity_cores() -> int | None:
    """Count the cores of the calling thread, which is the one that workers inherit from."""
    counts = [_affinity_cores(0)]
    if sys.version_info >= (3, 13):
        counts.append(os.process_cpu_count())  # also honours PYTHON_CPU_COUNT
    return min((count for count in counts if count), default=None)


def _parent_affinity_cores() -> int | None:
    # A parent outside this process's namespace has the number 0, which would mean ourselves.
    return _affinity_cores(os.getppid()) if os.getppid() > 0 else None


def _affinity_cores(process: int) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        return len(os.sched_getaffinity(process))
    except OSError:
        return None


def _psutil_memory_bytes() -> tuple[int, int] | None:
    try:
        memory = psutil.virtual_memory()
    except (OSError, psutil.Error, ValueError, RuntimeError):  # odd containers: not measured
        return None
    return memory.available, memory.total


def _shm_bytes() -> tuple[int, int] | None:
    if sys.platform == "win32" or not os.path.isdir("/dev/shm"):
        return None
    try:
        sizes = os.statvfs("/dev/shm")
    except OSError:
        return None
    return sizes.f_blocks * sizes.f_frsize, sizes.f_bavail * sizes.f_frsize


def _file_descriptor_limits() -> tuple[int | None, int | None] | None:
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    soft, hard = (
        None if limit == resource.RLIM_INFINITY else limit
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    return soft, hard


def _open_file_descriptors() -> int | None:
    for directory in ("/proc/self/fd", "/dev/fd"):  # Linux; macOS
        with contextlib.suppress(OSError):
            return len(os.listdir(directory)) - 1  # without the one that lists them
    return None
