"""How often the kernel has killed processes of this cgroup because memory ran out."""

from pathlib import Path

from lightning_fastdata.machine.cgroup import cgroup_directories

_FILES = ("memory.events", "memory.oom_control")  # of cgroup v2 and v1
_FIELD = "oom_kill"


def count_oom_kills(proc: Path = Path("/proc/self")) -> int | None:
    """Count the kills since the cgroup was made.

    Args:
        proc: The folder that says which cgroup a process is in.

    Returns:
        The kernel's own counter; ``None`` where it cannot be read.
    """
    try:
        texts = [(proc / name).read_text() for name in ("cgroup", "mountinfo")]
    except OSError:
        return None
    for directory in cgroup_directories(texts[0], texts[1], "memory").paths:
        for name in _FILES:
            found = _field_of(Path(directory) / name)
            if found is not None:
                return found
    return None


def _field_of(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(" ")
        if name == _FIELD and value.isdigit():
            return int(value)
    return None
