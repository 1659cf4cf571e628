"""A training loop, its clock and its device, which move only when told to."""

from typing import NamedTuple

from hypothesis import strategies as st

from lightning_fastdata.trace import (
    Clock,
    EpochTotals,
    StallTrace,
    StepRecorder,
    StepTimes,
)

small_ns = st.integers(0, 9)


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class FakeDevice:
    """A stream: work runs in order, an event passes when what was queued before it is done."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.busy_until_ns = 0
        self.released = 0
        self.captures = False
        self.waits = 0

    def queue(self, work_ns: int) -> None:
        self.busy_until_ns = max(self.busy_until_ns, self.clock.now_ns) + work_ns

    def record(self) -> int | None:
        return None if self.captures else max(self.busy_until_ns, self.clock.now_ns)

    def has_passed(self, event: int) -> bool:
        return event <= self.clock.now_ns

    def wait_for(self, event: int) -> None:
        self.waits += 1
        self.clock.now_ns = max(self.clock.now_ns, event)

    def between_ns(self, first: int, second: int) -> int:
        return second - first

    def release(self, event: int) -> None:
        self.released += 1


class Step(NamedTuple):
    before_ns: int = 0
    wait_ns: int = 0
    transfer_ns: int = 0
    launch_ns: int = 0
    device_ns: int = 0
    validates: bool = False


steps = st.builds(Step, small_ns, small_ns, small_ns, small_ns, st.integers(0, 30), st.booleans())


class KeepingTrace(StallTrace):
    """Keeps every step as it was recorded."""

    def __init__(self, *, clock: Clock, device_type: str) -> None:
        super().__init__(clock=clock, device_type=device_type)
        self.added: list[StepTimes] = []

    def add(self, step: StepTimes, epoch: EpochTotals | None = None) -> None:
        self.added.append(step)
        super().add(step, epoch)


class Loop:
    """Drives a recorder as Lightning's training loop does."""

    def __init__(self, *, on_device: bool = False) -> None:
        self.clock = FakeClock()
        self.device = FakeDevice(self.clock) if on_device else None
        self.trace = KeepingTrace(
            clock="cuda" if on_device else "host", device_type="cuda" if on_device else "cpu"
        )
        self.recorder = StepRecorder(self.trace, clock_ns=self.clock, events=self.device)
        self.added = self.trace.added

    def run(self, step: Step, *, samples: int | None = None, is_ours: bool = True) -> None:
        clock, recorder = self.clock, self.recorder
        if step.validates:
            recorder.validation_started()
        clock.now_ns += step.before_ns
        self.fetch(step.wait_ns)
        recorder.transfer_started()
        clock.now_ns += step.transfer_ns
        recorder.transfer_stopped()
        recorder.step_started()
        clock.now_ns += step.launch_ns
        if self.device:
            self.device.queue(step.device_ns)
        recorder.step_stopped()
        if is_ours:
            recorder.commit(samples)

    def fetch(self, wait_ns: int) -> None:
        self.recorder.fetch_started()
        self.clock.now_ns += wait_ns
        self.recorder.fetch_stopped()

    def start_epoch(self, first: Step | None = None) -> None:
        self.recorder.epoch_started()
        self.run(first or Step())
