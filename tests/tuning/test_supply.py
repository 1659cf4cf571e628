"""Costs for replay are those that were measured, however they are drawn or read off a pool."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.trace import BatchTimes, ChunkTimes
from lightning_fastdata.tuning.probe import ProbeFacts
from lightning_fastdata.tuning.supply import (
    MOST_SLOW,
    RING_NEXT_NS,
    SLOW,
    expected_wall_ns,
    supply_of,
    supply_of_batches,
)

TIMES = st.lists(st.integers(1, 10**7), min_size=1, max_size=30).map(tuple)


def facts_of(sample_ns: tuple[int, ...], batch_size: int, whole_ns: int = 0) -> ProbeFacts:
    wall_ns = round(sum(sample_ns) / len(sample_ns) * batch_size) + whole_ns
    return ProbeFacts(
        samples=len(sample_ns),
        batch_wall_ns=wall_ns,
        batch_cpu_ns=wall_ns // 2,
        batch_bytes=100,
        sample_ns=sample_ns,
        whole_ns=whole_ns,
    )


@given(sample_ns=TIMES, batch_size=st.integers(1, 80), whole_ns=st.integers(0, 10**6))
def test_drawn_batches_have_all_rows_and_possible_times_and_are_the_same_each_time(
    sample_ns: tuple[int, ...], batch_size: int, whole_ns: int
) -> None:
    facts = facts_of(sample_ns, batch_size, whole_ns)

    supply = supply_of(facts, batch_size, True, None)

    assert supply == supply_of(facts, batch_size, True, None)
    for cost in supply.costs:
        assert cost.rows == batch_size
        least_ns, most_ns = batch_size * min(sample_ns), batch_size * max(sample_ns)
        assert least_ns <= cost.time_ns - whole_ns <= most_ns
        assert len(cost.spans) <= 2 * MOST_SLOW + 1


def test_drawn_batches_cost_on_average_what_was_measured() -> None:
    facts = facts_of((1_000_000,) * 94 + (6_000_000,) * 6, 256, 5_000_000)

    costs = supply_of(facts, 256, True, None).costs

    mean_ns = sum(cost.time_ns for cost in costs) / len(costs)
    assert mean_ns == pytest.approx(facts.batch_wall_ns, rel=0.01)


def test_slow_samples_are_rows_of_their_own_and_the_others_share_their_time() -> None:
    usual_ns, slow_ns = 1_000_000, 50_000_000
    facts = facts_of((usual_ns,) * 99 + (slow_ns,), 64)

    spans = [span for cost in supply_of(facts, 64, True, None).costs for span in cost.spans]

    assert {span.time_ns for span in spans if span.time_ns > SLOW * usual_ns * span.rows} == {
        slow_ns
    }
    assert all(span == (1, slow_ns) or span.time_ns == span.rows * usual_ns for span in spans)
    assert any(span == (1, slow_ns) for span in spans)


def test_batches_that_only_tell_as_a_whole_all_cost_the_same() -> None:
    facts = ProbeFacts(samples=9, batch_wall_ns=700, batch_cpu_ns=70, batch_bytes=9)

    supply = supply_of(facts, 16, False, None)

    assert {(cost.rows, cost.time_ns) for cost in supply.costs} == {(16, 700)}
    assert (supply.cpu_fraction, supply.is_cut, supply.batch_bytes) == (0.1, False, 9)


@pytest.mark.parametrize(
    ("fits", "warm_ns", "expected_ns"),
    [
        (True, 200, 200),
        (False, 200, 1000),
        (None, 200, 1000),
        (True, 900, 1000),
        (True, None, 1000),
    ],
)
def test_files_count_as_read_before_only_where_all_of_them_stay_in_memory(
    fits: bool | None, warm_ns: int | None, expected_ns: int
) -> None:
    facts = ProbeFacts(
        samples=9, batch_wall_ns=1000, batch_cpu_ns=150, batch_bytes=1, warm_batch_wall_ns=warm_ns
    )

    assert expected_wall_ns(facts, fits) == expected_ns
    supply = supply_of(facts, 4, True, fits)
    assert {cost.time_ns for cost in supply.costs} == {expected_ns}
    assert supply.cpu_fraction == 150 / expected_ns


def chunk_of(
    began_ns: int, ended_ns: int, rows: int = 4, first_row: int = 0, worker: int = 0, **more: object
) -> ChunkTimes:
    return ChunkTimes(
        worker=worker,
        samples=rows,
        began_ns=began_ns,
        ended_ns=ended_ns,
        page_faults=0,
        read_bytes=0,
        first_row=first_row,
        **{"cpu_ns": ended_ns - began_ns, **more},  # type: ignore[arg-type]
    )


def batch_of(*chunks: ChunkTimes, taken_after_ns: int = 7, number: int = 0) -> BatchTimes:
    made_ns = max((chunk.ended_ns for chunk in chunks), default=0)
    return BatchTimes(
        number=number,
        asked_ns=0,
        sent_ns=0,
        arrived_ns=made_ns + 5,
        wanted_ns=made_ns,
        taken_ns=made_ns + 5 + taken_after_ns,
        size_bytes=640,
        chunks=chunks,
    )


def test_a_pools_batches_cost_what_its_workers_took() -> None:
    first = batch_of(chunk_of(0, 100), chunk_of(0, 60, 4, 4, worker=1))
    second = batch_of(chunk_of(130, 230), chunk_of(90, 150, 4, 4, worker=1), number=1)

    supply = supply_of_batches([first, second], num_workers=2)

    assert [(cost.rows, cost.time_ns) for cost in supply.costs] == [(8, 160), (8, 160)]
    assert (supply.handing_ns, supply.transit_ns, supply.next_ns) == (30, 5, 7)
    assert (supply.batch_bytes, supply.cpu_fraction) == (640, 1.0)


@given(
    pieces=st.lists(
        st.tuples(
            st.integers(1, 6),  # rows
            st.integers(0, 60),  # time
            st.integers(0, 80),  # of it, waiting for a core
            st.lists(st.tuples(st.integers(-1, 7), st.integers(0, 90)), max_size=3),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_row_and_no_time_is_lost_but_what_workers_waited_for_a_core(pieces: list) -> None:  # type: ignore[type-arg]
    chunks, first_row = [], 0
    for rows, time_ns, waited_ns, slowest in pieces:
        noted = tuple((first_row + place, place, ns) for place, ns in slowest)
        chunks.append(chunk_of(0, time_ns, rows, first_row, core_wait_ns=waited_ns, slowest=noted))
        first_row += rows

    (cost,) = supply_of_batches([batch_of(*chunks)], num_workers=1).costs

    assert cost.rows == first_row
    assert cost.time_ns == sum(max(0, ns - waited) for _, ns, waited, _ in pieces)


def test_a_slow_sample_of_a_pool_is_a_row_of_its_own() -> None:
    usual = [batch_of(chunk_of(0, 40)) for _ in range(9)]
    slow = batch_of(chunk_of(0, 230, slowest=((2, 77, 200), (0, 5, 10))))

    *_, cost = supply_of_batches([*usual, slow], num_workers=1).costs

    assert cost.spans == ((2, 20), (1, 200), (1, 10))


def test_a_sample_that_waited_for_a_core_is_not_slow() -> None:
    usual = [batch_of(chunk_of(0, 40)) for _ in range(9)]
    late = batch_of(chunk_of(0, 230, slowest=((2, 77, 200),), core_wait_ns=190))

    *_, cost = supply_of_batches([*usual, late], num_workers=1).costs

    assert cost.spans == ((4, 40),)


def test_what_a_slow_sample_may_have_waited_for_a_core_is_not_its_own() -> None:
    usual = [batch_of(chunk_of(0, 40)) for _ in range(9)]
    late = batch_of(chunk_of(0, 230, slowest=((2, 77, 200),), core_wait_ns=60))

    *_, cost = supply_of_batches([*usual, late], num_workers=1).costs

    assert cost.spans == ((2, 20), (1, 140), (1, 10))


def test_where_workers_wait_for_cores_so_does_the_nursery() -> None:
    waiting = batch_of(chunk_of(0, 100, core_wait_ns=60))
    after = batch_of(chunk_of(150, 250, core_wait_ns=60), number=1)

    supply = supply_of_batches([waiting, after], num_workers=1)

    assert [cost.time_ns for cost in supply.costs] == [40, 40]
    assert supply.transit_ns == 2
    assert supply.cpu_fraction == 1.0


def test_what_lies_between_two_chunks_is_read_where_a_core_was_free() -> None:
    """Three gaps of 10, and three of 500 in which the worker did not get a core back."""
    ends_ns, batches = 0, []
    for number, gap_ns in enumerate((0, 10, 500, 10, 500, 10, 500)):
        began_ns = ends_ns + gap_ns
        ends_ns = began_ns + 100
        batches.append(batch_of(chunk_of(began_ns, ends_ns), number=number))

    assert supply_of_batches(batches, num_workers=1).handing_ns == 10


def test_without_workers_taking_a_batch_is_expected_to_cost_what_it_usually_does() -> None:
    supply = supply_of_batches([batch_of(chunk_of(0, 100))], num_workers=0)

    assert (supply.next_ns, supply.transit_ns) == (RING_NEXT_NS, 0)


def test_a_pool_of_which_nothing_is_known_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^of 1 batches none says what it cost"):
        supply_of_batches([batch_of()], num_workers=1)
