"""Which libraries are installed, and whether they are known to do harm."""

import platform
from collections.abc import Mapping
from importlib import metadata

from lightning_fastdata.checkup.result import Check

_PACKAGES = (
    ("torch",),
    ("torchvision",),
    ("lightning", "pytorch-lightning"),
    ("lightning-fastdata",),
    ("simplejpeg",),
    ("pillow", "pillow-simd"),
)
"""Each with the other names that the same thing is installed under."""
STOLEN_RELEASES = ("2.6.2", "2.6.3")
"""Releases of Lightning that were published by a thief, with a credential stealer inside."""


def installed_versions() -> dict[str, str | None]:
    """Name of the package to its version; ``None`` is not installed. Nothing is imported."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for names in _PACKAGES:
        installed = {name: _version_of(name) for name in names}
        found = {name: version for name, version in installed.items() if version is not None}
        versions.update(found if found else dict.fromkeys(names[:1]))
    return versions


def check_versions(versions: Mapping[str, str | None]) -> list[Check]:
    """Say what is installed, what is missing, and what must not be used."""
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    missing = [name for name, version in versions.items() if version is None]
    if stolen := [
        f"{name} {version}"
        for name, version in versions.items()
        if name in ("lightning", "pytorch-lightning") and version in STOLEN_RELEASES
    ]:
        return [
            Check(
                name="versions",
                level="error",
                found=f"{stolen[0]}, a release that was published by a thief; it steals passwords",
                wanted="any other release",
                remedy="Run pip install --upgrade lightning, and change the passwords and keys of "
                "this machine.",
            )
        ]
    if missing:
        return [
            Check(
                name="versions",
                level="warning",
                found=f"{known}; not installed: {', '.join(missing)}",
                wanted="all of them",
                remedy=f"Run pip install {' '.join(missing)}",
            )
        ]
    return [Check(name="versions", level="ok", found=known)]


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
