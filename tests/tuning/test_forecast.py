"""Predictions for other numbers of workers, and the fewest that do: never wrong, and quick."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.tuning.forecast import (
    CLOSE_ENOUGH,
    FULL_TABLE,
    THROUGHPUT_LOST,
    Demand,
    Supply,
    fewest_that_do,
    forecast,
)
from lightning_fastdata.tuning.replay import BatchCost, Span, Steps

MS = 1_000_000


def supply_of_batches_of(work_ms: float, rows: int = 32, **changed: object) -> Supply:
    cost = BatchCost(spans=(Span(rows, round(work_ms * MS)),))
    given: dict[str, object] = {"costs": (cost,) * 96, "cpu_fraction": 1.0, "handing_ns": 0}
    return Supply(**{**given, **changed})  # type: ignore[arg-type]


def demand_of(step_ms: float, host_cores: float = 0.0) -> Demand:
    return Demand(steps=Steps(host_ns=[round(step_ms * MS)]), host_cores=host_cores)


def by_full_table(stalls: list[float], max_stall_fraction: float) -> int:
    """The same answer, by looking at every number."""
    best = min(stalls)
    limit = max_stall_fraction
    if best > max_stall_fraction:
        close = min(CLOSE_ENOUGH, THROUGHPUT_LOST * (1 - best), best - max_stall_fraction)
        limit = best + close
    return next(number for number, stall in enumerate(stalls) if stall <= limit)


FALLING = st.integers(0, 600).flatmap(
    lambda most: st.lists(st.integers(0, 100), min_size=1, max_size=6).map(
        lambda steps: sorted(
            (steps[number * len(steps) // (most + 1)] / 100 for number in range(most + 1)),
            reverse=True,
        )
    )
)


@given(stalls=FALLING, max_stall=st.integers(0, 100))
def test_where_stalls_fall_the_answer_is_that_of_the_full_table(
    stalls: list[float], max_stall: int
) -> None:
    most = len(stalls) - 1

    found = fewest_that_do(stalls.__getitem__, most, max_stall / 100)

    assert found == by_full_table(stalls, max_stall / 100)


@given(stalls=st.lists(st.integers(0, 100), min_size=1, max_size=FULL_TABLE + 1))
def test_few_numbers_are_all_looked_at_whatever_the_stalls(stalls: list[int]) -> None:
    fractions = [stall / 100 for stall in stalls]

    found = fewest_that_do(fractions.__getitem__, len(stalls) - 1, 0.02)

    assert found == by_full_table(fractions, 0.02)


@given(best_at=st.integers(0, 512), stall=st.integers(30, 90))
def test_more_workers_than_the_cores_can_serve_are_seen_to_be_worse(
    best_at: int, stall: int
) -> None:
    stalls = [stall / 100 + abs(number - best_at) / 10_000 for number in range(513)]

    found = fewest_that_do(stalls.__getitem__, 512, 0.02)

    assert found == by_full_table(stalls, 0.02)


def test_of_512_workers_a_few_dozen_at_most_are_looked_at_and_none_twice() -> None:
    for edge in range(0, 513, 7):
        asked: list[int] = []

        def stall_of(number: int, edge: int = edge, asked: list[int] = asked) -> float:
            asked.append(number)
            return 0.5 if number < edge else 0.0

        assert fewest_that_do(stall_of, 512, 0.02) == edge
        assert len(asked) == len(set(asked)) <= 24


def test_fewer_than_the_least_are_never_looked_at() -> None:
    def stall_of(number: int) -> float:
        assert number >= 3
        return 0.0

    assert fewest_that_do(stall_of, 40, 0.02, least=3) == 3


def test_a_few_percent_of_the_throughput_are_not_given_away_where_training_mostly_waits() -> None:
    stalls = [0.980, 0.970, 0.9605, 0.960]  # 2, 3, 3.95 and 4 % of the time is training

    assert fewest_that_do(stalls.__getitem__, 3, 0.02) == 2


def test_workers_that_compute_share_the_cores_with_each_other_and_with_training() -> None:
    supply = supply_of_batches_of(40)

    def per_s(num_workers: int, host_cores: float) -> float:
        found = forecast(
            supply, demand_of(1, host_cores), engine="ring", num_workers=num_workers, cores=2
        )
        assert found.batches_per_s is not None
        return found.batches_per_s

    assert per_s(2, 0.0) == pytest.approx(50, rel=0.02)
    assert per_s(4, 0.0) == pytest.approx(50, rel=0.02)
    assert per_s(2, 1.0) == pytest.approx(50 * 2 / 3, rel=0.02)  # three on two cores


def test_handing_batches_over_takes_cores_from_workers() -> None:
    free = supply_of_batches_of(40)
    costly = supply_of_batches_of(40, handover_cpu_ns=8 * MS)

    without, with_it = (
        forecast(supply, demand_of(1), engine="ring", num_workers=2, cores=2).batches_per_s
        for supply in (free, costly)
    )

    assert without is not None
    assert with_it is not None
    # 40 and 8 ms of two cores a batch, the 8 at a fair share: between 41.7/s and 46/s.
    assert 0.8 * without < with_it < 0.95 * without


def test_time_to_get_chunks_counts_as_workers_time() -> None:
    supply = supply_of_batches_of(40, handing_ns=10 * MS)

    one = forecast(supply, demand_of(1), engine="ring", num_workers=1, cores=4)

    assert one.batches_per_s == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize("is_cut", [True, False])
@pytest.mark.parametrize("num_workers", [24, 64, 200])
def test_many_workers_that_are_too_few_are_seen_to_be(num_workers: int, is_cut: bool) -> None:
    """Queues that fill before the first step would hide it in a run that is too short."""
    work_ms = 2 * num_workers * 10
    supply = supply_of_batches_of(work_ms, rows=200, is_cut=is_cut, cpu_fraction=0.0)

    found = forecast(
        supply, demand_of(10), engine="ring", num_workers=num_workers, cores=num_workers
    )

    assert found.stall_fraction == pytest.approx(0.5, abs=0.06)


def test_memory_is_that_of_batches_in_flight_and_in_hand() -> None:
    supply = supply_of_batches_of(30, batch_bytes=100)

    found = forecast(supply, demand_of(10), engine="ring", num_workers=4, cores=8)

    assert (found.prefetch_batches, found.memory_bytes) == (16, 1800)
