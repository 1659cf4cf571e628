"""A watched loader of the user's delivers what it delivers unwatched, to the last bit."""

import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import (
    _MultiProcessingDataLoaderIter,
    _SingleProcessDataLoaderIter,
)
from watched_sets import LOADERS, Drawn, Faulty, Shards, Told, tell

from lightning_fastdata.loader.torch_engine import stop_workers
from lightning_fastdata.loader.watched import watch
from lightning_fastdata.trace.work import WorkTrace


def seed_all() -> None:
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)


def all_of(loader: DataLoader[Any]) -> bytes:
    """Two passes, and what the generators would draw next."""
    seed_all()
    passes = [list(loader), list(loader)]
    stop_workers(loader)
    # One memo for both: the same object in two batches would be told apart.
    return pickle.dumps((_plain(passes), torch.rand(3).tolist(), np.random.rand(), random.random()))


def _plain(value: Any) -> Any:
    """Tensors as bytes: where a tensor's memory lies is in its pickle, and no part of its value."""
    if isinstance(value, torch.Tensor):
        return "tensor", str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [_plain(part) for part in value]
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if hasattr(value, "samples"):
        return type(value).__name__, _plain(value.samples)
    return repr(value)


@pytest.mark.parametrize("name", LOADERS)
def test_delivers_the_same_batches_and_leaves_the_generators_the_same(name: str) -> None:
    expected = all_of(LOADERS[name]())
    loader, work = LOADERS[name](), WorkTrace()
    stop_watching = watch(loader, work)

    delivered = all_of(loader)

    assert stop_watching.problem is None
    assert work.totals.batches > 0
    assert delivered == expected


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_share_no_memory_deliver_the_same(method: str) -> None:
    def told() -> DataLoader[Any]:
        return DataLoader(
            Told(), 4, num_workers=1, worker_init_fn=tell, multiprocessing_context=method
        )

    loader, work = told(), WorkTrace()
    watch(loader, work)

    delivered = [batch.tolist() for batch in loader]

    assert delivered == [[100, 101, 102, 103], [104, 105, 106, 107], [108]]
    assert [batch.chunks[0].samples for batch in work.recent] == [4, 4, 1]


def test_batches_that_come_out_of_order_are_all_delivered() -> None:
    try:
        loader = DataLoader(Drawn(), 4, num_workers=2, in_order=False)
    except TypeError:
        pytest.skip("this version of torch has no in_order")
    watch(loader, work := WorkTrace())

    indices = torch.cat([batch[1] for batch in loader])

    assert sorted(indices.tolist()) == list(range(22))
    assert sorted(batch.number for batch in work.recent) == list(range(6))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [KeyError("no such\nkey"), FileNotFoundError(2, "gone", "a.png")])
def test_an_error_of_the_dataset_is_the_users_own(workers: int, error: Exception) -> None:
    plain, watched = (DataLoader(Faulty(error), 2, num_workers=workers) for _ in range(2))
    watch(watched, WorkTrace())

    unwatched_error, watched_error = raised_by(plain), raised_by(watched)

    assert watched_error[0] is unwatched_error[0] is type(error)
    assert watched_error[1][0] == unwatched_error[1][0]
    assert watched_error[1][-1] == unwatched_error[1][-1]


def raised_by(loader: DataLoader[Any]) -> tuple[type, list[str]]:
    """Class and lines of what ends a pass; the error itself would hold on to the workers."""
    batches: Any = iter(loader)
    try:
        list(batches)
    except Exception as error:
        return type(error), str(error).splitlines()
    finally:
        if loader.num_workers:
            batches._shutdown_workers()
    raise AssertionError("nothing was raised")


def test_a_map_style_dataset_may_end_with_stop_iteration() -> None:
    loader = DataLoader(Faulty(StopIteration()), 1)
    watch(loader, WorkTrace())

    assert [batch.item() for batch in loader] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("workers", "kind"), [(0, _SingleProcessDataLoaderIter), (1, _MultiProcessingDataLoaderIter)]
)
def test_iterators_are_those_that_lightning_looks_for(workers: int, kind: type) -> None:
    loader = DataLoader(Drawn(), 4, num_workers=workers)
    watch(loader, WorkTrace())

    assert isinstance(iter(loader), kind)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_iterator_shows_the_users_own_parts(workers: int) -> None:
    dataset = Drawn()
    plain = DataLoader(dataset, 4, num_workers=workers, collate_fn=list)
    loader = DataLoader(dataset, 4, num_workers=workers, collate_fn=list)
    watch(loader, WorkTrace())

    iterator: Any = iter(loader)

    assert iterator._dataset is loader.dataset is dataset
    assert iterator._collate_fn is loader.collate_fn is list
    assert iterator._profile_name == iter(plain)._profile_name


def test_a_stream_that_is_longer_than_it_says_is_warned_of_by_its_own_name() -> None:
    class Lying(Shards):
        def __len__(self) -> int:
            return 4

    loader = DataLoader(Lying(), 2)
    watch(loader, WorkTrace())
    len(loader)

    with pytest.warns(UserWarning, match="Length of IterableDataset <.*Lying object"):
        list(loader)


def test_two_passes_at_once_do_not_disturb_each_other() -> None:
    loader = DataLoader(Told(), 2, num_workers=1)
    watch(loader, work := WorkTrace())
    first, second = iter(loader), iter(loader)

    pairs = [(left.tolist(), right.tolist()) for left, right in zip(first, second, strict=True)]

    assert all(left == right for left, right in pairs)
    assert work.totals.samples == 2 * 9
