"""The limits that the system puts on this process, beside that of open files (``ulimit -a``)."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Soft limits of this process, which its workers inherit; ``None`` is no limit."""

    address_space_bytes: int | None
    """Everything mapped, used or not. A low limit ends workers that map shared slots or files."""
    data_bytes: int | None
    """Private memory that may be written. A low limit shows as failed allocations."""
    locked_memory_bytes: int | None
    """Memory that ``mlock`` may lock. CUDA's page-locking is not counted here; InfiniBand's is."""
    processes: int | None
    """Processes and threads of this user, over all programs. A low limit keeps workers from
    starting."""


def read_limits() -> Limits | None:
    """Read the limits of this process; ``None`` where the system has none of this kind."""
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    def soft(name: str) -> int | None:
        number = getattr(resource, name, None)  # macOS lacks some
        limit = resource.RLIM_INFINITY if number is None else resource.getrlimit(number)[0]
        return None if limit == resource.RLIM_INFINITY else limit

    return Limits(
        address_space_bytes=soft("RLIMIT_AS"),
        data_bytes=soft("RLIMIT_DATA"),
        locked_memory_bytes=soft("RLIMIT_MEMLOCK"),
        processes=soft("RLIMIT_NPROC"),
    )
