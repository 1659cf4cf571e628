"""The names of the parts: the processor and the accelerators, without starting a driver."""

import re
from collections.abc import Sequence


def parse_cpu_model(cpuinfo_text: str) -> str | None:
    """Read the processor's name from ``/proc/cpuinfo``; ``None`` where it has none (many ARM)."""
    match = re.search(r"^model name[ \t]*:[ \t]*(\S.*?)[ \t]*$", cpuinfo_text, re.MULTILINE)
    return match[1] if match else None


def parse_accelerators(information_texts: Sequence[str]) -> tuple[str, ...] | None:
    """Read the names of the GPUs from the texts of ``/proc/driver/nvidia/gpus/*/information``.

    Returns:
        One name a GPU that the driver shows, used or not; ``None`` (not measured) without any.
    """
    matches = [
        re.search(r"^Model:[ \t]*(\S.*?)[ \t]*$", text, re.MULTILINE) for text in information_texts
    ]
    return tuple(match[1] for match in matches if match) or None
