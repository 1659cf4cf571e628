"""How much memory is left for this process's machine, container or job, and why."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Version 1 writes "no limit" as the largest page-aligned long, which depends on the page size.
_UNLIMITED_FROM_BYTES = 2**62


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryShare:
    """Memory that can still be taken, by all local ranks together."""

    available_bytes: int | None
    """``None`` where it could not be measured."""
    total_bytes: int | None
    """Memory of the machine, whatever a cgroup allows of it."""
    reason: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Limit:
    limit_bytes: int
    used_bytes: int
    path: str

    @property
    def left_bytes(self) -> int:
        return max(0, self.limit_bytes - self.used_bytes)


def parse_limit(text: str) -> int | None:
    """Read a cgroup memory limit, version 1 or 2, in bytes; ``None`` is unlimited.

    Raises:
        ValueError: The text is neither a number nor ``max``.
    """
    stripped = text.strip()
    if stripped in ("max", "-1"):
        return None
    limit_bytes = parse_bytes(stripped)
    return None if limit_bytes >= _UNLIMITED_FROM_BYTES else limit_bytes


def parse_bytes(text: str) -> int:
    """Read one whole number of bytes, 0 or more.

    Raises:
        ValueError: The text is anything else.
    """
    if not re.fullmatch(r"\d{1,20}", text.strip(), re.ASCII):
        raise ValueError(f"found {text.strip()[:80]!r}, wanted a number of bytes")
    return int(text)


def parse_counters(text: str, unit_bytes: int = 1) -> dict[str, int]:
    """Read ``name value`` or ``name: value kB`` lines as bytes; other lines are left out."""
    matches = re.findall(r"^(\w[\w()]*):?[ \t]+(\d{1,20})\b", text, re.ASCII | re.MULTILINE)
    return {name: int(value) * unit_bytes for name, value in matches}


def share_memory(
    meminfo_text: str | None, directories: Sequence[str], texts: Mapping[str, str]
) -> MemoryShare:
    """Work out the memory that is left: what the machine has, or a cgroup allows, if that is less.

    Args:
        meminfo_text: The text of ``/proc/meminfo``, or ``None`` where there is none.
        directories: The cgroup directories of this process, with all ancestors.
        texts: Path to text of the files that could be read.

    Returns:
        The least of ``MemAvailable`` and of what is left below each cgroup limit. File cache that
        the kernel would drop first (``inactive_file``) does not count as used.
    """
    machine = parse_counters(meminfo_text or "", unit_bytes=1024)
    notes: list[str] = []
    limits: list[_Limit] = []
    for directory in directories:
        limits += _directory_limits(directory, texts, notes)
    available_bytes, source = machine.get("MemAvailable"), "MemAvailable of /proc/meminfo"
    if available_bytes is None and "MemFree" in machine:  # kernels before 3.14
        available_bytes, source = machine["MemFree"], "MemFree of /proc/meminfo"
        notes.append("/proc/meminfo has no MemAvailable; MemFree is taken, which is less.")
    elif available_bytes is None and meminfo_text is not None:
        notes.append("/proc/meminfo tells neither MemAvailable nor MemFree.")
    tightest = min(limits, key=lambda limit: limit.left_bytes, default=None)
    if tightest is not None and (available_bytes is None or tightest.left_bytes < available_bytes):
        available_bytes = tightest.left_bytes
        reason = (
            f"{_gib(available_bytes)} left of the limit of {_gib(tightest.limit_bytes)} in "
            f"{tightest.path} ({_gib(tightest.used_bytes)} in use)."
        )
    elif available_bytes is not None:
        reason = f"{_gib(available_bytes)}: {source}; no cgroup limit leaves less."
    else:
        reason = "not measured."
    return MemoryShare(
        available_bytes=available_bytes,
        total_bytes=machine.get("MemTotal"),
        reason=reason,
        notes=tuple(notes),
    )


def _directory_limits(directory: str, texts: Mapping[str, str], notes: list[str]) -> list[_Limit]:
    """Read the limits of one cgroup, with what is used below each; odd files become notes."""
    stat_path = f"{directory}/memory.stat"
    counters = parse_counters(texts.get(stat_path, ""))
    limits: dict[str, int] = {}
    for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
        path = f"{directory}/{name}"
        try:
            limit_bytes = parse_limit(texts.get(path, "max"))
        except ValueError as error:
            notes.append(f"{path} is not counted: {error}.")
            continue
        if limit_bytes is not None:
            limits[path] = limit_bytes
    # Version 1 also tells the tightest limit of ancestors that a container cannot see.
    ancestor_bytes = counters.get("hierarchical_memory_limit", _UNLIMITED_FROM_BYTES)
    if ancestor_bytes < min(limits.values(), default=_UNLIMITED_FROM_BYTES):
        limits[stat_path] = ancestor_bytes
    if not limits:
        return []
    used_bytes = _used_bytes(directory, texts, counters, notes)
    return [
        _Limit(limit_bytes=limit_bytes, used_bytes=used_bytes, path=path)
        for path, limit_bytes in limits.items()
    ]


def _used_bytes(
    directory: str, texts: Mapping[str, str], counters: Mapping[str, int], notes: list[str]
) -> int:
    is_version_2 = f"{directory}/memory.current" in texts
    path = f"{directory}/{'memory.current' if is_version_2 else 'memory.usage_in_bytes'}"
    try:
        current_bytes = parse_bytes(texts.get(path, ""))
    except ValueError as error:
        notes.append(f"{path} is not counted: {error}; the whole limit counts as free.")
        return 0
    # In version 1 the plain name leaves out the cgroups below; the total_ name has them.
    name = "inactive_file" if is_version_2 else "total_inactive_file"
    return max(0, current_bytes - counters.get(name, 0))


def _gib(number_bytes: int) -> str:
    return f"{number_bytes / 2**30:.2f} GiB"
