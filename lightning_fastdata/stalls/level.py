"""How bad a stall is, in three levels."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

StallLevel: TypeAlias = Literal["keeps_up", "waits", "starves"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StallThresholds:
    """From which share of a step on a stall has which level. The numbers are those of XProf."""

    waits_fraction: float = 0.05
    starves_fraction: float = 0.20


def stall_level(stall_fraction: float, thresholds: StallThresholds | None = None) -> StallLevel:
    """Say how bad it is that training waits for ``stall_fraction`` (0 to 1) of its steps."""
    thresholds = thresholds or StallThresholds()
    if stall_fraction < thresholds.waits_fraction:
        return "keeps_up"
    return "waits" if stall_fraction < thresholds.starves_fraction else "starves"
