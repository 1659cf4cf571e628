"""Training as marks: each ends one part of a step and begins another.

A step runs from the end of one ``run_training_batch`` to the end of the next. Every moment between
two marks belongs to one part, so the parts add up to the step: nothing is left over or counted
twice. Where the device runs on its own (CUDA), a mark is also an event on its stream. The device
reaches an event once its earlier work is done *and* the host has asked for it, so the time between
two events is what the device spent: a wait that was covered by queued work takes no time there.
"""

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from lightning_fastdata.trace.events import Events
from lightning_fastdata.trace.record import Part, StepTimes
from lightning_fastdata.trace.stall_trace import StallTrace

MAX_UNREAD_STEPS = 64
"""Steps whose device events may be unread at once; beyond it a step is left out, and counted."""


class _Mark(NamedTuple):
    part: Part
    """The part that begins here."""
    host_ns: int
    event: Any | None


class _EndedStep(NamedTuple):
    marks: list[_Mark]
    """From the end of the step before to the end of this one."""
    fetches: int
    is_first_of_epoch: bool
    samples: int | None = None


class StepRecorder:
    """Turns what the training loop does into marks, and marks into the steps of a ``StallTrace``.

    Straight line while training runs. ``commit`` says that the step which just ended was one of
    ours, so that steps run by others (a learning rate search, say) are forgotten.
    """

    def __init__(
        self, trace: StallTrace, *, clock_ns: Callable[[], int], events: Events | None
    ) -> None:
        self._trace = trace
        self._clock_ns = clock_ns
        self._events = events
        self._marks: list[_Mark] = []
        self._ended: _EndedStep | None = None
        self._unread: deque[_EndedStep] = deque()
        self._in_step = self._in_fetch = False
        self._fetches = 0
        self._opening_ns: int | None = None
        self._epoch_began_ns: int | None = None
        self._is_first_epoch = True
        self._is_first_of_epoch = True

    def loader_opened(self, opening_ns: int | None) -> None:
        """Add the time that making the loader took to the start of the epoch that comes next."""
        self._opening_ns = opening_ns

    def epoch_started(self) -> None:
        """The loop is about to ask for the first batch of an epoch."""
        self._ended = None
        self._in_step = self._in_fetch = False
        self._fetches = 0
        self._is_first_of_epoch = True
        # Events of marks given up here go to the collector, not the pool: one may still be unread.
        self._marks = []
        self._epoch_began_ns = self._mark(Part.OTHER)

    def fetch_started(self) -> None:
        """The loop asks the loader for a batch."""
        self._ended = None
        self._in_fetch = True
        self._mark(Part.WAIT)

    def fetch_stopped(self) -> None:
        """The loader has answered, with a batch or with the end."""
        self._in_fetch = False
        now_ns = self._mark(Part.COMPUTE if self._in_step else Part.OTHER)
        self._fetches += 1
        if self._epoch_began_ns is not None:
            self._epoch_is_open(now_ns - self._epoch_began_ns)

    def transfer_started(self) -> None:
        """A batch is about to be moved, by the loop or by a loader that does it while it is asked.

        Only that of a training step counts.
        """
        if self._in_fetch or (self._fetches and not self._in_step):
            self._mark(Part.TRANSFER)

    def transfer_stopped(self) -> None:
        """A batch has been moved, or its copy has been asked for."""
        if self._marks and self._marks[-1].part is Part.TRANSFER:
            self._mark(Part.WAIT if self._in_fetch else Part.OTHER)

    def step_started(self) -> None:
        """Forward, backward and optimiser are about to run."""
        self._in_step = True
        self._mark(Part.COMPUTE)

    def step_stopped(self) -> None:
        """Forward, backward and optimiser have been run, or asked for."""
        self._in_step = False
        self._mark(Part.OTHER)
        self._ended = _EndedStep(self._marks, self._fetches, self._is_first_of_epoch)
        self._marks = self._marks[-1:]
        self._fetches = 0
        self._is_first_of_epoch = False

    def validation_started(self) -> None:
        """The time from the last step to the next fetch is validation and what belongs to it."""
        if self._marks and not self._in_step and self._marks[-1].part is Part.OTHER:
            last = self._marks[-1]
            self._marks[-1] = _Mark(Part.VALIDATION, last.host_ns, last.event)

    def commit(self, samples: int | None) -> None:
        """Keep the step that just ended, and read what the device has finished by now."""
        ended, self._ended = self._ended, None
        if ended is None:
            return
        self._trace.steps_seen += 1
        ended = ended._replace(samples=samples if ended.fetches == 1 else None)
        is_readable = self._events is None or all(mark.event is not None for mark in ended.marks)
        if is_readable and len(self._unread) < MAX_UNREAD_STEPS:
            self._unread.append(ended)
        self._read_finished()

    def finish(self, *, wait: bool) -> None:
        """Read what is left; wait for the device, or lose what it has not finished."""
        if wait and self._unread and self._events is not None:
            self._events.wait_for(self._unread[-1].marks[-1].event)
        self._read_finished()

    def _mark(self, part: Part) -> int:
        event = None if self._events is None else self._events.record()
        now_ns = self._clock_ns()
        self._marks.append(_Mark(part, now_ns, event))
        return now_ns

    def _epoch_is_open(self, edge_ns: int) -> None:
        """Record how long the first batch of an epoch took, with the making of the loader."""
        opening_ns, self._opening_ns = self._opening_ns, None
        self._epoch_began_ns = None
        if not self._is_first_epoch:
            self._trace.epoch_start_ns.append(edge_ns + (opening_ns or 0))
        elif opening_ns is not None:
            self._trace.first_batch_ns = edge_ns + opening_ns
        self._is_first_epoch = False

    def _read_finished(self) -> None:
        events = self._events
        while self._unread:
            step = self._unread[0]
            if events is not None and not events.has_passed(step.marks[-1].event):
                return
            self._unread.popleft()
            # The first step of an epoch holds the epoch's edge, which is a number of its own.
            if not step.is_first_of_epoch:
                self._trace.add(_step_times(step, events))
            if events is not None:
                for mark in step.marks[:-1]:  # the last is the first of the next step
                    events.release(mark.event)


def _step_times(step: _EndedStep, events: Events | None) -> StepTimes:
    parts_ns = [0] * len(Part)
    host_wait_ns = 0
    for begin, end in pairwise(step.marks):
        host_ns = end.host_ns - begin.host_ns
        parts_ns[begin.part] += (
            host_ns if events is None else events.between_ns(begin.event, end.event)
        )
        if begin.part is Part.WAIT:
            host_wait_ns += host_ns
    return StepTimes(parts_ns=tuple(parts_ns), host_wait_ns=host_wait_ns, samples=step.samples)
