"""What this process may use, as one value, and the same as plain facts for reports."""

import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TypeAlias

Fact: TypeAlias = str | int | float | list[str] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What this process may use of its machine, measured once; nothing here is reserved."""

    cores: float
    """Cores this rank may keep busy. Never more than its affinity; a fraction is CPU time
    (``whole_cores`` rounds it). Below 2, worker processes compete with the training process."""
    cores_reason: str
    """The sentence that says which limit gave ``cores``, and which were looser."""
    affinity_cores: int
    """Cores this process may run on, whoever else runs there too."""
    quota_cores: float | None
    """The tightest CPU quota of the cgroup, for all local ranks together; ``None`` is no quota."""
    local_world_size: int
    """Ranks that share this machine. Memory, /dev/shm and the quota are shared by all of them."""
    memory_available_bytes: int | None
    """Memory that can still be taken, by all local ranks together; ``None`` is not measured."""
    memory_total_bytes: int | None
    """Memory of the whole machine, whatever a container may take; ``None`` is not measured."""
    memory_reason: str
    """The sentence that says which limit gave ``memory_available_bytes``."""
    shm_total_bytes: int | None
    """Size of ``/dev/shm``. 64 MiB is a container's default, too little to pass batches through;
    ``None`` where there is none."""
    shm_free_bytes: int | None
    """What is free of it; a process that writes more is killed by a bus error."""
    file_descriptors_soft: int | None
    """Files this process may hold open; it may raise this up to the hard limit. ``None`` is no
    limit, or (on Windows, as a note says) none of this kind."""
    file_descriptors_hard: int | None
    """The most that the soft limit may be raised to; ``None`` as above."""
    file_descriptors_open: int | None
    """Files open now; ``None`` is not measured."""
    platform: str
    """``linux``, ``darwin`` or ``win32``, as ``sys.platform`` has it."""
    cpu_model: str | None
    """The processor's name; ``None`` is not measured."""
    accelerators: tuple[str, ...] | None
    """Names of the NVIDIA GPUs that the driver shows, used or not; ``None`` is not measured."""
    notes: tuple[str, ...] = ()
    """What the user should know: what could not be read, what looks unintended."""


def facts(machine: Machine) -> dict[str, Fact]:
    """Give the machine as plain JSON values, with the versions that a measurement depends on."""
    values: dict[str, Fact] = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(machine).items()
    }
    values["kernel"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    values["python_version"] = platform.python_version()
    for package in ("torch", "lightning", "lightning-fastdata"):
        values[f"{package.replace('-', '_')}_version"] = _installed_version(package)
    return values


def _installed_version(package: str) -> str | None:
    """Read a version from what is installed: importing torch would take a second."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
