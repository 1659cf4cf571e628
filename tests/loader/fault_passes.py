"""Going over a dataset while workers and nurseries are killed, and what came of it."""

import multiprocessing.resource_tracker
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from ring_tools import is_alive
from sample_sets import loader_of, plain

WITHIN_S = 20.0  # guess: whatever is waited for takes milliseconds


@contextmanager
def told_of(kind: type[Warning], match: str = "") -> Iterator[None]:
    """See that what is done here, in several steps, is warned of."""
    with pytest.warns(kind, match=match):
        yield


class Pass(NamedTuple):
    """What came of going over a loader once."""

    batches: list[Any]
    warned: list[str]
    error: Exception | None
    bad: dict[Any, str]

    @property
    def words(self) -> str:
        """The error's, with its notes and the text of its cause."""
        assert self.error is not None
        notes = getattr(self.error, "__notes__", [])
        return "\n".join([str(self.error), *notes, str(self.error.__cause__)])

    @property
    def numbers(self) -> list[int]:
        """All samples that came."""
        return numbers_in(self.batches)


def numbers_in(batches: Sequence[Any]) -> list[int]:
    """The samples' numbers in batches as plain values, whatever else the samples hold."""
    numbers: list[int] = []
    for batch in batches:
        values = batch[0] if isinstance(batch, list) and len(batch) == 2 else batch
        values = values[-1] if isinstance(values, tuple) else values
        numbers += values if isinstance(values, list) else [values]
    return numbers


def go_over(
    dataset: Any,
    batch_size: int | None = 4,
    *,
    during: Callable[[int], object] | None = None,
    passes: int = 1,
    **how: Any,
) -> Pass:
    """Go over a dataset with a loader of its own.

    Args:
        dataset: Map-style or a stream.
        batch_size: Samples a batch.
        during: Called with the number of each batch once that has come.
        passes: How often to go over it; all batches are given together.
        how: The loader's arguments.
    """
    batches: list[Any] = []
    failed = None
    if how.setdefault("num_workers", 0):
        how.setdefault("engine", "ring")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more than cores
        loader = loader_of(dataset, batch_size, **how)
        try:
            for _ in range(passes):
                for number, batch in enumerate(loader):
                    batches.append(plain(batch))
                    del batch
                    if during is not None:
                        during(number)
        except Exception as error:
            failed = error
        finally:
            loader.close()
    warned = [f"{type(each.message).__name__}: {each.message}" for each in heard]
    bad = {one.index: one.error for one in loader.bad_samples()}
    return Pass(batches, warned, failed, bad)


def nursery() -> psutil.Process:
    """The nursery of the one open ring of this process."""
    tracker = getattr(multiprocessing.resource_tracker._resource_tracker, "_pid")  # noqa: B009
    (found,) = [child for child in psutil.Process().children() if child.pid != tracker]
    return found


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline_s, "it never happened"
        time.sleep(0.002)


def workers_at_rest() -> list[psutil.Process]:
    """The workers, once all of them sleep."""
    workers: list[psutil.Process] = nursery().children()
    wait_until(lambda: all(one.status() == psutil.STATUS_SLEEPING for one in workers))
    return workers


class KillsAWorker:
    """Kills a random worker after each batch but the last ones.

    Args:
        most: How many to kill.
    """

    def __init__(self, most: int) -> None:
        self._left, self._random = most, random.Random(5)

    def __call__(self, number: int) -> None:
        if not self._left:
            return
        with suppress(psutil.NoSuchProcess):  # it has ended between being seen and being killed
            workers = nursery().children()
            if workers:
                self._random.choice(workers).kill()
                self._left -= 1


def kill_nursery_after(*numbers: int) -> Callable[[int], None]:
    """Give a function that kills the nursery after these batches."""

    def during(number: int) -> None:
        if number in numbers:
            end(nursery())

    return during


def end(process: psutil.Process) -> None:
    """Kill a process, and see that it is dead."""
    process.kill()
    wait_until(lambda: not is_alive(process))


def a_file_below_a_file(folder: Path) -> Path:
    """A path that nobody can write to, not even root."""
    (folder / "file").write_text("in the way")
    return folder / "file" / "bad.jsonl"
