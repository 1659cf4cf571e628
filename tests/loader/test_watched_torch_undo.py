"""Watching can be ended at any moment, and no copy of a loader is watched by accident."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset
from watched_sets import Drawn, OwnLoader, Told

from lightning_fastdata.loader.torch_engine import stop_workers
from lightning_fastdata.loader.watched import watch
from lightning_fastdata.trace.work import WorkTrace


def told(**arguments: Any) -> DataLoader[Any]:
    return DataLoader(Told(), 3, **arguments)


def numbers_of(batches: Any) -> list[int]:
    numbers: list[int] = torch.cat(list(batches)).tolist()
    return numbers


class OwnIterator(DataLoader[Any]):
    def _get_iterator(self) -> Any:
        return iter(())


class NoSubclasses(DataLoader[Any]):
    def __init_subclass__(cls) -> None:
        raise TypeError("final")


class Rebuilt(DataLoader[Any]):
    def __reduce__(self) -> Any:
        return type(self), (self.dataset, self.batch_size)


def test_a_watched_loader_is_of_its_own_class_and_looks_like_it() -> None:
    loader = OwnLoader(Drawn())
    before = vars(loader).copy()

    watch(loader, WorkTrace())

    assert isinstance(loader, OwnLoader)
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(type(loader), name) == getattr(OwnLoader, name)
    assert vars(loader) == before


def test_a_watched_loader_still_guards_its_attributes() -> None:
    loader = told(num_workers=1)
    watch(loader, WorkTrace())

    loader.multiprocessing_context = "spawn"

    assert loader.multiprocessing_context.get_start_method() == "spawn"
    with pytest.raises(ValueError, match=r"^dataset attribute should not be set after DataLoader"):
        loader.dataset = Drawn()


def test_ending_gives_the_class_back_and_records_no_more() -> None:
    loader, work = told(), WorkTrace()
    stop_watching = watch(loader, work)
    list(loader)

    stop_watching()
    stop_watching()
    list(loader)

    assert type(loader) is DataLoader
    assert work.totals.batches == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pass_that_is_ended_half_way_delivers_the_rest(workers: int) -> None:
    loader, work = told(num_workers=workers), WorkTrace()
    stop_watching = watch(loader, work)
    batches = iter(loader)
    first = next(batches)

    stop_watching()

    assert numbers_of([first, *batches]) == list(range(9))
    assert work.totals.batches == 1


def test_persistent_workers_go_on_unwatched_and_can_be_watched_again() -> None:
    loader, first, second = told(num_workers=1, persistent_workers=True), WorkTrace(), WorkTrace()
    stop_watching = watch(loader, first)
    list(loader)
    stop_watching()
    unwatched = numbers_of(loader)

    again = watch(loader, second)
    delivered = numbers_of(loader)

    assert delivered == unwatched == list(range(9))
    assert again.problem is None
    assert (first.totals.batches, second.totals.batches) == (3, 3)
    stop_workers(loader)


def test_two_who_watch_both_get_all_and_the_last_to_end_gives_the_class_back() -> None:
    loader, first, second = told(), WorkTrace(), WorkTrace()
    endings = [watch(loader, first), watch(loader, second), watch(loader, second)]
    list(loader)

    endings[0]()
    list(loader)
    endings[1]()

    assert type(loader) is DataLoader
    assert (first.totals.batches, second.totals.batches) == (3, 6)


def test_a_loader_made_anew_from_a_watched_one_is_watched_and_let_go() -> None:
    loader, work = told(), WorkTrace()
    stop_watching = watch(loader, work)
    used, unused = (type(loader)(loader.dataset, batch_size=3) for _ in range(2))

    list(used)
    stop_watching()

    assert type(used) is DataLoader
    assert numbers_of(unused) == list(range(9))
    assert type(unused) is DataLoader
    assert work.totals.batches == 3


@pytest.mark.parametrize("loader", [told(), OwnLoader(Told()), Rebuilt(Told(), 3)], ids=repr)
@pytest.mark.parametrize(
    "way", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_copies_and_pickles_are_of_the_users_class(loader: DataLoader[Any], way: Any) -> None:
    own, work = type(loader), WorkTrace()
    stop_watching = watch(loader, work)

    copied = way(loader)
    stop_watching()

    assert type(copied) is own
    assert len(list(copied)) == len(copied)
    assert work.totals.batches == 0


@pytest.mark.parametrize(
    ("loader", "problem"),
    [
        (OwnIterator(Told()), "OwnIterator makes iterators of its own"),
        (NoSubclasses(Told()), r"its class NoSubclasses refused \(TypeError\('final'\)\)"),
        ([1, 2], "list is no torch.utils.data.DataLoader"),
    ],
)
def test_what_cannot_be_watched_is_left_alone_and_says_why(loader: Any, problem: str) -> None:
    own = type(loader)

    stop_watching = watch(loader, WorkTrace())
    stop_watching()

    assert stop_watching.problem is not None
    assert type(loader) is own
    assert stop_watching.problem == problem.replace("\\", "")


def test_data_pipes_are_left_alone() -> None:
    wrapper = pytest.importorskip("torch.utils.data.datapipes.iter").IterableWrapper
    loader: DataLoader[Any] = DataLoader(wrapper([1, 2]))

    problem = watch(loader, WorkTrace()).problem

    assert problem is not None
    assert problem.startswith("its dataset is a data pipe")
    assert type(loader) is DataLoader


def test_workers_that_run_already_are_left_alone() -> None:
    loader = told(num_workers=1, persistent_workers=True)
    list(loader)

    problem = watch(loader, WorkTrace()).problem

    assert problem == "its persistent workers have been running since before it was watched"
    stop_workers(loader)


def test_a_loader_that_is_gone_does_not_trouble_the_ending() -> None:
    stop_watching = watch(told(), WorkTrace())

    stop_watching()

    assert stop_watching.problem is None


def test_a_parts_own_failure_to_be_pickled_is_torchs_to_tell() -> None:
    loader = DataLoader(
        Told(),
        3,
        num_workers=1,
        collate_fn=lambda samples: samples,
        multiprocessing_context="spawn",
    )
    stop_watching = watch(loader, WorkTrace())

    with pytest.raises((AttributeError, pickle.PicklingError), match="pickle"):
        _unpicklable_warned(loader)

    assert stop_watching.problem is None


def _unpicklable_warned(loader: DataLoader[Any]) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Got pickle error")  # torch's, since 2.10
        iter(loader)


def test_a_stream_without_a_length_stays_without_one() -> None:
    class Endless(IterableDataset[int]):
        def __iter__(self) -> Any:
            return iter(range(3))

    loader = DataLoader(Endless())
    watch(loader, WorkTrace())

    with pytest.raises(TypeError, match="has no len"):
        len(loader)
