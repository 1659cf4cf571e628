"""Training as marks: each ends one part of a step and begins another.

A step runs from the end of one ``run_training_batch`` to the end of the next. Every moment between
two marks belongs to one part, so the parts add up to the step: nothing is left over or counted
twice. Where the device runs on its own (CUDA), a mark is also an event on its stream. The device
reaches an event once its earlier work is done *and* the host has asked for it, so the time between
two events is what the device spent: a wait that was covered by queued work takes no time there.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from lightning_fastdata.trace.events import Events
from lightning_fastdata.trace.record import EpochTotals, Part, StepTimes
from lightning_fastdata.trace.stall_trace import StallTrace

MAX_UNREAD_STEPS = 64
"""Steps whose device events may be unread at once; beyond it a step is left out, and counted."""

_Mark: TypeAlias = tuple[Part, int, Any]
"""The part that begins here, the host's time in nanoseconds, the event. A plain tuple: a named one
takes ten times as long to make, and six are made a step."""
_WAIT, _TRANSFER, _COMPUTE, _OTHER = Part.WAIT, Part.TRANSFER, Part.COMPUTE, Part.OTHER
_ASIDES = (Part.CHECKPOINT, Part.LOGGING)


@dataclass(slots=True)
class _EndedStep:
    marks: list[_Mark]
    """From the end of the step before to the end of this one."""
    fetches: int
    is_first_of_epoch: bool
    was_drained: bool | None
    samples: int | None = None
    epoch: EpochTotals | None = None


class StepRecorder:
    """Turns what the training loop does into marks, and marks into the steps of a ``StallTrace``.

    Straight line while training runs. ``commit`` says that the step which just ended was one of
    ours, so that steps run by others (a learning rate search, say) are forgotten, and so is the
    start of an epoch in which none of ours ran.

    Args:
        trace: Where steps are recorded.
        clock_ns: The host's clock.
        events: Makes marks on the device's clock; ``None`` where it has none.
        at_once: How many steps are read at a time: one by one, each finds the processor's caches
            cold.

    Attributes:
        part_now: What is going on in a step that is recorded, else ``None``. For whoever looks at
            this process from another thread.
    """

    def __init__(
        self,
        trace: StallTrace,
        *,
        clock_ns: Callable[[], int],
        events: Events | None,
        at_once: int = 1,
    ) -> None:
        self.part_now: Part | None = None
        self._trace = trace
        self._clock_ns = clock_ns
        self._events = events
        self._at_once = at_once
        self._marks: list[_Mark] = []
        self._ended: _EndedStep | None = None
        self._unread: deque[_EndedStep] = deque()
        self._in_step = self._in_fetch = False
        self._fetches = 0
        self._was_drained: bool | None = None
        self._asides = 0
        self._part_before_aside = _OTHER
        self._opening_ns: int | None = None
        self._epoch_began_ns = 0
        self._edge_ns: int | None = None
        self._epoch: EpochTotals | None = None
        self._is_first_of_epoch = True

    def loader_opened(self, opening_ns: int | None) -> None:
        """Add the time that making the loader took to the start of the epoch that comes next."""
        self._opening_ns = opening_ns

    def epoch_started(self) -> None:
        """The loop is about to ask for the first batch of an epoch."""
        self._ended = self._edge_ns = self._was_drained = self.part_now = None
        self._in_step = self._in_fetch = False
        self._fetches = self._asides = 0
        self._is_first_of_epoch = True
        # Events of marks given up here go to the collector, not the pool: one may still be unread.
        self._marks = []
        self._epoch_began_ns = self._mark(_OTHER)

    def epoch_stopped(self) -> None:
        """The last step of an epoch has run, and what comes next belongs to no step."""
        self.part_now = None

    def fetch_started(self) -> None:
        """The loop asks the loader for a batch."""
        self._ended = None
        self._in_fetch = True
        if self._events is not None and not self._fetches:
            self._was_drained = self._has_drained(self._events)
        self._mark(_WAIT)

    def fetch_stopped(self) -> None:
        """The loader has answered, with a batch or with the end."""
        self._in_fetch = False
        now_ns = self._mark(_COMPUTE if self._in_step else _OTHER)
        self._fetches += 1
        # A loader without a length is asked twice before the first batch is trained on.
        if self._is_first_of_epoch and (not self._in_step or self._edge_ns is None):
            self._edge_ns = now_ns - self._epoch_began_ns

    def transfer_started(self) -> None:
        """A batch is about to be moved, by the loop or by a loader that does it while it is asked.

        Only that of a training step counts.
        """
        if self._in_fetch or (self._fetches and not self._in_step):
            self._mark(_TRANSFER)

    def transfer_stopped(self) -> None:
        """A batch has been moved, or its copy has been asked for."""
        if self._marks and self._marks[-1][0] is _TRANSFER:
            self._mark(_WAIT if self._in_fetch else _OTHER)

    def step_started(self) -> None:
        """Forward, backward and optimiser are about to run."""
        self._in_step = True
        self._mark(_COMPUTE)

    def step_stopped(self) -> None:
        """Forward, backward and optimiser have been run, or asked for."""
        self._in_step = False
        self._is_first_of_epoch, is_first = False, self._is_first_of_epoch
        self._mark(_OTHER)
        self._ended = _EndedStep(self._marks, self._fetches, is_first, self._was_drained)
        self._marks = self._marks[-1:]
        self._fetches = 0
        self._was_drained = None

    def validation_comes(self) -> None:
        """The loop is about to validate: from here to the next fetch, all belongs to that."""
        if self._marks and self._marks[-1][0] is _OTHER:
            self._mark(Part.VALIDATION)

    def validation_started(self) -> None:
        """Validation runs. Where nothing said that it comes, it began at the last mark."""
        if self._marks and not self._in_step and self._marks[-1][0] is _OTHER:
            _, host_ns, event = self._marks[-1]
            self._marks[-1] = (Part.VALIDATION, host_ns, event)
            if self.part_now is not None:
                self.part_now = Part.VALIDATION

    def aside_started(self, part: Part) -> None:
        """A checkpoint is about to be saved, or metrics to be logged: ``part`` says which.

        It is taken out of whatever goes on, validation and the step included, so that the cost of
        a slow disk or logger has one name wherever it occurs. Only what happens while a batch is
        asked for or moved stays there, and an aside within another belongs to the outer one.
        """
        self._asides += 1
        if self._asides == 1 and self._marks and self._marks[-1][0] > _TRANSFER:
            self._part_before_aside = self._marks[-1][0]
            self._mark(part)

    def aside_stopped(self) -> None:
        """The checkpoint has been saved, or the metrics logged: what went on before goes on."""
        self._asides = max(0, self._asides - 1)
        if self._asides == 0 and self._marks and self._marks[-1][0] in _ASIDES:
            self._mark(self._part_before_aside)

    def commit(self, samples: int | None) -> None:
        """Keep the step that just ended, and read what the device has finished by now."""
        ended, self._ended = self._ended, None
        if ended is None:
            return
        self._trace.steps_seen += 1
        if self._edge_ns is not None:
            self._open_epoch(self._edge_ns)
        ended.epoch = self._epoch
        ended.samples = samples if ended.fetches == 1 else None
        events = self._events
        is_readable = events is None or all(event is not None for _, _, event in ended.marks)
        if is_readable and len(self._unread) < MAX_UNREAD_STEPS:
            self._unread.append(ended)
        if len(self._unread) >= self._at_once:
            self._read_finished()

    def read(self) -> None:
        """Read what the device has finished by now."""
        self._read_finished()

    def finish(self, *, wait: bool) -> None:
        """Read what is left; wait for the device, or lose what it has not finished."""
        self.part_now = None
        if wait and self._unread and self._events is not None:
            self._events.wait_for(self._unread[-1].marks[-1][2])
        self._read_finished()

    def _mark(self, part: Part) -> int:
        event = None if self._events is None else self._events.record()
        now_ns = self._clock_ns()
        self._marks.append((part, now_ns, event))
        if not self._is_first_of_epoch:
            self.part_now = part
        return now_ns

    def _has_drained(self, events: Events) -> bool | None:
        """Ask, without waiting, whether the device has done all work of the last step.

        After validation the answer would say nothing of training.
        """
        if not self._marks or any(mark[0] is Part.VALIDATION for mark in self._marks):
            return None
        event = self._marks[0][2]
        return None if event is None else events.has_passed(event)

    def _open_epoch(self, edge_ns: int) -> None:
        """Record how long the first batch of an epoch took, with the making of the loader."""
        opening_ns, self._opening_ns, self._edge_ns = self._opening_ns, None, None
        trace = self._trace
        start_ns: int | None
        if self._epoch is not None:
            start_ns = edge_ns + (opening_ns or 0)
            trace.epoch_start_ns.append(start_ns)
        else:
            start_ns = None if opening_ns is None else edge_ns + opening_ns
            trace.first_batch_ns = start_ns
        number = 0 if self._epoch is None else self._epoch.epoch + 1
        self._epoch = EpochTotals(epoch=number, start_ns=start_ns)
        trace.epochs.append(self._epoch)

    def _read_finished(self) -> None:
        events = self._events
        while self._unread:
            step = self._unread[0]
            if events is not None and not events.has_passed(step.marks[-1][2]):
                return
            self._unread.popleft()
            # The first step of an epoch holds the epoch's edge, which is a number of its own.
            if not step.is_first_of_epoch:
                self._trace.add(_step_times(step, events), step.epoch)
            if events is not None:
                for _, _, event in step.marks[:-1]:  # the last is the first of the next step
                    events.release(event)


def _step_times(step: _EndedStep, events: Events | None) -> StepTimes:
    parts_ns = [0] * len(Part)
    spans: list[tuple[Part, int, int]] = []
    device_spans_ns: list[int] = []
    host_wait_ns = 0
    part, began_ns, event = step.marks[0]
    for next_part, ended_ns, next_event in step.marks[1:]:
        spans.append((part, began_ns, ended_ns))
        lasted_ns = ended_ns - began_ns
        if part is _WAIT:
            host_wait_ns += lasted_ns
        if events is not None:
            lasted_ns = events.between_ns(event, next_event)
            device_spans_ns.append(lasted_ns)
        parts_ns[part] += lasted_ns
        part, began_ns, event = next_part, ended_ns, next_event
    return StepTimes(
        parts_ns=tuple(parts_ns),
        host_wait_ns=host_wait_ns,
        samples=step.samples,
        spans=tuple(spans),
        device_spans_ns=tuple(device_spans_ns),
        was_drained=step.was_drained,
    )
