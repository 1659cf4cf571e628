"""Workers take over in the middle of a pass, only where they can, and with the data as it is."""

import sqlite3
import threading
from contextlib import closing
from typing import Any, cast

import pytest
import torch
from adapting_tools import MS, FakeControls, Loop, S, want_two_workers
from sample_sets import MORE_WORKERS_THAN_CORES, Numbers, loader_of, plain
from test_resize import WorkerNumbers

from lightning_fastdata.loader.ring.crew import Crew
from lightning_fastdata.loader.ring.jobs import Jobs
from lightning_fastdata.loader.ring.settings import RingSettings

pytestmark = MORE_WORKERS_THAN_CORES


def test_what_it_takes_to_start_the_first_workers_is_held_against_nobody() -> None:
    """A fresh interpreter takes seconds; more workers would look useless."""
    controls = FakeControls(2)
    loop = Loop(controls, num_workers=0)

    loop.steps(26, step_ns=30 * MS, wait_ns=10 * MS)
    loop.steps(1, step_ns=30 * MS, wait_ns=3 * S)
    loop.steps(120, step_ns=30 * MS, ready=True)

    windows = controls.windows[:2]
    assert [(each.num_workers, each.is_new_pass) for each in windows] == [(0, True), (2, True)]
    assert windows[1].stall_ns == 0


class Scaled(Numbers):
    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.factor = 1

    def __getitem__(self, index: int) -> int:
        return self.factor * index


@pytest.mark.parametrize("before", [0, 2])
def test_workers_that_came_in_mid_pass_see_what_is_changed_after_it(before: int) -> None:
    dataset = Scaled(40)
    with closing(loader_of(dataset, 4, num_workers=before)) as loader:
        for number, _ in enumerate(loader):
            if number == 1:
                loader.resize(3)
        dataset.factor = 10
        after = torch.cat(list(loader))

    assert torch.equal(after, 10 * torch.arange(40))


def test_engines_of_earlier_numbers_are_let_go() -> None:
    """A run of months changes its mind often."""
    with closing(loader_of(Numbers(8), 4, num_workers=1, engine="torch")) as loader:
        for wanted in (1, 2, 1, 2):
            loader.resize(wanted)
            list(loader)

        assert len(loader._shelf._glances) == 1


def test_the_successor_has_all_its_batches_asked_for_at_once() -> None:
    """Not one alone, which the others would have to wait for."""
    with closing(loader_of(Numbers(400), 4, num_workers=0)) as loader:
        batches = iter(loader)
        next(batches)
        loader.resize(2)
        next(batches)
        (lent,) = loader._shelf._lent

        assert (lent.depth, lent.in_flight) == (8, 7)
        del batches, lent


def test_a_number_is_free_again_as_soon_as_its_worker_gets_no_more_work() -> None:
    """Users' functions take it for a place among ``num_workers``."""
    with closing(loader_of(WorkerNumbers(), 1, num_workers=3, engine="ring")) as loader:
        batches = iter(loader)
        numbers = set()
        for _ in range(20):
            loader.resize(1)
            loader.resize(3)
            numbers |= {int(number) for _ in range(10) for number in next(batches)}
        del batches

    assert numbers <= {0, 1, 2}


class StandIn:
    """A worker as its crew sees it."""

    def __init__(self, number: int, queued: int) -> None:
        self.number, self.queued, self.retiring = number, [None] * queued, False


def test_a_worker_that_was_to_go_stays_if_it_is_still_at_work() -> None:
    """Rather than that another is forked, and given a number that is too high."""
    crew = Crew(cast(Any, None), RingSettings(num_workers=4), Jobs(None), print)
    workers = [StandIn(number, queued) for number, queued in enumerate([1, 2, 1, 0])]
    crew.children = cast(Any, dict.fromkeys(workers))
    told = []

    for wanted in (1, 2, 4):
        crew.resize(wanted)
        told.append(([worker.retiring for worker in workers], crew._missing))

    assert told == [
        ([False, True, True, True], 0),
        ([False, False, True, True], 0),
        ([False, False, False, True], 1),  # the last one has been told to end
    ]


def test_workers_stopped_in_a_pass_see_what_is_changed_after_it() -> None:
    """Those that came in their places, that is."""
    dataset = Scaled(40)
    with closing(loader_of(dataset, 4, num_workers=2)) as loader:
        for number, _ in enumerate(loader):
            if number == 1:
                loader.close()
        dataset.factor = 10
        after = torch.cat(list(loader))

    assert torch.equal(after, 10 * torch.arange(40))


class Opening(Numbers):
    """Opens what a fork must not carry at its first sample, as it is advised to."""

    connection: sqlite3.Connection | None = None

    def __getitem__(self, index: int) -> int:
        if self.connection is None:
            self.connection = sqlite3.connect(":memory:")
        return index


class Locked(Numbers):
    """Cannot be sent to a fresh interpreter."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.lock = threading.Lock()


@pytest.fixture
def wants_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every loader's controller wants two workers as soon as it is asked."""
    want_two_workers(monkeypatch)


@pytest.mark.usefixtures("wants_two")
@pytest.mark.parametrize(
    ("dataset", "start_method", "named"),
    [
        (Opening(40), "fork", "dataset.connection"),
        (Locked(40), "spawn", "dataset.lock"),
    ],
)
def test_a_loader_stays_without_workers_that_could_not_have_its_dataset(
    dataset: Numbers, start_method: str, named: str
) -> None:
    """Nobody asked for any: it must neither end the run nor read nonsense."""
    with closing(
        loader_of(dataset, 4, num_workers=0, multiprocessing_context=start_method)
    ) as loader:
        with pytest.warns(RuntimeWarning, match="^the number of workers stays at 0") as told:
            found = [number for batch in loader for number in plain(batch)[-1]]

        assert (found, loader.num_workers, loader.changes) == (list(range(40)), 0, ())
    (warned,) = told
    assert named in str(warned.message)
    assert "num_workers=2" in str(warned.message)
