"""No workers, simulated."""

from collections.abc import Sequence

from lightning_fastdata.tuning.replay.cost import BatchCost
from lightning_fastdata.tuning.replay.inbox import Taken


class InlineSource:
    """Makes each batch when it is asked for."""

    def __init__(self, batches: Sequence[BatchCost]) -> None:
        self._batches = iter(enumerate(batches))

    def take(self, wanted_ns: int) -> Taken:
        """Make the next batch."""
        number, batch = next(self._batches)
        made_ns = wanted_ns + batch.time_ns
        return Taken(number, made_ns, made_ns)
