"""A decision that was kept, as one value, and the same as plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from lightning_fastdata.plan import EngineName

_MOST = 2**63 - 1
_LONGEST_STEP_S = 1e6  # guess: no step takes days; replay adds steps up in 64 bits


@dataclass(frozen=True, kw_only=True, slots=True)
class Remembered:
    """What was decided for a dataset on a machine, and what it rested on."""

    engine: EngineName
    num_workers: int
    prefetch_batches: int
    stall_fraction: float | None
    """What training waited with it (0 to 1), measured; ``None`` is not known."""
    step_time_s: float | None
    """A step without its stall; ``None`` is not known."""
    batch_bytes: int | None
    source: Literal["run", "tune", "checkpoint", "loader"]
    """Whether a training run came to it, ``tune``, the run whose checkpoint is resumed, or the
    loader before this one in the same run."""
    saved_on: str
    """The day, by ISO 8601."""


def as_plain(remembered: Remembered) -> dict[str, Any]:
    """Give a decision as JSON values."""
    return asdict(remembered)


def from_plain(values: Any) -> Remembered | None:
    """Read a decision back; ``None`` where it is not one that can be used."""
    names = [field.name for field in fields(Remembered)]
    if not isinstance(values, Mapping) or not all(name in values for name in names):
        return None
    found = {name: values[name] for name in names}
    counts = (found["num_workers"], found["prefetch_batches"])
    has_workers = found["engine"] in ("ring", "torch")
    is_sound = (
        (has_workers or found["engine"] == "inline")
        and all(type(count) is int and 0 <= count <= _MOST for count in counts)
        and all(bool(count) == has_workers for count in counts)
        and _is_measure(found["stall_fraction"], most=1.0)
        and _is_measure(found["step_time_s"], most=_LONGEST_STEP_S)
        and _is_measure(found["batch_bytes"])
        and found["source"] in ("run", "tune", "checkpoint", "loader")
        and isinstance(found["saved_on"], str)
    )
    return Remembered(**found) if is_sound else None


def _is_measure(value: Any, most: float = _MOST) -> bool:
    """Whether it is a number from 0 to ``most``, or absent."""
    return value is None or (type(value) in (int, float) and 0 <= value <= most)
