"""How the number of workers changed while training ran, on the clock of the summary."""

from dataclasses import dataclass
from typing import Literal

from lightning_fastdata.trace import RunRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerChange:
    """One decision about a loader that was in use."""

    loader: str
    """Where several loaders train together, which one; else empty."""
    at_ns: int
    """After the first step that was recorded. Many late ones: something disturbs the run."""
    kind: Literal["grow", "shrink", "roll_back"]
    """``roll_back``: the change before it had not helped."""
    before: int
    """Workers until then; 0 is the training process itself."""
    after: int
    """Workers from then on."""
    reason: str
    """One sentence, with the figures that it rests on."""
    stall_fraction: float
    """Share of the window before it (0 to 1) in which training stood still for a batch."""
    predicted_stall_fraction: float | None = None
    """What was expected of it; ``None``: nothing was predicted."""
    measured_stall_fraction: float | None = None
    """What came of it; far from what was predicted: something else holds the run up. ``None``: not
    known."""


def worker_changes(record: RunRecord) -> tuple[WorkerChange, ...]:
    """Return the changes of all loaders, the oldest first."""
    buckets = record.stall.timeline.buckets
    found = [
        (change.at_ns, loader.setup.name, change)
        for loader in record.loaders
        for change in loader.changes
    ]
    first_ns = buckets[0].began_ns if buckets else min((at_ns for at_ns, _, _ in found), default=0)
    return tuple(
        WorkerChange(
            loader=name,
            at_ns=max(0, at_ns - first_ns),
            kind=change.kind,
            before=change.before,
            after=change.after,
            reason=change.reason,
            stall_fraction=change.stall_fraction,
            predicted_stall_fraction=change.predicted_stall_fraction,
            measured_stall_fraction=change.measured_stall_fraction,
        )
        for at_ns, name, change in sorted(found, key=lambda each: each[0])
    )
