"""Times and sizes as reasons say them, in a unit that keeps the number short."""

_FROM_S_NS, _FROM_GB_BYTES = 999_500_000, 999_500_000  # what three digits would round up to 1000


def time_words(time_ns: float) -> str:
    """Say a time in milliseconds, or in seconds where it is long."""
    if time_ns >= _FROM_S_NS:
        return f"{time_ns / 1e9:.4g} s"
    return f"{time_ns / 1e6:.3g} ms"


def size_words(size_bytes: float) -> str:
    """Say a size in MB, or in GB where it is large."""
    if size_bytes >= _FROM_GB_BYTES:
        return f"{size_bytes / 1e9:.4g} GB"
    return f"{size_bytes / 1e6:.3g} MB"
