"""What a replay says."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Replayed:
    """What training would have waited for.

    The steady state is all after the end of the first step: the first batch comes from workers that
    have nothing ready yet.
    """

    waits_ns: npt.NDArray[np.int64]
    """What the host waited for each batch, in the order in which it got them."""
    exposed_ns: npt.NDArray[np.int64]
    """What of it training lost; without a device all of it."""
    ended_ns: npt.NDArray[np.int64]
    """When each step had ended, after the first batch was wanted."""
    wall_ns: int
    """From wanting the first batch to the end of the last step."""
    steady_ns: int
    """The same from the end of the first step."""
    stall_fraction: float
    """Share (0 to 1) of the steady state that was lost. High: batches come too late."""
    ready_fraction: float
    """Share (0 to 1) of batches that lay ready when they were wanted, but for the first. Near 1:
    the loader keeps up."""
    batches_per_s: float | None
    """In the steady state; ``None`` where there is none: fewer than two batches, or no time."""
    most_ready: int
    """Batches that lay ready and were not taken yet, at most. High: memory that is not needed."""
    busy_fraction: float | None
    """Share (0 to 1) of the workers' time that they made batches; ``None`` without workers. Near 1:
    they are the limit. Low: fewer would do."""

    def stall_fraction_after(self, steps: int) -> float:
        """Share (0 to 1) that was lost after so many steps.

        While queues fill at the start, all workers make batches for a loop that waits for the
        first: of a short run, that is a share that a long run does not have.
        """
        if not 0 < steps < len(self.ended_ns):
            return self.stall_fraction
        whole_ns = self.wall_ns - int(self.ended_ns[steps - 1])
        return float(self.exposed_ns[steps:].sum() / whole_ns) if whole_ns else 0.0
