"""Where training waits for data: a trace becomes a summary. Pure functions."""

from lightning_fastdata.stalls.level import StallLevel, StallThresholds, stall_level
from lightning_fastdata.stalls.summary import (
    SCHEMA_VERSION,
    StallSummary,
    summarise,
)

__all__ = [
    "SCHEMA_VERSION",
    "StallLevel",
    "StallSummary",
    "StallThresholds",
    "stall_level",
    "summarise",
]
