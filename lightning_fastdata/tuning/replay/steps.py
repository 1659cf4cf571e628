"""What training does between two batches."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.tuning.replay.dispatch import refuse_below

RUN_AHEAD = 8  # guess: steps of many kernels fill a device's queue sooner, short ones later


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """How long steps take. A sequence that is shorter than the run is gone through again.

    Raises:
        SettingsError: If a sequence is empty, or ``run_ahead`` is negative.
    """

    host_ns: Sequence[int]
    """From having a batch to wanting the next, on the host. With a device: without what the host
    waits for the device, which is a result."""
    device_ns: Sequence[int] | None = None
    """What a step takes on a device that runs beside the host; ``None``: the host does it all."""
    run_ahead: int = RUN_AHEAD
    """Steps that the host may be ahead of the device. 0: it waits at the end of every step, as with
    ``.item()``."""

    def __post_init__(self) -> None:
        refuse_below(0, run_ahead=self.run_ahead)
        if not len(self.host_ns) or (self.device_ns is not None and not len(self.device_ns)):
            raise SettingsError(
                "there is no step time, one or more are wanted. Replay needs steps that were "
                "recorded."
            )
