"""Rings that live long, live side by side, or meet forks, threads and ranks."""

import copy
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from lightning.pytorch.utilities import CombinedLoader
from sample_sets import MORE_WORKERS_THAN_CORES, Drawing, Numbers, loader_of, plain
from torch.utils.data import Dataset

from lightning_fastdata.loader.engine import Request
from lightning_fastdata.loader.make import recipe_of
from lightning_fastdata.loader.ring.ring_engine import RingEngine
from lightning_fastdata.loader.ring.settings import RingSettings

pytestmark = MORE_WORKERS_THAN_CORES


def numbers_of(batches: Any) -> list[int]:
    return [number for batch in batches for number in batch.tolist()]


def counts() -> Counter[str]:
    """What this process and those of its ring hold, by kind."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    maps = [Path(f"/proc/{one.pid}/maps").read_text().count("memfd:") for one in family]
    return Counter(
        processes=len(family),
        descriptors=sum(one.num_fds() for one in family),
        mapped=sum(maps),
        threads=sum(one.num_threads() for one in family),
    )


def memory_bytes() -> int:
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(one.memory_info().rss for one in family)


@pytest.mark.parametrize(
    ("epochs", "persistent"), [(1000, True), pytest.param(30, False, marks=pytest.mark.slow)]
)
def test_many_short_epochs_hold_on_to_no_more_than_a_few(epochs: int, persistent: bool) -> None:
    loader = loader_of(Numbers(12), num_workers=2, persistent_workers=persistent)
    for _ in range(5):
        list(loader)
    counted, taken_bytes = counts(), memory_bytes()

    for _ in range(epochs):
        assert numbers_of(loader) == list(range(12))

    # How many slots are in use at once is a matter of timing; each is a descriptor and a few maps.
    assert (counts() - counted).total() < 20, "more than a few slots came with the epochs"
    assert memory_bytes() < taken_bytes + 8 * 2**20  # a 4 KiB page kept an epoch would be half


def test_passes_left_half_way_hold_on_to_no_more_than_a_few() -> None:
    loader = loader_of(Numbers(40), num_workers=2)
    for _ in range(5):
        next(iter(loader))
    counted = counts()

    for _ in range(100):
        next(iter(loader))

    assert (counts() - counted).total() < 20


def test_the_memory_of_kept_batches_is_given_back_once_they_are_dropped() -> None:
    loader = loader_of(Numbers(400), num_workers=2)
    kept = list(loader)
    many = counts()

    kept.clear()
    assert numbers_of(loader) == list(range(400))

    assert counts()["mapped"] < many["mapped"] / 2


def test_two_passes_over_one_loader_go_on_side_by_side() -> None:
    loader = loader_of(Drawing("each"), num_workers=2)

    both = [[plain(one), plain(other)] for one, other in zip(loader, loader, strict=True)]

    epochs = loader_of(Drawing("each"))
    first, second = ([plain(batch) for batch in epochs] for _ in range(2))
    assert both == [list(pair) for pair in zip(first, second, strict=True)]


@pytest.mark.parametrize("mode", ["min_size", "max_size", "max_size_cycle", "sequential"])
def test_rings_under_lightnings_combined_loader_do_not_mix(mode: str) -> None:
    loaders = {
        "one": loader_of(Numbers(24), num_workers=2),
        "two": loader_of(Numbers(40), num_workers=1),
    }
    alone = {"one": loader_of(Numbers(24)), "two": loader_of(Numbers(40))}

    validation = loader_of(Numbers(8), num_workers=1)
    found = []
    for batch, _, _ in CombinedLoader(loaders, mode):
        found.append(plain_tree(batch))
        assert numbers_of(validation) == list(range(8))

    assert found == [plain_tree(batch) for batch, _, _ in CombinedLoader(alone, mode)]


def plain_tree(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {name: plain(part) for name, part in batch.items()}
    return plain(batch)


def test_a_loader_works_in_another_thread_and_from_one_to_the_next() -> None:
    loader = loader_of(Drawing("each"), num_workers=2)
    found: list[list[Any]] = []

    for _ in range(3):
        thread = threading.Thread(target=lambda: found.append([plain(batch) for batch in loader]))
        thread.start()
        thread.join()
    found.append([plain(batch) for batch in loader])

    inline = loader_of(Drawing("each"))
    assert found == [[plain(batch) for batch in inline] for _ in range(4)]


def test_loaders_work_in_many_threads_at_once() -> None:
    found: dict[int, list[int]] = {}

    def use(number: int) -> None:
        loader = loader_of(Numbers(100 + number), num_workers=1)
        found[number] = numbers_of(loader)
        loader.close()

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {number: list(range(100 + number)) for number in range(6)}


def through_pickle(loader: Any) -> Any:
    return pickle.loads(pickle.dumps(loader))


@pytest.mark.parametrize("copied", [through_pickle, copy.deepcopy])
def test_a_copy_of_an_unused_loader_gives_the_same(copied: Callable[[Any], Any]) -> None:
    loader = loader_of(Drawing("each"), num_workers=2, shuffle=True)

    again = copied(loader)

    assert [plain(batch) for batch in again] == [plain(batch) for batch in loader]


class Kept(Dataset[Any]):
    """The batches of another loader, as they came."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_batches_kept_from_one_ring_are_the_samples_of_another(method: str) -> None:
    first = loader_of(Numbers(40), num_workers=2)
    kept = Kept(list(first))
    first.close()

    found = loader_of(kept, 2, num_workers=2, multiprocessing_context=method)

    assert numbers_of(batch.flatten() for batch in found) == list(range(40))


def test_a_pool_that_shrinks_in_mid_epoch_has_no_more_workers_than_wanted() -> None:
    ring = RingEngine(
        recipe_of(Numbers(400), None, None, batched=True),
        RingSettings(num_workers=1, chunk_samples=1),
        start_method="fork",
        depth=4,
    )
    seen: set[psutil.Process] = set()
    others = psutil.Process().children()

    with closing(ring):
        for number, size in enumerate([1, 6, 2, 5, 1, 3, 1]):
            ring.resize(size)
            for place in range(20):
                ring.submit(of_four(20 * number + place))
            assert [ring.next().data.tolist() for _ in range(20)] == [[0, 1, 2, 3]] * 20
            (nursery,) = (child for child in psutil.Process().children() if child not in others)
            assert len(left_above(size, nursery)) == size
            seen |= set(nursery.children())

    assert len(seen) > 6
    assert not [worker for worker in seen if worker.is_running()]


def of_four(number: int) -> Request:
    seeds = np.arange(4, dtype=np.uint64)
    return Request(number=number, epoch=0, indices=np.arange(4), seeds=seeds, batch_seed=0)


def left_above(count: int, nursery: psutil.Process) -> list[psutil.Process]:
    """The workers, once there are no more than so many; within 5 s."""
    for _ in range(50):
        left: list[psutil.Process] = nursery.children()
        if len(left) <= count:
            break
        psutil.wait_procs(left, timeout=0.1)
    return left


RANK = """
import sys, torch
import torch.distributed as dist
from sample_sets import Numbers, loader_of
rank, port = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
loader = loader_of(Numbers(41), 4, num_workers=2, shuffle=True)
for epoch in range(2):
    mine = torch.cat(list(loader))
    dist.all_reduce(mine.sum())  # both rings are open
    print(*mine.tolist())
loader.close()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_ranks_with_a_ring_each_share_the_samples() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), port],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]

    said = [rank.communicate()[0].splitlines() for rank in ranks]

    for one, other in zip(*said, strict=True):
        shares = [[int(number) for number in share.split()] for share in (one, other)]
        assert [len(share) for share in shares] == [21, 21]
        assert set(shares[0]) | set(shares[1]) == set(range(41))
        assert len(set(shares[0]) & set(shares[1])) == 1
    assert [rank.returncode for rank in ranks] == [0, 0]
