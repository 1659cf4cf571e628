"""What a ring answers with."""

from dataclasses import dataclass
from typing import Any

from lightning_fastdata.loader.ring.messages import BadRow, Failure
from lightning_fastdata.trace.work import ChunkTimes


@dataclass(frozen=True, kw_only=True, slots=True)
class RingBatch:
    """A batch out of the ring, or the news that there is none."""

    number: int
    data: Any
    ended: bool
    """Whether its stream has no more."""
    failure: Failure | None
    """What making it raised; raised again when it is this batch's turn."""
    bad: tuple[BadRow, ...]
    """Samples that could not be made; then there is no data, and the others may be asked for."""
    times: tuple[ChunkTimes, ...]
    arrived_ns: int


def nothing_made(number: int) -> RingBatch:
    """The answer for a batch all of whose samples are left out."""
    return RingBatch(
        number=number, data=None, ended=False, failure=None, bad=(), times=(), arrived_ns=0
    )
