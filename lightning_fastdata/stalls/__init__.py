"""Where training waits for data, and why: a record becomes a summary. Pure functions."""

from lightning_fastdata.stalls.conclude import conclude
from lightning_fastdata.stalls.detail import DepthPoint, LaneSpan, RunDetail, TimelineBucket
from lightning_fastdata.stalls.figures import (
    EpochFigures,
    LineShare,
    RankFigures,
    RunFacts,
    SlowSample,
    WorkerFigures,
)
from lightning_fastdata.stalls.finding import Cause, Finding, FollowedAdvice, SettingChange
from lightning_fastdata.stalls.judge import diagnose
from lightning_fastdata.stalls.level import StallLevel, StallThresholds, stall_level
from lightning_fastdata.stalls.summary import (
    SCHEMA_VERSION,
    StallSummary,
    summarise,
)
from lightning_fastdata.stalls.thresholds import FindingThresholds
from lightning_fastdata.stalls.worker_changes import WorkerChange

__all__ = [
    "SCHEMA_VERSION",
    "Cause",
    "DepthPoint",
    "EpochFigures",
    "Finding",
    "FindingThresholds",
    "FollowedAdvice",
    "LaneSpan",
    "LineShare",
    "RankFigures",
    "RunDetail",
    "RunFacts",
    "SettingChange",
    "SlowSample",
    "StallLevel",
    "StallSummary",
    "StallThresholds",
    "TimelineBucket",
    "WorkerChange",
    "WorkerFigures",
    "conclude",
    "diagnose",
    "stall_level",
    "summarise",
]
