"""A fork of the training process beside an open ring disturbs neither of the two."""

import os
import signal
from collections.abc import Callable
from typing import Any

from sample_sets import Numbers, loader_of


def numbers_of(batches: Any) -> list[int]:
    return [number for batch in batches for number in batch.tolist()]


def status_of(child: Callable[[], None]) -> int:
    """How a fork of this process ends that calls ``child`` and then leaves without ceremony."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            signal.alarm(20)  # a child that hangs is to end
            child()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_fork_in_the_loop_does_not_disturb_the_ring() -> None:
    loader = loader_of(Numbers(80), num_workers=2)

    found, ends = [], []
    for batch in loader:
        ends.append(status_of(lambda batch=batch: batch.add_(1000)))  # type: ignore[misc]
        found += [number % 1000 for number in batch.tolist()]

    assert found == list(range(80))
    assert set(ends) == {0}


def test_a_forked_child_can_close_its_copy_of_the_loader() -> None:
    loader = loader_of(Numbers(80), num_workers=2)
    batches = iter(loader)
    first = next(batches).tolist()

    status = status_of(loader.close)

    assert status == 0
    assert first + numbers_of(batches) == list(range(80))


def test_a_forked_child_can_drop_its_copy_of_a_pass() -> None:
    loader = loader_of(Numbers(80), num_workers=2)
    batches: Any = iter(loader)
    first = next(batches).tolist()

    status = status_of(lambda: batches.close())

    assert status == 0
    assert first + numbers_of(batches) == list(range(80))


def test_a_loader_that_was_used_works_in_a_forked_child() -> None:
    """As where a notebook looks at a batch, and Lightning then forks a process a device."""
    loader = loader_of(Numbers(80), num_workers=2)
    list(loader)

    def use() -> None:
        assert numbers_of(loader) == list(range(80))
        loader.close()

    assert status_of(use) == 0
    assert numbers_of(loader) == list(range(80))
