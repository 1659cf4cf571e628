"""What a watched loader's trace says: which samples, which step, when."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, Subset
from torch.utils.data._utils.pin_memory import pin_memory
from watched_sets import (
    SLOW_S,
    Batch,
    Drawn,
    DrawnWhole,
    Faulty,
    Shards,
    Slow,
    SlowStream,
    Staged,
    Told,
    slowly,
    tell,
)

from lightning_fastdata.loader.stopwatch import Stopwatch
from lightning_fastdata.loader.watched import watch
from lightning_fastdata.loader.watched.envelope import Envelope
from lightning_fastdata.loader.watched.measured import plain_key
from lightning_fastdata.trace.samples import size_bytes_of
from lightning_fastdata.trace.work import BatchTimes, WorkTrace

SLOW_NS = int(SLOW_S * 1e9)


def watched_pass(loader: DataLoader[Any]) -> WorkTrace:
    work = WorkTrace()
    stop_watching = watch(loader, work)
    list(loader)
    stop_watching()
    assert stop_watching.problem is None
    return work


@pytest.mark.parametrize("workers", [0, 2])
def test_the_slow_sample_is_named_by_its_index(workers: int) -> None:
    work = watched_pass(DataLoader(Slow(), 4, shuffle=True, num_workers=workers))

    index, sample_ns = work.slowest()[0]

    assert index == 13
    assert sample_ns >= SLOW_NS


def test_the_slow_sample_of_a_subset_is_named_by_its_index_there() -> None:
    work = watched_pass(DataLoader(Subset(Slow(), [1, 13, 2]), 3))

    assert work.slowest()[0][0] == 1


def test_the_slow_sample_of_single_samples_is_named() -> None:
    work = watched_pass(DataLoader(Slow(), None, num_workers=1))

    assert work.slowest()[0][0] == 13
    assert work.totals.samples == 24


@pytest.mark.parametrize("workers", [0, 1])
def test_the_slow_sample_of_a_stream_is_named_by_batch_and_row(workers: int) -> None:
    work = watched_pass(DataLoader(SlowStream(), 4, num_workers=workers))

    assert work.slowest()[0][0] == (1, 2)


def test_looking_for_the_end_of_a_stream_is_no_sample() -> None:
    work = watched_pass(DataLoader(SlowStream(), 4))

    assert [batch.chunks[0].samples for batch in work.recent] == [4, 4, 2]
    assert all(row < 2 for row, _, _ in work.recent[-1].chunks[0].slowest)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_time_of_collation_is_told_apart(workers: int) -> None:
    work = watched_pass(DataLoader(Told(), 3, num_workers=workers, collate_fn=slowly))

    assert all(batch.chunks[0].collate_ns >= SLOW_NS for batch in work.recent)
    assert all(sample_ns < SLOW_NS for _, sample_ns in work.slowest())


def test_moments_of_a_batch_follow_each_other() -> None:
    work = watched_pass(DataLoader(Slow(), 4, num_workers=2))

    for batch in work.recent:
        (chunk,) = batch.chunks
        assert batch.arrived_ns is not None
        assert batch.asked_ns <= chunk.began_ns < chunk.ended_ns < batch.arrived_ns
        assert batch.wanted_ns < batch.taken_ns
        assert batch.arrived_ns <= batch.taken_ns
        assert batch.sent_ns == batch.asked_ns


def test_without_workers_the_loop_makes_batches_while_it_waits() -> None:
    work = watched_pass(DataLoader(Slow(), 4))

    for batch in work.recent:
        (chunk,) = batch.chunks
        assert batch.sent_ns is None
        assert chunk.worker is None
        assert batch.wanted_ns <= chunk.began_ns < chunk.ended_ns <= batch.taken_ns
        assert batch.arrived_ns == chunk.ended_ns


def test_batches_are_told_apart_by_worker_and_number() -> None:
    work = watched_pass(DataLoader(Slow(), 4, num_workers=2))

    assert [batch.number for batch in work.recent] == list(range(6))
    assert [batch.chunks[0].worker for batch in work.recent] == [0, 1, 0, 1, 0, 1]


def test_each_pass_counts_from_nought() -> None:
    loader = DataLoader(Told(), 3, num_workers=1)
    watch(loader, work := WorkTrace())

    list(loader)
    list(loader)

    assert [batch.number for batch in work.recent] == [0, 1, 2, 0, 1, 2]


def test_whole_batches_count_their_samples_and_name_none() -> None:
    work = watched_pass(DataLoader(DrawnWhole(), 4))

    assert work.totals.samples == 22
    assert work.slowest() == []


def test_a_stream_counts_what_it_delivered() -> None:
    delivered = sum(len(batch[0]) for batch in DataLoader(Shards(), 4, num_workers=2))

    work = watched_pass(DataLoader(Shards(), 4, num_workers=2))

    assert work.totals.samples == delivered


def test_a_batch_is_sized_now_and_then() -> None:
    rows: Any = torch.zeros(40, 5)

    work = watched_pass(DataLoader(rows, 1))

    sizes = {batch.number: batch.size_bytes for batch in work.recent if batch.size_bytes}
    assert sizes == {0: 20, 32: 20}


@pytest.mark.parametrize(
    ("batch", "size_bytes"),
    [
        ([torch.zeros(3), {"a": np.zeros(2), "b": "text"}], 28),
        ((b"abc", None, 4.0), 3),
        ("text", None),
        (object(), None),
    ],
)
def test_a_size_is_that_of_tensors_and_arrays(batch: Any, size_bytes: int | None) -> None:
    assert size_bytes_of(batch) == size_bytes


@pytest.mark.parametrize(
    ("key", "plain"),
    [
        (torch.tensor(4), 4),
        (np.int64(4), 4),
        ("name", "name"),
        ((np.int64(1), "b"), (1, "b")),
        ({1}, "{1}"),
    ],
)
def test_keys_travel_as_plain_values(key: Any, plain: Any) -> None:
    assert plain_key(key) == plain
    assert type(plain_key(key)) is type(plain)


def test_indices_that_are_tensors_are_named_as_numbers() -> None:
    sampler: Any = [torch.arange(k, k + 4) for k in range(0, 24, 4)]

    work = watched_pass(DataLoader(Slow(), batch_sampler=sampler))

    assert repr(work.slowest()[0][0]) == "13"


def test_a_batch_that_failed_leaves_the_next_one_its_own_time() -> None:
    loader = DataLoader(Faulty(ValueError("bad")), 1)
    watch(loader, work := WorkTrace())
    batches = iter(loader)

    delivered = [next(batches) for _ in range(5)]
    with pytest.raises(ValueError, match="bad"):
        next(batches)
    delivered += list(batches)

    assert torch.cat(delivered).tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert [batch.chunks[0].slowest[0][1] for batch in work.recent] == [0, 1, 2, 3, 4, 6, 7]


def test_a_workers_failure_to_measure_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Stopwatch, **arguments: Any) -> None:
        raise OSError("no clock")

    monkeypatch.setattr(Stopwatch, "begin", fail)
    loader = DataLoader(Told(), 2, num_workers=1)
    stop_watching = watch(loader, work := WorkTrace())

    delivered = torch.cat(list(loader))

    assert delivered.tolist() == list(range(9))
    assert stop_watching.problem == "a worker could not measure (OSError('no clock'))"
    assert [batch.chunks for batch in work.recent] == [()] * 5


def test_a_failure_to_record_ends_nothing() -> None:
    class Full(WorkTrace):
        def add(self, batch: BatchTimes) -> None:
            raise MemoryError("full")

    loader = DataLoader(Told(), 2)
    stop_watching = watch(loader, Full())

    delivered = torch.cat(list(loader))

    assert delivered.tolist() == list(range(9))
    assert stop_watching.problem == "a batch could not be recorded (MemoryError('full'))"


def test_torch_pins_an_envelope_as_it_pins_the_batch_in_it() -> None:
    envelope = Envelope({"mine": Batch([1]), "text": "a"}, None, None, None)

    pinned: Envelope = pin_memory(envelope)  # type: ignore[no-untyped-call]

    assert pinned.batch["mine"].is_pinned
    assert pinned.batch["text"] == "a"
    assert pinned.pinned_ns is not None


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_batches_are_pinned_and_say_how_long_it_took(workers: int) -> None:
    loader = DataLoader(Drawn(), 4, num_workers=workers, pin_memory=True)
    watch(loader, work := WorkTrace())

    assert all(batch[0].is_pinned() for batch in loader)
    assert all(batch.arrived_ns is not None for batch in work.recent)
    if workers:
        assert all(batch.pin_ns for batch in work.recent)
    else:
        assert all(batch.chunks[0].pack_ns for batch in work.recent)


@pytest.mark.gpu
def test_a_pinned_batch_arrives_when_it_is_pinned() -> None:
    work = watched_pass(DataLoader(Slow(), 4, num_workers=2, pin_memory=True))

    for batch in work.recent:
        assert batch.arrived_ns is not None
        assert batch.pin_ns is not None
        assert batch.chunks[0].ended_ns < batch.arrived_ns - batch.pin_ns
        assert batch.arrived_ns <= batch.taken_ns


def test_a_persistent_worker_measures_each_pass() -> None:
    loader = DataLoader(Told(), 3, num_workers=1, persistent_workers=True, worker_init_fn=tell)
    watch(loader, work := WorkTrace())

    list(loader)
    delivered = torch.cat(list(loader)).tolist()

    assert delivered == list(range(100, 109))
    assert [len(batch.chunks) for batch in work.recent] == [1] * 6


def test_a_random_order_is_measured_as_it_is() -> None:
    order = list(RandomSampler(Slow(), generator=torch.Generator().manual_seed(1)))

    work = watched_pass(DataLoader(Slow(), 2, sampler=order))

    rows = [
        batch.number * 2 + row for batch in work.recent for row, _, _ in batch.chunks[0].slowest
    ]
    keys = [key for batch in work.recent for _, key, _ in batch.chunks[0].slowest]
    assert [order[row] for row in rows] == keys


def test_a_batch_arrives_when_it_could_have_been_read() -> None:
    envelope = Envelope(None, None, None, None)
    envelope.packed_ns = 100

    assert envelope.arrived_ns == 100


def test_stages_and_lines_of_the_dataset_are_seen_in_its_workers() -> None:
    work = watched_pass(DataLoader(Staged(), 4, num_workers=1))

    assert set(work.totals.stages_ns) == {"wait"}
    assert work.totals.stages_ns["wait"] >= 2 * SLOW_NS
    assert "watched_sets.py" in {line.file.rsplit("/", 1)[-1] for line in work.totals.lines}


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_recorded_by_the_time_watching_ends(workers: int) -> None:
    loader = DataLoader(Told(), 1, num_workers=workers)
    stop_watching = watch(loader, work := WorkTrace())
    batches = iter(loader)
    for _ in range(3):
        next(batches)

    stop_watching()

    assert [batch.number for batch in work.recent] == [0, 1, 2]
