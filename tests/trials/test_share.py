"""A trial that stands for one of several ranks runs on its cores, and leaves nothing there."""

import os
import sys
import threading
from typing import NoReturn

import pytest

from lightning_fastdata.machine import Machine, read_machine, whole_cores
from lightning_fastdata.trials.share import on_share_of_cores

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="no other system binds a process to cores"
)


def half() -> Machine:
    return read_machine({}, local_world_size=2)


def test_the_share_is_that_of_the_machine_and_ends_with_the_block() -> None:
    before = os.sched_getaffinity(0)

    with on_share_of_cores(half()) as cores:
        inside = os.sched_getaffinity(0)

    assert cores == len(inside) == whole_cores(half().cores)
    assert inside <= before
    assert os.sched_getaffinity(0) == before


def test_it_ends_also_where_the_trial_raises() -> None:
    before = os.sched_getaffinity(0)

    with pytest.raises(ZeroDivisionError), on_share_of_cores(half()):
        raise ZeroDivisionError

    assert os.sched_getaffinity(0) == before


def test_threads_that_began_meanwhile_may_run_anywhere_afterwards() -> None:
    """As the pools of libraries do, which live on."""
    may_end, began = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (began.set(), may_end.wait(30)))

    with on_share_of_cores(half()):
        thread.start()
        assert began.wait(30)
        inside = os.sched_getaffinity(thread.native_id or 0)
    after = os.sched_getaffinity(thread.native_id or 0)
    may_end.set()
    thread.join()

    assert len(inside) == whole_cores(half().cores)
    assert after == os.sched_getaffinity(0)


def test_nothing_changes_for_none() -> None:
    before = os.sched_getaffinity(0)

    with on_share_of_cores(None) as cores:
        assert (cores, os.sched_getaffinity(0)) == (None, before)


@pytest.mark.parametrize("name", ["sched_setaffinity", "sched_getaffinity"])
def test_where_it_is_forbidden_a_trial_runs_on_all_cores(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> NoReturn:
        raise PermissionError("a sandbox")

    machine = half()
    monkeypatch.setattr(os, name, forbidden)

    with on_share_of_cores(machine) as cores:
        assert cores is None
