"""What went wrong in another process, raised or said in this one."""

import os
import signal
import warnings
from typing import NoReturn

import psutil  # type: ignore[import-untyped]  # it ships no types

from lightning_fastdata.errors import WorkerError
from lightning_fastdata.loader.ring.arena import loads
from lightning_fastdata.loader.ring.messages import Failure, MemoryGrew, WorkerDied

WORTH_A_WARNING = 0.05  # guess: share of this machine's memory that copies may take in silence


class _WorkerTracebackError(Exception):
    """The cause of an error that came from a worker: shows where it was raised there."""

    def __init__(self, text: str) -> None:
        super().__init__(f"\n{text}")


def raise_failure(failure: Failure) -> NoReturn:
    """Raise what a worker raised, with its traceback as the cause."""
    if failure.pickled is None:
        raise WorkerError(
            f"a worker raised {failure.kind}, which cannot be sent between processes. "
            f"Its traceback was:\n{failure.text}"
        )
    try:
        error: Exception = loads(failure.pickled)
    except Exception:  # of a class of the main module, which could not be tried in the worker
        raise_failure(failure._replace(pickled=None))
    raise error from _WorkerTracebackError(failure.text)


def worker_error(died: WorkerDied) -> WorkerError:
    """Say that a worker ended in the middle of its work."""
    code = os.waitstatus_to_exitcode(died.status)
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    advice = (
        "The system kills processes when memory runs out: look at its log, and use fewer workers "
        "or smaller batches."
        if code == -signal.SIGKILL
        else "Set num_workers=0 to see the sample's own error in this process."
    )
    return WorkerError(
        f"worker {died.worker} (process {died.pid}) {how} while it made batch "
        f"{', '.join(map(str, died.batches)) or 'none'}, wanted a worker that goes on. {advice}"
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
