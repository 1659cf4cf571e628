"""How much of the inherited memory a worker has come to own a copy of.

A forked worker shares its dataset's memory until one of the two writes to it. Python writes when it
only reads: every object counts its references. A list of millions of objects so turns into a copy
for each worker, while tensors and NumPy arrays stay shared.
"""

import time
from pathlib import Path

_ROLLUP = Path("/proc/self/smaps_rollup")
_FIRST_S, _LONGEST_S = 1.0, 60.0  # guess: reading the file takes about 10 ms a GiB


class GrowthWatch:
    """Measures now and then, ever more rarely, and not while a first batch is waited for."""

    def __init__(self) -> None:
        self._shared_at_start: int | None = None
        self._pause_s = _FIRST_S
        self._next_s = time.monotonic() + _FIRST_S

    def copied_bytes(self) -> int | None:
        """Memory that was shared at the first look and is no more; ``None`` before its time."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return None
        self._next_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_S)
        shared = _shared_bytes()
        if shared is None:
            return None
        if self._shared_at_start is None:
            self._shared_at_start = shared
        return max(0, self._shared_at_start - shared)


def _shared_bytes() -> int | None:
    """Anonymous memory that others have as well; ``None`` where the kernel does not say."""
    try:
        lines = _ROLLUP.read_text().splitlines()[1:]
    except OSError:
        return None
    kilobytes = {
        name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)
    }
    if "Anonymous" not in kilobytes:
        return None
    return (kilobytes["Anonymous"] - kilobytes["Private_Dirty"]) * 1024
