"""What a worker's death means: whose doing it was, and how to say it."""

import os
import signal
from typing import NamedTuple

from lightning_fastdata.errors import SampleError, WorkerError
from lightning_fastdata.loader.make import NO_ROW
from lightning_fastdata.loader.ring.child import Child, Death
from lightning_fastdata.loader.ring.failures import failure_of, signal_name
from lightning_fastdata.loader.ring.jobs import OUTSIDE_BLAME, OWN_BLAME, TOO_MUCH_BLAME
from lightning_fastdata.loader.ring.messages import SEED_BYTES, Chunk, Failure

_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT}


class Verdict(NamedTuple):
    """What is held against the sample that a worker ended at."""

    chunk: Chunk | None
    """What it was at; ``None`` where it had not begun anything."""
    row: int | None
    """The sample of it; ``None`` where it was no single sample."""
    blame: int
    """How likely it is that the sample was the cause, as ``jobs`` adds it up."""
    words: str
    """How the worker ended."""
    failure: Failure
    """What is raised if the work is given up."""


def verdict_on(child: Child, death: Death, oom_kills: int) -> Verdict:
    """Judge a death.

    Args:
        child: The worker, with what it had been given.
        death: How it ended.
        oom_kills: Processes of this container that the kernel killed for memory meanwhile.
    """
    chunk, row = child.current, child.board.row
    at_row = None if chunk is None or row == NO_ROW else row
    where = _where(chunk, at_row)
    if chunk is None and child.queued:
        where += f", with {_where(child.queued[0], None)} next"
    name = f"worker {child.number} (process {child.pid})"
    if child.no_memory is not None:
        words = f"{name} ran out of memory while it made {where}"
        return Verdict(chunk, at_row, OWN_BLAME, words, child.no_memory)
    if child.stuck is not None:
        state, after_s = child.stuck.state, child.stuck.after_s
        if state in "Tt" or child.stuck.is_suspicion:
            how = "was stopped" if state in "Tt" else "did nothing"
            words = f"{name} {how} for {after_s:.3g} s while it made {where}"
            return Verdict(
                chunk, at_row, OUTSIDE_BLAME, words, failure_of(WorkerError(f"{words}."))
            )
        text = (
            f"{where} was not made within {after_s:.3g} s by {name}, which "
            f"{_DOING.get(state, 'did nothing')}, wanted an end within sample_timeout_s. "
            "Look at its stacks, or pass a larger sample_timeout_s."
        )
        if death.stacks:
            text += f" The worker's stacks:\n{death.stacks}"
        words = f"{name} was ended because {where} took more than {after_s:.3g} s"
        return Verdict(chunk, at_row, TOO_MUCH_BLAME, words, failure_of(SampleError(text)))
    words = f"{name} {_how(death)} while it made {where}"
    signal_number = _signal_of(death)
    outside = signal_number in _FROM_OUTSIDE and not oom_kills
    advice = _advice(signal_number, oom_kills, death)
    crashed = f"\nWhere it crashed:\n{death.stacks}" if death.stacks else ""
    error = WorkerError(f"{words}, wanted a worker that goes on. {advice}{crashed}")
    blame = OUTSIDE_BLAME if outside else OWN_BLAME
    return Verdict(chunk, at_row, blame, f"{words}. {advice}", failure_of(error))


_DOING = {
    "S": "slept or waited for something",
    "R": "was busy all the time",
    "D": "waited for a disk or a network file system that does not answer",
}


def _how(death: Death) -> str:
    if death.status is None:
        return "ended"
    code = os.waitstatus_to_exitcode(death.status)
    return f"was killed by {signal_name(-code)}" if code < 0 else f"ended with status {code}"


def _signal_of(death: Death) -> int | None:
    if death.status is None or not os.WIFSIGNALED(death.status):
        return None
    return os.WTERMSIG(death.status)


def _advice(signal_number: int | None, oom_kills: int, death: Death) -> str:
    peak = "" if death.peak_bytes is None else f"It had up to {death.peak_bytes / 1e6:.4g} MB. "
    if oom_kills:
        return (
            f"Memory had run out: the kernel killed {oom_kills} of this container's processes. "
            f"{peak}Use fewer workers, smaller batches, or give it more memory."
        )
    if signal_number == signal.SIGKILL:
        return (
            f"{peak}Somebody, or the system when memory runs out, kills processes so: look at the "
            "system's log; fewer workers or smaller batches take less memory."
        )
    return f"{peak}Set num_workers=0 to see the sample's own error in this process."


def _where(chunk: Chunk | None, row: int | None) -> str:
    if chunk is None:
        return "nothing yet"
    samples = len(chunk.seeds) // SEED_BYTES
    if chunk.mode in ("stream", "new stream"):
        return f"batch {chunk.place} of its stream"
    if chunk.are_keys:
        place = "" if row is None else f"the sample in row {chunk.first_row + row} of "
        return f"{place}batch {chunk.number}"
    if row is not None:
        return f"sample {_index(chunk, row)}"
    if samples == 1:
        return f"batch {chunk.number}, of sample {_index(chunk, 0)}"
    first, last = _index(chunk, 0), _index(chunk, samples - 1)
    return f"batch {chunk.number}, of {samples} samples from {first} to {last}"


def _index(chunk: Chunk, row: int) -> int:
    part = chunk.indices[row * SEED_BYTES : (row + 1) * SEED_BYTES]
    return int.from_bytes(part, "little", signed=True)
