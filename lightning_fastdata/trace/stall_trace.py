"""Everything that was recorded of the steps of one run, in bounded memory."""

from collections import deque

from lightning_fastdata.trace.record import (
    WARMUP_STEPS,
    Clock,
    EpochTotals,
    Part,
    StallWindow,
    StepTimes,
    StepTotals,
)
from lightning_fastdata.trace.timeline import Timeline

MAX_EPOCHS = 256
"""Epochs that are kept one by one, the newest (guess: more than anyone reads)."""
RECENT_STEPS = 2048  # as many as batches: they are replayed together


class StallTrace:
    """Everything that was recorded of the steps of one run, in bounded memory."""

    def __init__(self, *, clock: Clock, device_type: str) -> None:
        self.clock: Clock = clock
        self.device_type = device_type
        self.steps_seen = 0
        self.warmup = StepTotals()
        self.steady = StepTotals()
        self.timeline = Timeline()
        self.recent: deque[StepTimes] = deque(maxlen=RECENT_STEPS)
        """The newest steps, each with its spans."""
        self.epochs: deque[EpochTotals] = deque(maxlen=MAX_EPOCHS)
        self._window = StallWindow()
        self.first_batch_ns: int | None = None
        self.epoch_start_ns: deque[int] = deque(maxlen=MAX_EPOCHS)
        self.problem: str | None = None

    def add(self, step: StepTimes, epoch: EpochTotals | None = None) -> None:
        """Record one step that is not the first of its epoch.

        Args:
            step: Where its time went.
            epoch: The epoch that it belongs to; steps of a device are read late, perhaps when the
                next epoch has begun. ``None`` is the newest.
        """
        (self.warmup if self.warmup.steps < WARMUP_STEPS else self.steady).add(step)
        self.recent.append(step)
        began_ns = step.spans[0][1] if step.spans else 0
        self.timeline.add(began_ns, step.parts_ns)
        wall_ns = sum(step.parts_ns) - step.parts_ns[Part.VALIDATION]
        window = self._window
        window.steps += 1
        window.stall_ns += step.parts_ns[Part.WAIT]
        window.wall_ns += wall_ns
        window.host_wait_ns += step.host_wait_ns
        if epoch is None and self.epochs:
            epoch = self.epochs[-1]
        if epoch is not None:
            epoch.steps += 1
            epoch.stall_ns += step.parts_ns[Part.WAIT]
            epoch.wall_ns += wall_ns

    def take_window(self) -> StallWindow:
        """Return the steps recorded since the last call."""
        window, self._window = self._window, StallWindow()
        return window
