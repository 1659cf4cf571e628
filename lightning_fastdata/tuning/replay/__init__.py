"""What training would have waited for, had batches been loaded in another way.

Pure functions on recorded times: the dispatch of each engine is simulated as it is, on a clock of
whole nanoseconds that only the simulation moves. Equal inputs give equal outputs.
"""

from lightning_fastdata.tuning.replay.calibrate import handing_ns_of
from lightning_fastdata.tuning.replay.contention import service_factor
from lightning_fastdata.tuning.replay.cost import (
    BatchCost,
    Span,
    scaled,
)
from lightning_fastdata.tuning.replay.dispatch import (
    Dispatch,
    InlineDispatch,
    RingDispatch,
    TorchDispatch,
)
from lightning_fastdata.tuning.replay.result import Replayed
from lightning_fastdata.tuning.replay.search import fewest_workers
from lightning_fastdata.tuning.replay.simulate import replay
from lightning_fastdata.tuning.replay.steps import Steps

__all__ = [
    "BatchCost",
    "Dispatch",
    "InlineDispatch",
    "Replayed",
    "RingDispatch",
    "Span",
    "Steps",
    "TorchDispatch",
    "fewest_workers",
    "handing_ns_of",
    "replay",
    "scaled",
    "service_factor",
]
