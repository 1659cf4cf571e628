"""The numbers of one run: exact running sums, in memory that does not grow with the run."""

from dataclasses import dataclass, field
from enum import IntEnum
from operator import add
from typing import Literal, TypeAlias

WARMUP_STEPS = 20
"""Steps kept apart at the start: compilation, allocator, autotuning (SPDL leaves out 20)."""
_KEPT_BITS = 8
"""Leading bits of a wait that the histogram keeps: quantiles are within 0.4 % of the true wait."""

Clock: TypeAlias = Literal["host", "cuda"]


class Part(IntEnum):
    """What the training loop was doing."""

    WAIT = 0
    TRANSFER = 1
    COMPUTE = 2
    OTHER = 3
    VALIDATION = 4
    CHECKPOINT = 5
    LOGGING = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTimes:
    """Where the time of one step went."""

    parts_ns: tuple[int, ...]
    """One entry for each ``Part``, on the clock of the trace."""
    host_wait_ns: int
    """How long the training process was held by the loader, on the host clock."""
    samples: int | None
    """Samples in the batch; ``None`` where that cannot be known."""
    spans: tuple[tuple[Part, int, int], ...] = ()
    """What the host did, in order: part, beginning, end, on the host's clock."""
    device_spans_ns: tuple[int, ...] = ()
    """How long each span took on the device's clock; empty where the device has none."""
    was_drained: bool | None = None
    """Whether the device had done all its work when the loop asked for the batch, so that all of
    the wait is exposed; ``None`` where it was not looked at."""


class WaitHistogram:
    """How often each wait occurred, in bounded memory, over the whole run rather than its tail."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def add(self, wait_ns: int) -> None:
        """Count one wait, exact below 256 ns and to its eight leading bits above."""
        wait_ns = max(0, wait_ns)
        shift = max(0, wait_ns.bit_length() - _KEPT_BITS)
        bucket = (shift << _KEPT_BITS) + (wait_ns >> shift)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def quantile_ns(self, fraction: float) -> int | None:
        """The wait that ``fraction`` (0 to 1) of all waits do not exceed; ``None`` without any."""
        rank = fraction * sum(self.counts.values())
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                shift, leading = bucket >> _KEPT_BITS, bucket & ((1 << _KEPT_BITS) - 1)
                return (leading << shift) + ((1 << shift) >> 1)
        return None


@dataclass(kw_only=True, slots=True)
class StepTotals:
    """Running sums over some steps: exact, and the same size however long the run."""

    steps: int = 0
    parts_ns: list[int] = field(default_factory=lambda: [0] * len(Part))
    hidden_wait_ns: int = 0
    samples: int | None = 0
    """``None`` as soon as one step did not know its samples."""
    waits: WaitHistogram = field(default_factory=WaitHistogram)
    looked_at: int = 0
    """Steps at whose fetch the device was asked whether it had drained."""
    drained: int = 0
    """How many of them found it drained. Nearly all: something makes the host wait each step."""

    def add(self, step: StepTimes) -> None:
        """Add one step."""
        self.steps += 1
        self.parts_ns[:] = map(add, self.parts_ns, step.parts_ns)
        # Step by step: the slack of one step does not hide the stall of another.
        self.hidden_wait_ns += max(0, step.host_wait_ns - step.parts_ns[Part.WAIT])
        if self.samples is not None:
            self.samples = None if step.samples is None else self.samples + step.samples
        self.waits.add(step.host_wait_ns)
        if step.was_drained is not None:
            self.looked_at += 1
            self.drained += step.was_drained


@dataclass(kw_only=True, slots=True)
class EpochTotals:
    """One epoch, without its first step."""

    epoch: int
    """Counted from 0 in this run."""
    steps: int = 0
    wall_ns: int = 0
    """Validation left out."""
    stall_ns: int = 0
    start_ns: int | None = None
    """To its first batch; of the first epoch with the making of the loader."""


@dataclass(kw_only=True, slots=True)
class StallWindow:
    """The little that a logger is told of some steps."""

    steps: int = 0
    stall_ns: int = 0
    wall_ns: int = 0
    """Validation left out."""
    host_wait_ns: int = 0
