"""How few workers would do, what they lose to each other, and what a machine costs besides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_tools import BATCHES, HOST_STEPS, whole

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.trace.work import BatchTimes, ChunkTimes
from lightning_fastdata.tuning.replay import (
    BatchCost,
    Dispatch,
    RingDispatch,
    Steps,
    TorchDispatch,
    fewest_workers,
    handing_ns_of,
    replay,
    service_factor,
)
from lightning_fastdata.tuning.replay.search import LAST_SHARE, LEAST_GAIN


def torch_like(num_workers: int) -> Dispatch:
    return TorchDispatch(num_workers=num_workers)


def whole_ring(num_workers: int) -> Dispatch:
    return RingDispatch(num_workers=num_workers, depth=2 * num_workers, is_cut=False, handing_ns=0)


@pytest.mark.parametrize("make", [torch_like, whole_ring])
def test_finds_work_over_step_time_where_all_batches_are_alike(make: object) -> None:
    workers, result = fewest_workers(
        whole(*[35] * 40), Steps(host_ns=[10]), make, most=16, max_stall_fraction=0.02
    )  # type: ignore[arg-type]

    assert workers == 4
    assert result.stall_fraction <= 0.02


def test_slow_batches_need_more_than_their_mean() -> None:
    """Six in a hundred take six times as long; work over step time says four."""
    batches = whole(*[480 if k % 16 == 5 else 80 for k in range(160)])

    workers, result = fewest_workers(
        batches, Steps(host_ns=[25]), torch_like, most=32, max_stall_fraction=0.02
    )

    assert replay(batches, Steps(host_ns=[25]), torch_like(5)).stall_fraction > 0.2
    assert workers > 6
    assert result.stall_fraction_after(2 * workers) <= 0.02


def test_says_from_where_on_more_workers_do_not_help() -> None:
    """Taking a batch costs as much as a step: half is stall, with three workers or with twenty."""

    def make(num_workers: int) -> Dispatch:
        return TorchDispatch(num_workers=num_workers, next_ns=10)

    workers, result = fewest_workers(
        whole(*[55] * 60), Steps(host_ns=[10]), make, most=20, max_stall_fraction=0.02
    )

    assert workers == 3
    assert result.stall_fraction == pytest.approx(0.5, abs=0.01)


def test_workers_that_slow_each_other_do_not_help() -> None:
    """Two cores: the second worker has the other one, and the third shares theirs."""
    workers, result = fewest_workers(
        whole(*[30] * 600),
        Steps(host_ns=[10]),
        torch_like,
        most=12,
        max_stall_fraction=0.02,
        factor=lambda count: max(1.0, count / 2),
    )

    assert workers == 2
    assert result.stall_fraction == pytest.approx(1 / 3, abs=0.01)


@given(
    BATCHES,
    HOST_STEPS,
    st.sampled_from([torch_like, whole_ring]),
    st.integers(1, 3),
    st.integers(0, 6),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_the_answer_is_enough_and_one_less_is_not(
    batches: list[BatchCost], steps: Steps, make: object, least: int, more: int, limit: float
) -> None:
    workers, result = fewest_workers(
        batches, steps, make, least=least, most=least + more, max_stall_fraction=limit
    )  # type: ignore[arg-type]

    def stall(num_workers: int) -> float:
        in_flight = min(2 * num_workers, len(batches) // 2)
        played = replay(batches, steps, make(num_workers))  # type: ignore[operator]
        return played.stall_fraction_after(in_flight)

    assert least <= workers <= least + more
    assert result.wall_ns == replay(batches, steps, make(workers)).wall_ns  # type: ignore[operator]
    best = stall(least + more)
    help_little = best + max(LEAST_GAIN, LAST_SHARE * (stall(least) - best))
    reached = limit if stall(workers) <= limit else help_little
    assert stall(workers) <= reached
    assert workers == least or stall(workers - 1) > reached


def test_refuses_a_range_without_a_number() -> None:
    with pytest.raises(SettingsError, match=r"^most is 1, wanted is 2 or more"):
        fewest_workers(
            whole(1), Steps(host_ns=[1]), torch_like, least=2, most=1, max_stall_fraction=0.1
        )


def factor(num_workers: int, cpu: float, cores: float, host: float, **rest: float) -> float:
    return service_factor(
        num_workers=num_workers, cpu_fraction=cpu, cores=cores, busy_elsewhere=host, **rest
    )


@pytest.mark.parametrize(
    ("stretched", "wanted"),
    [
        (factor(2, 1.0, 4.0, 1.0), 1.0),  # they fit
        (factor(3, 1.0, 2.0, 1.0), 2.0),  # four busy threads on two cores
        (factor(8, 1.0, 4.0, 0.0), 2.0),
        (factor(8, 0.0, 1.0, 1.0), 1.0),  # who only waits is not slowed
        (factor(4, 0.5, 1.0, 0.0), 2.0),  # a core has 2 of their 4 halves: x = 3, f = 0.5 + 1.5
        (factor(4, 0.5, 2.0, 1.0), 0.5 + (3 + 17**0.5) / 8),  # 4 / (1 + x) + 1 / x = 2
        (factor(9, 1.0, 2.0, 0.5, needed=1.5), 1.0),  # most are idle
        (factor(9, 1.0, 2.0, 0.0, needed=2.5), 4.5),  # not fast enough, so none is
        (factor(0, 1.0, 1.0, 1.0), 1.0),
    ],
)
def test_computing_stretches_as_far_as_the_cores_are_too_few(
    stretched: float, wanted: float
) -> None:
    assert stretched == pytest.approx(wanted)


@given(
    st.integers(0, 20),
    st.floats(0, 1),
    st.floats(0.5, 16),
    st.floats(0, 4),
    st.none() | st.floats(0, 20),
)
def test_work_never_takes_less_and_all_of_it_fits_the_cores(
    workers: int, cpu: float, cores: float, host: float, needed: float | None
) -> None:
    stretched = service_factor(
        num_workers=workers,
        cpu_fraction=cpu,
        cores=cores,
        busy_elsewhere=host,
        needed=needed,
    )

    working = workers if needed is None else min(workers, needed)
    assert 1.0 <= stretched <= workers + host + 2 or cores < 1.0
    assert working * cpu / stretched <= cores + 1e-9


def test_refuses_a_share_that_is_none() -> None:
    with pytest.raises(SettingsError, match=r"^num_workers 1, cpu_fraction 1.5, cores 2"):
        factor(1, 1.5, 2.0, 0.0)


def batch_of(sent_ns: int | None, *chunks: tuple[int | None, int, int]) -> BatchTimes:
    return BatchTimes(
        number=0,
        asked_ns=0,
        sent_ns=sent_ns,
        arrived_ns=None,
        wanted_ns=0,
        taken_ns=0,
        size_bytes=None,
        chunks=tuple(
            ChunkTimes(
                worker=worker,
                samples=1,
                began_ns=began_ns,
                ended_ns=ended_ns,
                cpu_ns=0,
                page_faults=0,
                read_bytes=0,
            )
            for worker, began_ns, ended_ns in chunks
        ),
    )


def test_handing_is_the_gap_between_chunks_that_were_there() -> None:
    """Worker 0 goes on after 3 and after 5, worker 1 after 4; then both had nothing to do."""
    batches = [
        batch_of(0, (0, 0, 10), (1, 0, 12)),
        batch_of(0, (0, 13, 20), (1, 16, 30)),
        batch_of(0, (0, 25, 30)),
        batch_of(90, (0, 95, 99)),
        batch_of(200, (0, 205, 210), (1, 205, 210)),
    ]

    assert handing_ns_of(batches) == 4
    assert handing_ns_of(batches, quantile=0.0) == 3
    assert handing_ns_of(batches, quantile=1.0) == 5


def test_handing_is_unknown_without_two_chunks_of_a_worker() -> None:
    assert handing_ns_of([batch_of(None, (0, 0, 10), (None, 10, 20))]) is None
    assert handing_ns_of([]) is None
