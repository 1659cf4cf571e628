"""How a loader's number of workers changed while training ran."""

from dataclasses import dataclass
from typing import Literal

MOST_CHANGES = 256  # guess: more than a month of training makes; the newest are kept


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanChange:
    """One decision about a loader that was in use."""

    at_ns: int
    """When, by ``time.perf_counter_ns``."""
    kind: Literal["grow", "shrink", "roll_back"]
    before: int
    """Workers until then; 0 is the training process itself."""
    after: int
    """Workers from then on."""
    reason: str
    """One sentence, with the figures that it rests on."""
    stall_fraction: float
    """Share of the window before it (0 to 1) in which training stood still for a batch."""
    predicted_stall_fraction: float | None = None
    """What was expected of it; ``None``: nothing was predicted."""
    measured_stall_fraction: float | None = None
    """What came of it; ``None``: not known yet."""
