"""From everything that was read of a machine to one ``Machine``: a pure function of its texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lightning_fastdata.machine.cgroup import (
    CONTROLLER_FILES,
    CgroupDirectories,
    cgroup_directories,
)
from lightning_fastdata.machine.cores import count_local_ranks, share_cores, tightest_quota
from lightning_fastdata.machine.hardware import parse_accelerators, parse_cpu_model
from lightning_fastdata.machine.memory import MemoryShare, share_memory
from lightning_fastdata.machine.slurm import read_slurm
from lightning_fastdata.machine.value import Machine

_CONTAINER_SHM_BYTES = 64 * 2**20  # what Docker and Kubernetes give a container that asks for none


@dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """What was read of a machine, before any judgement; ``None`` is what could not be read."""

    platform: str
    """As ``sys.platform`` has it."""
    environ: Mapping[str, str]
    texts: Mapping[str, str]
    """Path to text of every file that could be read, in /proc and in the cgroup directories."""
    unreadable: Mapping[str, str]
    """Path to reason of every file that is there but could not be read."""
    machine_cores: int | None
    affinity_cores: int | None
    parent_affinity_cores: int | None
    """Affinity of the process that started this one."""
    psutil_memory_bytes: tuple[int, int] | None
    """Available and total, for platforms without ``/proc/meminfo``."""
    shm_bytes: tuple[int, int] | None
    """Total and free."""
    file_descriptor_limits: tuple[int | None, int | None] | None
    """Soft and hard; ``None`` inside is no limit."""
    file_descriptors_open: int | None


def controller_directories(texts: Mapping[str, str], controller: str) -> CgroupDirectories:
    """List this process's cgroup directories from the two texts in ``/proc/self``."""
    cgroup_text, mountinfo_text = texts.get("/proc/self/cgroup"), texts.get("/proc/self/mountinfo")
    if cgroup_text is None or mountinfo_text is None:
        return CgroupDirectories()
    return cgroup_directories(cgroup_text, mountinfo_text, controller)


def limit_paths(texts: Mapping[str, str]) -> list[str]:
    """List every cgroup file that may limit this process; many of them do not exist."""
    return [
        f"{directory}/{name}"
        for controller, names in CONTROLLER_FILES.items()
        for directory in controller_directories(texts, controller).paths
        for name in names
    ]


def machine_from(readings: Readings, local_world_size: int | None = None) -> Machine:
    """Judge what was read: the tightest of all limits counts, and each comes with its reason.

    Args:
        readings: What was read. Nothing in it can make this fail: what is odd becomes a note.
        local_world_size: Ranks on this machine; ``None`` reads it from the environment.

    Raises:
        SettingsError: ``local_world_size`` is below 1.
    """
    texts = readings.texts
    slurm = read_slurm(readings.environ)
    ranks = count_local_ranks(local_world_size, readings.environ, slurm)
    cpu_directories = controller_directories(texts, "cpu")
    quota = tightest_quota(cpu_directories.paths, texts)
    affinity_cores = readings.affinity_cores or readings.machine_cores or 1
    cores = share_cores(
        machine_cores=readings.machine_cores or affinity_cores,
        affinity_cores=affinity_cores,
        parent_affinity_cores=_launcher_affinity_cores(readings),
        quota=quota,
        slurm=slurm,
        ranks=ranks,
    )
    memory_directories = controller_directories(texts, "memory")
    memory = _share_memory(readings, memory_directories.paths)
    soft, hard = readings.file_descriptor_limits or (None, None)
    shm_total_bytes, shm_free_bytes = readings.shm_bytes or (None, None)
    sources = (cpu_directories, memory_directories, quota, slurm, ranks, cores, memory)
    notes = [*_reading_notes(readings), *(note for source in sources for note in source.notes)]
    return Machine(
        cores=cores.cores,
        cores_reason=cores.reason,
        affinity_cores=affinity_cores,
        quota_cores=quota.cores,
        local_world_size=ranks.count,
        memory_available_bytes=memory.available_bytes,
        memory_total_bytes=memory.total_bytes,
        memory_reason=memory.reason,
        shm_total_bytes=shm_total_bytes,
        shm_free_bytes=shm_free_bytes,
        file_descriptors_soft=soft,
        file_descriptors_hard=hard,
        file_descriptors_open=readings.file_descriptors_open,
        platform=readings.platform,
        cpu_model=parse_cpu_model(texts.get("/proc/cpuinfo", "")),
        accelerators=parse_accelerators(_gpu_texts(texts)),
        notes=tuple(dict.fromkeys(notes)),  # two controllers may tell the same
    )


def _share_memory(readings: Readings, directories: Sequence[str]) -> MemoryShare:
    share = share_memory(readings.texts.get("/proc/meminfo"), directories, readings.texts)
    if share.available_bytes is not None or readings.psutil_memory_bytes is None:
        return share
    available_bytes, total_bytes = readings.psutil_memory_bytes
    reason = f"{available_bytes / 2**30:.2f} GiB: what psutil tells is available."
    return replace(share, available_bytes=available_bytes, total_bytes=total_bytes, reason=reason)


def _launcher_affinity_cores(readings: Readings) -> int | None:
    """Give the parent's affinity under torchrun; any other parent may be just a shell."""
    return readings.parent_affinity_cores if readings.environ.get("LOCAL_WORLD_SIZE") else None


def _gpu_texts(texts: Mapping[str, str]) -> list[str]:
    return [texts[path] for path in sorted(texts) if path.startswith("/proc/driver/nvidia/gpus/")]


def _reading_notes(readings: Readings) -> list[str]:
    notes = [
        f"{path} could not be read ({reason}); what it limits is not counted."
        for path, reason in readings.unreadable.items()
    ]
    if not readings.platform.startswith("linux"):
        notes.append(
            f"on {readings.platform} affinity, CPU quotas and memory limits of containers are not "
            "read: every core of the machine counts, and memory is what psutil tells."
        )
    else:
        if not {"/proc/self/cgroup", "/proc/self/mountinfo"} <= readings.texts.keys():
            notes.append(
                "/proc/self/cgroup and /proc/self/mountinfo were not both read: limits of "
                "containers are not measured."
            )
        if readings.affinity_cores is None:
            notes.append("the affinity could not be read: every core of the machine counts.")
    if readings.affinity_cores is None and readings.machine_cores is None:
        notes.append("the number of cores could not be read: 1 is assumed.")
    if readings.file_descriptor_limits is None:
        notes.append(f"the limit of open files is not measured on {readings.platform}.")
    if readings.shm_bytes is not None and readings.shm_bytes[0] <= _CONTAINER_SHM_BYTES:
        notes.append(
            f"/dev/shm holds {readings.shm_bytes[0] / 2**20:.0f} MiB, a container's default; "
            "worker processes pass batches through it. Start the container with --shm-size or "
            "--ipc=host (Kubernetes: an emptyDir with medium Memory on /dev/shm)."
        )
    return notes
