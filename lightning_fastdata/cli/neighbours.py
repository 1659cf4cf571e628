"""How busy other programs kept the machine: runs that had other neighbours cannot be compared."""

from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types

_BUSY = ("user", "nice", "system", "irq", "softirq", "steal", "interrupt", "dpc")
_IDLE = ("idle", "iowait")


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuClock:
    """CPU seconds since some time in the past; only differences mean anything."""

    busy_s: float
    """Of all cores, working for anyone."""
    idle_s: float
    """Of all cores, doing nothing."""
    own_s: float
    """Of this process and its children, those that have ended included."""


def read_cpu_clock() -> CpuClock:
    """Read the clock now. Takes a millisecond."""
    times = psutil.cpu_times()
    own_s = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            own_s += _sum_of(process.cpu_times(), ("user", "system"))
            own_s += _sum_of(process.cpu_times(), ("children_user", "children_system"))
        except psutil.Error:  # it has just ended, and so is counted by its parent
            continue
    return CpuClock(busy_s=_sum_of(times, _BUSY), idle_s=_sum_of(times, _IDLE), own_s=own_s)


def others_fraction(before: CpuClock, after: CpuClock) -> float | None:
    """Give the share (0 to 1) of the machine's CPU time that other programs took.

    Returns:
        High: the run was slowed from outside. ``None`` where no time has passed.
    """
    busy_s = after.busy_s - before.busy_s
    whole_s = busy_s + after.idle_s - before.idle_s
    if whole_s <= 0:
        return None
    return max(0.0, busy_s - (after.own_s - before.own_s)) / whole_s


def _sum_of(times: Any, names: tuple[str, ...]) -> float:
    return sum(float(getattr(times, name, 0.0)) for name in names)  # systems count different kinds
