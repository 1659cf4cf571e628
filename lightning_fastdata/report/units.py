"""Figures as people read them. What was not measured says so."""

NOT_MEASURED = "not measured"


def duration(time_ns: int | None) -> str:
    """Return a time in the unit that suits its size."""
    if time_ns is None:
        return NOT_MEASURED
    if time_ns < 10**9:
        return f"{time_ns / 1e6:.2f} ms"
    return f"{time_ns / 1e9:.2f} s"


def step_ms(time_ns: int | None, steps: int) -> str:
    """Return the milliseconds a step that a sum over ``steps`` steps comes to."""
    return NOT_MEASURED if time_ns is None or steps == 0 else f"{time_ns / steps / 1e6:.2f}"


def percent(fraction: float | None) -> str:
    """Return a share of 0 to 1 as percent."""
    return NOT_MEASURED if fraction is None else f"{100 * fraction:.1f} %"


def share(part_ns: int | None, whole_ns: int) -> str:
    """Return a part of a whole as percent."""
    return percent(None if part_ns is None or whole_ns == 0 else part_ns / whole_ns)


def rate(per_s: float | None) -> str:
    """Return a rate to the digits that can be compared."""
    if per_s is None:
        return NOT_MEASURED
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.1f}"


def size(size_bytes: int | None) -> str:
    """Return an amount of memory in the unit that suits its size."""
    if size_bytes is None:
        return NOT_MEASURED
    for unit, step in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= step:
            return f"{size_bytes / step:.1f} {unit}"
    return f"{size_bytes} bytes"
