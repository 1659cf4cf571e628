"""A loader that is observed gives the same batches, and each one's way is noted."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch
from sample_sets import loader_of, plain
from torch.utils.data import Dataset, IterableDataset

from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.loader.stopwatch import Stopwatch
from lightning_fastdata.trace.stages import stage
from lightning_fastdata.trace.work import BatchTimes, WorkTrace

LENGTH, SLOW = 40, 13
ENGINES = pytest.mark.parametrize(
    "how",
    [
        {"num_workers": 0},
        {"num_workers": 2, "engine": "ring"},
        {"num_workers": 2, "engine": "torch"},
    ],
    ids=["inline", "ring", "torch"],
)


class Staged(Dataset[torch.Tensor]):
    """Draws a number a sample; one of them takes a while."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> torch.Tensor:
        with stage("decode"):
            drawn = torch.rand(3) + index
        if index == SLOW:
            until_s = time.monotonic() + 0.05
            while time.monotonic() < until_s:
                pass
        return drawn


class Stream(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Iterator[torch.Tensor]:
        with stage("decode"):
            pass
        for number in range(LENGTH):
            with stage("decode"):
                drawn = torch.rand(3) + number
            yield drawn


def collated(samples: list[torch.Tensor]) -> dict[str, Any]:
    return {"stacked": torch.stack(samples), "count": len(samples)}


def doubled(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "stacked": batch["stacked"] * 2}


def noted(
    dataset: Any, passes: int = 1, **how: Any
) -> tuple[list[Any], list[BatchTimes], WorkTrace]:
    torch.manual_seed(0)  # which is what a stream in this process draws from
    work = WorkTrace()
    loader = loader_of(dataset, 8, **how)
    loader.observe(work)
    try:
        batches = [plain(batch) for _ in range(passes) for batch in loader]
    finally:
        loader.close()
    return batches, list(work.recent), work


def unnoted(dataset: Any, **how: Any) -> list[Any]:
    torch.manual_seed(0)
    loader = loader_of(dataset, 8, **how)
    try:
        return [plain(batch) for batch in loader]
    finally:
        loader.close()


@ENGINES
@pytest.mark.parametrize("kind", [Staged, Stream])
def test_what_an_observed_loader_gives_is_the_same_to_the_bit(
    kind: type[Any], how: dict[str, Any]
) -> None:
    batches, _, _ = noted(kind(), shuffle=kind is Staged, **how)

    assert batches == unnoted(kind(), shuffle=kind is Staged, **how)


@ENGINES
def test_every_batch_of_every_pass_is_noted_once_with_all_its_samples(how: dict[str, Any]) -> None:
    _, batches, work = noted(Staged(), passes=2, **how)

    assert [batch.number for batch in batches] == 2 * list(range(LENGTH // 8))
    assert [sum(part.samples for part in batch.chunks) for batch in batches] == 2 * 5 * [8]
    assert work.totals.samples == 2 * LENGTH


@ENGINES
def test_the_moments_of_a_batch_come_in_their_order(how: dict[str, Any]) -> None:
    _, batches, _ = noted(Staged(), **how)

    for batch in batches:
        assert batch.asked_ns <= min(part.began_ns for part in batch.chunks)
        assert max(part.ended_ns for part in batch.chunks) <= (batch.arrived_ns or 0)
        assert (batch.arrived_ns or 0) <= batch.taken_ns
        assert batch.wanted_ns <= batch.taken_ns


@ENGINES
def test_the_slowest_sample_is_named_by_its_index(how: dict[str, Any]) -> None:
    _, _, work = noted(Staged(), shuffle=True, **how)

    index, time_ns = work.slowest()[0]

    assert index == SLOW
    assert time_ns >= 50_000_000


@ENGINES
@pytest.mark.parametrize("kind", [Staged, Stream])
def test_named_stages_of_the_dataset_arrive(kind: type[Any], how: dict[str, Any]) -> None:
    _, _, work = noted(kind(), **how)

    assert set(work.totals.stages_ns) == {"decode"}
    assert 0 < work.totals.stages_ns["decode"] <= work.totals.busy_ns


@ENGINES
@pytest.mark.parametrize("kind", [Staged, Stream])
def test_collating_and_transforming_are_told_from_making_samples(
    kind: type[Any], how: dict[str, Any]
) -> None:
    _, batches, _ = noted(kind(), collate_fn=collated, batch_transform=doubled, **how)

    for batch in batches:
        for part in batch.chunks:
            assert part.collate_ns > 0
            assert part.transform_ns > 0
            steps_ns = part.collate_ns + part.transform_ns + part.pack_ns
            assert steps_ns <= part.ended_ns - part.began_ns


def test_a_batch_that_is_laid_into_a_slot_tells_how_long_that_took() -> None:
    _, batches, _ = noted(Staged(), collate_fn=collated, num_workers=1, engine="ring")

    assert all(part.pack_ns > 0 for batch in batches for part in batch.chunks)


def test_samples_with_keys_are_named_by_them() -> None:
    class Keyed(Staged):
        def __getitem__(self, key: Any) -> torch.Tensor:
            return super().__getitem__(int(key[1:]))

    keys = [f"k{index}" for index in range(LENGTH)]

    _, _, work = noted(Keyed(), sampler=keys, num_workers=1, engine="ring")

    assert work.slowest()[0][0] == f"k{SLOW}"


@ENGINES
def test_single_samples_without_batching_are_named_by_their_index(how: dict[str, Any]) -> None:
    work = WorkTrace()
    loader = FastDataLoader(Staged(), batch_size=None, **how)
    loader.observe(work)
    try:
        assert len(list(loader)) == LENGTH
    finally:
        loader.close()

    assert work.slowest()[0][0] == SLOW


class Busy(Dataset[int]):
    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, index: int) -> int:
        until_s = time.monotonic() + 0.02
        while time.monotonic() < until_s:
            pass
        return index


def test_lines_of_the_dataset_are_found_in_workers() -> None:
    _, _, work = noted(Busy(), num_workers=1, engine="ring")

    assert __file__ in {line.file for line in work.totals.lines}


def test_workers_are_looked_at_only_while_they_are_observed() -> None:
    loader = FastDataLoader(Staged(), batch_size=8, num_workers=1, engine="ring")
    threads = []

    for work in (None, WorkTrace(), None):
        loader.observe(work)
        for batch in loader:
            del batch
        (nursery,) = [one for one in psutil.Process().children() if one.children()]
        threads.append(nursery.children()[0].num_threads())
    loader.close()

    assert threads == [threads[0], threads[0] + 1, threads[0]]


@pytest.mark.parametrize("kind", [Staged, Stream])
def test_workers_of_torch_keep_no_thread_from_pass_to_pass(kind: type[Any]) -> None:
    loader = FastDataLoader(kind(), batch_size=8, num_workers=1, engine="torch")
    threads, before = [], set(psutil.Process().children())

    for work in (None, WorkTrace(), WorkTrace(), None):
        loader.observe(work)
        for batch in loader:
            del batch
        (worker,) = set(psutil.Process().children()) - before
        threads.append(worker.num_threads())
    loader.close()

    assert [each - threads[0] for each in threads] == [0, 1, 1, 0]


def test_a_stopwatch_that_looks_from_afar_starts_no_thread() -> None:
    stopwatch = Stopwatch(0)
    before = threading.enumerate()

    stopwatch.begin(closely=False)
    times = stopwatch.stop(samples=3)

    assert threading.enumerate() == before
    assert (times.samples, times.slowest, times.cached_bytes) == (3, (), None)


def test_a_stopwatch_keeps_the_three_slowest_samples_of_a_chunk() -> None:
    stopwatch = Stopwatch(None)

    stopwatch.begin(closely=True)
    for row in range(6):
        stopwatch.sample(row)
        until_ns = time.perf_counter_ns() + (row % 4) * 2_000_000
        while time.perf_counter_ns() < until_ns:
            pass
    times = stopwatch.stop(samples=6, first_row=10, key_of=lambda row: f"key {row}")

    assert {(row, key) for row, key, _ in times.slowest} >= {(13, "key 3"), (12, "key 2")}
    assert len(times.slowest) == 3
    assert [sample_ns for _, _, sample_ns in times.slowest] == sorted(
        (sample_ns for _, _, sample_ns in times.slowest), reverse=True
    )
