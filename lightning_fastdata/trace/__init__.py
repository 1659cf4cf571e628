"""What happened, as numbers: where the time of each training step went.

Only recording lives here. Arithmetic is in ``stalls/`` and words are in ``report/``.
"""

from lightning_fastdata.trace.events import CudaEvents, Events
from lightning_fastdata.trace.opening import LoaderOpening
from lightning_fastdata.trace.record import (
    MAX_EPOCHS,
    WARMUP_STEPS,
    Clock,
    Part,
    StallTrace,
    StallWindow,
    StepTimes,
    StepTotals,
    WaitHistogram,
)
from lightning_fastdata.trace.recorder import MAX_UNREAD_STEPS, StepRecorder
from lightning_fastdata.trace.samples import SampleCounter

__all__ = [
    "MAX_EPOCHS",
    "MAX_UNREAD_STEPS",
    "WARMUP_STEPS",
    "Clock",
    "CudaEvents",
    "Events",
    "LoaderOpening",
    "Part",
    "SampleCounter",
    "StallTrace",
    "StallWindow",
    "StepRecorder",
    "StepTimes",
    "StepTotals",
    "WaitHistogram",
]
