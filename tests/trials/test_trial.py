"""One trial: what is counted, from when on, and that nothing stays."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, WeightedRandomSampler
from trial_sets import MS, FakeClock, Numbers

from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.trace.work import BatchTimes
from lightning_fastdata.trials.step import StandInStep
from lightning_fastdata.trials.subject import Subject, loader_of, plan_with
from lightning_fastdata.trials.trial import Trial, run_trial

NEVER_NS = 2**63


class FakeLoader:
    """Gives empty batches, each after a wait by the fake clock."""

    def __init__(self, clock: FakeClock, waits_ns: Sequence[int], in_flight: int = 0) -> None:
        self.plan = SimpleNamespace(num_workers=1, prefetch_batches=in_flight)
        self.clock, self.waits_ns = clock, waits_ns
        self.passes, self.is_closed = 0, False

    def __iter__(self) -> Iterator[None]:
        self.passes += 1
        for wait_ns in self.waits_ns:
            self.clock.now_ns += wait_ns
            yield

    def observe(self, work: object) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


def tried(loader: FakeLoader, step_ns: int, deadline_ns: int = NEVER_NS) -> Any:
    def step() -> None:
        loader.clock.now_ns += step_ns

    return run_trial(
        cast(FastDataLoader, loader), step, deadline_ns=deadline_ns, clock_ns=loader.clock
    )


@given(wait_ms=st.integers(0, 40), step_ms=st.integers(1, 40))
def test_the_stall_is_the_share_of_the_loops_time_that_it_waited(
    wait_ms: int, step_ms: int
) -> None:
    loader = FakeLoader(FakeClock(), [wait_ms * MS] * 7)

    trial = tried(loader, step_ms * MS)

    assert trial.stall_fraction == wait_ms / (wait_ms + step_ms)
    assert trial.batches_per_s == pytest.approx(1000 / (wait_ms + step_ms))
    assert trial.wait_ns + trial.busy_ns >= 1000 * MS
    assert trial.batches >= 20


def test_waits_for_batches_that_lay_ready_are_what_more_workers_cannot_change() -> None:
    ready, late = (
        BatchTimes(
            number=number,
            asked_ns=0,
            sent_ns=None,
            arrived_ns=arrived_ns,
            wanted_ns=100,
            taken_ns=130,
            size_bytes=None,
            chunks=(),
        )
        for number, arrived_ns in enumerate((90, 120))
    )
    trial = Trial(
        num_workers=1,
        prefetch_batches=4,
        batches=2,
        wait_ns=60,
        busy_ns=140,
        whole_ns=900,
        times=(ready, late),
    )

    assert trial.stall_fraction == 0.3
    assert trial.floor_fraction == 0.2  # 30 of the first, 10 of the second


def test_of_more_batches_than_were_noted_the_newest_stand_for_all() -> None:
    """Two of 20 were noted: 10 ms of each wait, and 4 of them until a batch had come."""
    noted = tuple(
        BatchTimes(
            number=number,
            asked_ns=0,
            sent_ns=None,
            arrived_ns=104 * MS,
            wanted_ns=100 * MS,
            taken_ns=110 * MS,
            size_bytes=None,
            chunks=(),
        )
        for number in range(2)
    )
    trial = Trial(
        num_workers=1,
        prefetch_batches=4,
        batches=20,
        wait_ns=20 * 13 * MS,
        busy_ns=20 * 7 * MS,
        whole_ns=900 * MS,
        times=noted,
    )

    assert trial.around_ns == 3 * MS
    assert trial.floor_fraction == pytest.approx((13 - 4) / 20)


def test_what_is_waited_while_workers_start_and_queues_fill_is_left_out() -> None:
    loader = FakeLoader(FakeClock(), [500 * MS, *[60 * MS] * 5, *[0] * 500], in_flight=4)

    trial = tried(loader, 10 * MS)

    assert trial.wait_ns == 0


def test_a_small_dataset_is_gone_over_again() -> None:
    loader = FakeLoader(FakeClock(), [0] * 3)

    trial = tried(loader, 10 * MS)

    assert trial.batches == 100
    assert loader.passes > 30


def test_eight_batches_are_enough_where_they_are_slow() -> None:
    loader = FakeLoader(FakeClock(), [300 * MS] * 100)

    assert tried(loader, 0).batches == 8


def test_three_batches_are_enough_once_time_is_up() -> None:
    loader = FakeLoader(FakeClock(), [3000 * MS] * 100)

    assert tried(loader, 0, deadline_ns=1).batches == 3


def test_without_batches_there_is_nothing_to_say() -> None:
    assert tried(FakeLoader(FakeClock(), []), 0) is None


def test_the_loader_is_closed_whatever_a_step_does() -> None:
    loader = FakeLoader(FakeClock(), [0] * 3)

    def step() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(cast(FastDataLoader, loader), step, deadline_ns=0)

    assert loader.is_closed


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_real_loader_tells_how_its_batches_were_made(num_workers: int) -> None:
    subject = Subject(name="Numbers", dataset=Numbers(), batch_size=8)
    loader = loader_of(subject, plan_with(subject, num_workers, None), 0)

    trial = run_trial(loader, lambda: None, deadline_ns=0)

    assert trial is not None
    assert trial.num_workers == num_workers
    assert len(trial.times) == trial.batches
    assert all(sum(chunk.samples for chunk in each.chunks) == 8 for each in trial.times)


def test_a_loader_of_a_trial_gives_each_sample_of_a_small_dataset_equally_often() -> None:
    subject = Subject(name="Numbers", dataset=Numbers(10), batch_size=5, shuffle=False)
    loader = loader_of(subject, plan_with(subject, 0, None), 0)

    batches = [next_batch for _, next_batch in zip(range(6), loader, strict=False)]

    assert torch.cat(batches).flatten().tolist() == [*range(10)] * 3


def test_files_that_a_trial_opens_are_not_left_open_in_the_users_dataset() -> None:
    class Opens(Numbers):
        handle: object = None

        def __getitem__(self, index: int) -> torch.Tensor:
            self.handle = self.handle or object()
            return super().__getitem__(index)

    dataset = Opens()
    subject = Subject(name="Opens", dataset=dataset, batch_size=8)
    run_trial(loader_of(subject, plan_with(subject, 0, None), 0), lambda: None, deadline_ns=0)

    assert dataset.handle is None


def test_a_sampler_is_gone_through_on_a_copy() -> None:
    class Counting:
        def __init__(self) -> None:
            self.passes = 0

        def __iter__(self) -> Iterator[int]:
            self.passes += 1
            return iter([3, 1, 2])

    sampler = Counting()
    subject = Subject(name="Numbers", dataset=Numbers(), batch_size=2, sampler=sampler)
    loader = loader_of(subject, plan_with(subject, 0, None), 0)

    batches = [batch.flatten().tolist() for _, batch in zip(range(3), loader, strict=False)]

    assert batches == [[3, 1], [2, 3], [1, 2]]
    assert sampler.passes == 0


def test_a_samplers_generator_is_left_where_it_is() -> None:
    generator = torch.Generator().manual_seed(1)
    sampler = WeightedRandomSampler([1.0] * 64, 64, generator=generator)
    batches = BatchSampler(sampler, 4, drop_last=False)
    before = generator.get_state().tolist()

    for order in ({"sampler": sampler, "batch_size": 4}, {"batch_sampler": batches}):
        settings: dict[str, Any] = {"batch_size": None, **order}
        subject = Subject(name="Numbers", dataset=Numbers(), **settings)
        loader = loader_of(subject, plan_with(subject, 0, None), 0)
        assert run_trial(loader, lambda: None, deadline_ns=0) is not None

    assert generator.get_state().tolist() == before


def test_a_step_computes_with_as_many_threads_as_there_are_cores_wanted() -> None:
    with StandInStep(2 * MS, host_cores=1.5) as step:
        step()
        pool = step._pool
        assert pool is not None
        assert pool._max_workers == 1  # and this thread


def test_a_step_that_leaves_the_cores_alone_starts_no_thread() -> None:
    with StandInStep(MS) as step:
        step()

        assert step._pool is None


def test_a_step_without_time_takes_none() -> None:
    with StandInStep(0) as step:
        step()

        assert (step._blocks, step._idle_s) == (0, 0.0)


@given(step_ns=st.integers(1, 10**9), cores=st.integers(0, 40).map(lambda tenths: tenths / 10))
def test_what_a_step_computes_and_sleeps_adds_up_to_its_time(step_ns: int, cores: float) -> None:
    step = StandInStep(step_ns, cores)

    assert step._busy_ns + step._idle_s * 1e9 == pytest.approx(step_ns)
    assert step._busy_ns * step._threads == pytest.approx(step_ns * cores)
