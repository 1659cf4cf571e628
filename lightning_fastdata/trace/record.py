"""The numbers of one run: exact running sums, in memory that does not grow with the run."""

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, TypeAlias

WARMUP_STEPS = 20
"""Steps kept apart at the start: compilation, allocator, autotuning (SPDL leaves out 20)."""
MAX_EPOCHS = 256
"""Epochs whose first-batch times are kept, the newest (guess: more than anyone reads)."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTimes:
    """Where the time of one step went."""

    parts_ns: tuple[int, ...]
    """One entry for each ``Part``, on the clock of the trace."""
    host_wait_ns: int
    """How long the training process was held by the loader, on the host clock."""
    samples: int | None
    """Samples in the batch; ``None`` where that cannot be known."""


class WaitHistogram:
    """How often each wait occurred, in bounded memory, over the whole run rather than its tail."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def add(self, wait_ns: int) -> None:
        """Count one wait, exact below 256 ns and to its eight leading bits above."""
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

    def add(self, step: StepTimes) -> None:
        """Add one step."""
        self.steps += 1
        for part, part_ns in enumerate(step.parts_ns):
            self.parts_ns[part] += part_ns
        # Step by step: the slack of one step does not hide the stall of another.
        self.hidden_wait_ns += max(0, step.host_wait_ns - step.parts_ns[Part.WAIT])
        if self.samples is not None:
            self.samples = None if step.samples is None else self.samples + step.samples
        self.waits.add(step.host_wait_ns)


@dataclass(kw_only=True, slots=True)
class StallWindow:
    """The little that a logger is told of some steps."""

    steps: int = 0
    stall_ns: int = 0
    wall_ns: int = 0
    """Validation left out."""


class StallTrace:
    """Everything that was recorded of one run, in bounded memory."""

    def __init__(self, *, clock: Clock, device_type: str) -> None:
        self.clock: Clock = clock
        self.device_type = device_type
        self.steps_seen = 0
        self.warmup = StepTotals()
        self.steady = StepTotals()
        self._window = StallWindow()
        self.first_batch_ns: int | None = None
        self.epoch_start_ns: deque[int] = deque(maxlen=MAX_EPOCHS)
        self.problem: str | None = None

    def add(self, step: StepTimes) -> None:
        """Record one step that is not the first of its epoch."""
        (self.warmup if self.warmup.steps < WARMUP_STEPS else self.steady).add(step)
        window = self._window
        window.steps += 1
        window.stall_ns += step.parts_ns[Part.WAIT]
        window.wall_ns += sum(step.parts_ns) - step.parts_ns[Part.VALIDATION]

    def take_window(self) -> StallWindow:
        """Return the steps recorded since the last call."""
        window, self._window = self._window, StallWindow()
        return window
