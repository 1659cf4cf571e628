"""What went wrong in another process: made fit to be sent there, raised or said here."""

import signal
import traceback
import warnings

import psutil  # type: ignore[import-untyped]  # it ships no types

from lightning_fastdata.errors import WorkerError, WorkerWarning
from lightning_fastdata.loader.describe import add_note
from lightning_fastdata.loader.hazards.cuda import explain_cuda
from lightning_fastdata.loader.ring.arena import dumps, loads
from lightning_fastdata.loader.ring.messages import (
    Deadlocked,
    Failure,
    GaveUp,
    MemoryGrew,
    WorkerDied,
)

_TOLD = 3  # deaths of workers; then every tenth power
WORTH_A_WARNING = 0.05  # guess: share of this machine's memory that copies may take in silence


class _WorkerTracebackError(Exception):
    """The cause of an error that came from a worker: shows where it was raised there."""

    def __init__(self, text: str) -> None:
        super().__init__(f"\n{text}")


def error_of(failure: Failure) -> Exception:
    """What a worker raised, with its traceback as the cause."""
    if failure.pickled is None:
        return WorkerError(
            f"a worker raised {failure.kind}, which cannot be sent between processes. "
            f"Its traceback was:\n{failure.text}"
        )
    try:
        error: Exception = loads(failure.pickled)
    except Exception:  # of a class of the main module, which could not be tried in the worker
        return error_of(failure._replace(pickled=None))
    if failure.text:
        error.__cause__ = _WorkerTracebackError(failure.text)
    return error


def failure_of(error: Exception) -> Failure:
    """Make an exception fit to be sent, traceback and all."""
    if (advice := explain_cuda(error)) is not None:
        add_note(error, advice)
    text = "".join(traceback.format_exception(error))
    if not hasattr(error, "add_note"):  # Python 3.10 leaves notes out
        text += "\n".join(error.__dict__.get("__notes__", ()))
    try:
        pickled = dumps(error)
        if type(error).__module__ != "__main__":  # whose classes only the loop's process may have
            loads(pickled)
    except Exception:  # its class refuses in its own way; then name and traceback have to do
        return Failure(None, type(error).__name__, text)
    return Failure(pickled, type(error).__name__, text)


def gave_up(news: GaveUp) -> WorkerError:
    """The error of workers that never make anything."""
    return WorkerError(
        f"{news.words.rstrip('.')}, and so did those started in its place, wanted one that makes "
        "a sample. "
        "Look at worker_init_fn and at what the dataset does when it is first used."
        + (f"\nWhere the last one was:\n{news.stacks}" if news.stacks else "")
    )


def signal_name(number: int) -> str:
    """A signal's name, or its number where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def nursery_words(pid: int, status: int) -> str:
    """Say how a nursery ended."""
    how = f"was killed by {signal_name(-status)}" if status < 0 else f"ended ({status})"
    return f"the process that runs the workers ({pid}) {how}"


def warn_of_new_nursery(words: str) -> None:
    """Say that a nursery was replaced."""
    warnings.warn(
        f"{words}. A new one goes on, and makes the batches again that were under way.",
        WorkerWarning,
        stacklevel=2,
    )


def warn_of_deadlock(news: Deadlocked) -> None:
    """Say that forked workers were replaced by those of a fresh interpreter, and why."""
    warnings.warn(
        f"no worker got on for {news.after_s:.3g} s at the first batch: a lock that was held at "
        "the moment of the fork stays locked in forked workers for ever. Workers of a fresh "
        'interpreter make it now; multiprocessing_context="spawn" starts with these. Where the '
        f"forked ones stood:\n{news.stacks}",
        WorkerWarning,
        stacklevel=2,
    )


def warn_of_death(died: WorkerDied) -> None:
    """Say that a worker was replaced, and how it ended; of many only a few are told."""
    if not died.words:
        return  # the error or warning about its sample says it
    if died.deaths > _TOLD and 10 ** (len(str(died.deaths)) - 1) != died.deaths:
        return
    so_far = f" These are {died.deaths} workers so far." if died.deaths > 1 else ""
    crashed = f"\nWhere it was:\n{died.stacks}" if died.stacks else ""
    warnings.warn(
        f"{died.words.rstrip('.')}. Its work is made again by another one.{so_far}{crashed}",
        WorkerWarning,
        stacklevel=2,
    )


def timed_out(timeout_s: float) -> WorkerError:
    """The error of a batch that takes too long."""
    return WorkerError(
        f"DataLoader timed out after {timeout_s:g} seconds: no batch came from the workers, wanted "
        "one. Pass a longer timeout, or look at what the dataset waits for."
    )


def is_worth_a_warning(grew: MemoryGrew) -> bool:
    """Whether the copies that all workers made take a share of memory that people care about."""
    total: int = psutil.virtual_memory().total
    return grew.bytes_each * grew.num_workers >= WORTH_A_WARNING * total


def warn_of_copies(grew: MemoryGrew) -> None:
    """Warn that the dataset's memory is being copied, and how to avoid it."""
    each, total = grew.bytes_each / 1e6, grew.bytes_each * grew.num_workers / 1e6
    warnings.warn(
        f"each of the {grew.num_workers} workers has by now copied {each:.3g} MB of the dataset's "
        f"memory ({total:.3g} MB in all): Python counts references in every object that is read, "
        "and each count is a write. Keep long lists of paths, labels or records in a NumPy array, "
        "a tensor or a memory-mapped file, which are shared without copies.",
        stacklevel=2,
    )
