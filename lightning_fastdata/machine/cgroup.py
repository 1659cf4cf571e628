"""Where this process's limits are written: its cgroup directories, from its own up to the root.

Only paths are worked out here, from the texts of ``/proc/self/cgroup`` and
``/proc/self/mountinfo``; nothing is opened. Both generations are served at once, so a hybrid system
needs no case of its own.
"""

import re
from dataclasses import dataclass

CONTROLLER_FILES = {
    "cpu": ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "memory": (
        "memory.max",
        "memory.high",
        "memory.current",
        "memory.stat",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
    ),
}
"""The files of each controller that say what a process may use (cgroup v2 and v1 together)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CgroupDirectories:
    """The directories whose limits hold for this process."""

    paths: tuple[str, ...] = ()
    """The process's own directory first, then each ancestor; empty where none can be seen."""
    notes: tuple[str, ...] = ()
    """What could not be understood or seen, said for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Membership:
    """One line of ``/proc/self/cgroup``; version 2 has no controllers of its own there."""

    controllers: tuple[str, ...]
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Mount:
    """One mounted cgroup hierarchy: ``root`` is the cgroup that appears at ``point``."""

    root: str
    point: str
    is_version_2: bool
    controllers: tuple[str, ...]


def cgroup_directories(cgroup_text: str, mountinfo_text: str, controller: str) -> CgroupDirectories:
    """List the directories that may limit this process, its own first.

    Args:
        cgroup_text: The text of ``/proc/self/cgroup``.
        mountinfo_text: The text of ``/proc/self/mountinfo``.
        controller: ``cpu`` or ``memory``.

    Returns:
        The directories of cgroup v1 (where ``controller`` is mounted) and of v2, and notes on lines
        that could not be understood. A mount that starts below the real root hides its ancestors.
    """
    mounts = _parse_mounts(mountinfo_text)
    memberships, notes = _parse_memberships(cgroup_text)
    paths: list[str] = []
    for membership in memberships:
        if membership.controllers and controller not in membership.controllers:
            continue
        serving = [
            mount
            for mount in mounts
            if (controller in mount.controllers if membership.controllers else mount.is_version_2)
        ]
        found, found_notes = _visible_directories(membership.path, serving)
        paths += found
        notes += found_notes
    return CgroupDirectories(paths=tuple(dict.fromkeys(paths)), notes=tuple(notes))


def _parse_memberships(cgroup_text: str) -> tuple[list[_Membership], list[str]]:
    memberships = []
    notes = []
    for line in cgroup_text.splitlines():
        fields = line.split(":", 2)  # a path may contain colons
        if len(fields) != 3 or not fields[2].startswith("/"):
            notes.append(
                f"/proc/self/cgroup has the line {line!r}, not ID:CONTROLLERS:/PATH; "
                "limits that it stands for are not counted."
            )
            continue
        hierarchy, names, path = fields
        if names or hierarchy == "0":
            controllers = tuple(names.split(",")) if names else ()
            memberships.append(_Membership(controllers=controllers, path=path))
    return memberships, notes


def _parse_mounts(mountinfo_text: str) -> list[_Mount]:
    """Read the cgroup mounts; a later mount on the same point hides the earlier one."""
    mounts: dict[str, _Mount] = {}
    for line in mountinfo_text.splitlines():
        place, separator, filesystem = line.partition(" - ")
        place_fields, filesystem_fields = place.split(" "), filesystem.split(" ")
        if not separator or len(place_fields) < 5:
            continue
        point = _unescape(place_fields[4])
        mounts.pop(point, None)
        if filesystem_fields[0] in ("cgroup", "cgroup2"):
            mounts[point] = _Mount(
                root=_unescape(place_fields[3]),
                point=point,
                is_version_2=filesystem_fields[0] == "cgroup2",
                controllers=tuple(filesystem_fields[-1].split(",")),
            )
    return list(mounts.values())


def _unescape(path: str) -> str:
    r"""Undo the kernel's octal escapes, such as ``\040`` for a space."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _visible_directories(path: str, mounts: list[_Mount]) -> tuple[list[str], list[str]]:
    """Return the directories of ``path`` below every mount that shows it."""
    found: list[str] = []
    for mount in mounts:
        found += _own_and_ancestors(path, mount)
    if found or not mounts:
        return found, []
    roots = ", ".join(f"{mount.root} at {mount.point}" for mount in mounts)
    if ".." in _parts(path):
        # The process stands outside its cgroup namespace: the mounts show other people's limits.
        return [], [f"the cgroup {path} of this process cannot be seen here (mounted: {roots})."]
    return [mount.point for mount in mounts], [
        f"the cgroup {path} of this process is not below what is mounted ({roots}); "
        "only the limits at the mount point are counted."
    ]


def _own_and_ancestors(path: str, mount: _Mount) -> list[str]:
    parts, root = _parts(path), _parts(mount.root)
    below = parts[len(root) :]
    if parts[: len(root)] != root or ".." in below:
        return []
    point = mount.point.rstrip("/")
    return ["/".join([point, *below[:depth]]) for depth in range(len(below), -1, -1)]


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
