"""What happened, as numbers: where the time of each training step and of each batch went.

Only recording lives here. Arithmetic is in ``stalls/`` and words are in ``report/``.
"""

from lightning_fastdata.trace.events import CudaEvents, Events
from lightning_fastdata.trace.opening import LoaderOpening
from lightning_fastdata.trace.record import (
    WARMUP_STEPS,
    Clock,
    EpochTotals,
    Part,
    StallWindow,
    StepTimes,
    StepTotals,
    WaitHistogram,
)
from lightning_fastdata.trace.recorder import MAX_UNREAD_STEPS, StepRecorder
from lightning_fastdata.trace.run_record import (
    LoaderRecord,
    LoaderSetup,
    MachineFacts,
    RankWindow,
    RunRecord,
)
from lightning_fastdata.trace.samples import SampleCounter
from lightning_fastdata.trace.stall_trace import MAX_EPOCHS, StallTrace
from lightning_fastdata.trace.timeline import Bucket, Timeline
from lightning_fastdata.trace.work import (
    BatchTimes,
    ChunkTimes,
    Line,
    WorkTotals,
    WorkTrace,
)

__all__ = [
    "MAX_EPOCHS",
    "MAX_UNREAD_STEPS",
    "WARMUP_STEPS",
    "BatchTimes",
    "Bucket",
    "ChunkTimes",
    "Clock",
    "CudaEvents",
    "EpochTotals",
    "Events",
    "Line",
    "LoaderOpening",
    "LoaderRecord",
    "LoaderSetup",
    "MachineFacts",
    "Part",
    "RankWindow",
    "RunRecord",
    "SampleCounter",
    "StallTrace",
    "StallWindow",
    "StepRecorder",
    "StepTimes",
    "StepTotals",
    "Timeline",
    "WaitHistogram",
    "WorkTotals",
    "WorkTrace",
]
