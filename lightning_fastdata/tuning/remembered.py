"""A decision that was kept, as one value."""

from dataclasses import dataclass
from typing import Literal

from lightning_fastdata.plan import EngineName


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
    source: Literal["run", "tune"]
    """Whether a training run came to it, or ``tune``."""
    saved_on: str
    """The day, by ISO 8601."""
