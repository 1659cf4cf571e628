"""What holds for every replay, and what more workers, depth or speed can never make worse.

What is not here does not hold; ``test_replay_anomalies.py`` has the counterexamples.
"""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from replay_tools import (
    BATCHES,
    DISPATCHES,
    EQUAL_BATCHES,
    HOST_STEPS,
    SMALL,
    STEPS,
    TORCHES,
    rings,
)

from lightning_fastdata.tuning.replay import (
    BatchCost,
    Dispatch,
    InlineDispatch,
    RingDispatch,
    Span,
    Steps,
    TorchDispatch,
    replay,
    scaled,
)
from lightning_fastdata.tuning.replay.cost import chunk_times_ns

WHOLE_BATCHES = TORCHES | rings(st.just(False))


@given(BATCHES, STEPS, DISPATCHES, SMALL)
def test_every_batch_is_given_once_and_no_wait_is_negative(
    batches: list[BatchCost], steps: Steps, dispatch: Dispatch, transit_ns: int
) -> None:
    result = replay(batches, steps, dispatch, transit_ns=transit_ns)

    assert len(result.waits_ns) == len(result.exposed_ns) == len(batches)
    assert result.waits_ns.min() >= 0
    assert np.all((result.exposed_ns >= 0) & (result.exposed_ns <= result.waits_ns))


@given(BATCHES, STEPS, DISPATCHES)
def test_shares_are_shares(batches: list[BatchCost], steps: Steps, dispatch: Dispatch) -> None:
    result = replay(batches, steps, dispatch)

    assert 0.0 <= result.stall_fraction <= 1.0
    assert 0.0 <= result.ready_fraction <= 1.0
    assert result.busy_fraction is None or 0.0 <= result.busy_fraction <= 1.0


@given(BATCHES, HOST_STEPS, DISPATCHES)
def test_waits_and_steps_add_up_to_the_wall(
    batches: list[BatchCost], steps: Steps, dispatch: Dispatch
) -> None:
    result = replay(batches, steps, dispatch)

    host_ns = np.resize(steps.host_ns, len(batches))
    assert result.wall_ns == result.waits_ns.sum() + host_ns.sum()
    assert np.array_equal(result.exposed_ns, result.waits_ns)


@given(BATCHES, STEPS, DISPATCHES)
def test_nobody_works_faster_than_all_workers_together(
    batches: list[BatchCost], steps: Steps, dispatch: Dispatch
) -> None:
    result = replay(batches, steps, dispatch)

    workers = 1 if isinstance(dispatch, InlineDispatch) else dispatch.num_workers
    assert result.wall_ns * workers >= sum(batch.time_ns for batch in batches)


@given(BATCHES, STEPS, TORCHES | st.just(InlineDispatch()))
def test_no_step_begins_before_its_batch_is_made(
    batches: list[BatchCost], steps: Steps, dispatch: Dispatch
) -> None:
    if isinstance(dispatch, TorchDispatch):
        dispatch = dataclasses.replace(dispatch, in_order=True)

    result = replay(batches, steps, dispatch)

    host_ns = np.resize(steps.host_ns, len(batches))
    latest_ns = result.wall_ns - np.cumsum(host_ns[::-1])[::-1]
    assert all(latest >= batch.time_ns for latest, batch in zip(latest_ns, batches, strict=True))


@given(BATCHES, STEPS, DISPATCHES, SMALL)
def test_no_more_batches_lie_ready_than_were_asked_for(
    batches: list[BatchCost], steps: Steps, dispatch: Dispatch, transit_ns: int
) -> None:
    result = replay(batches, steps, dispatch, transit_ns=transit_ns)

    if isinstance(dispatch, InlineDispatch):
        assert result.most_ready == 0
    elif isinstance(dispatch, RingDispatch):
        assert result.most_ready <= dispatch.depth
    else:
        assert result.most_ready <= dispatch.num_workers * dispatch.prefetch_factor


@given(BATCHES, STEPS, DISPATCHES)
def test_equal_inputs_give_equal_outputs(
    batches: list[BatchCost], steps: Steps, dispatch: Dispatch
) -> None:
    first, second = (replay(batches, steps, dispatch) for _ in range(2))

    assert first.wall_ns == second.wall_ns
    assert np.array_equal(first.waits_ns, second.waits_ns)


@given(EQUAL_BATCHES, STEPS, WHOLE_BATCHES)
def test_more_workers_make_equal_whole_batches_never_later(
    batches: list[BatchCost], steps: Steps, dispatch: RingDispatch | TorchDispatch
) -> None:
    more = dataclasses.replace(dispatch, num_workers=dispatch.num_workers + 1)

    assert replay(batches, steps, more).wall_ns <= replay(batches, steps, dispatch).wall_ns


@given(EQUAL_BATCHES, STEPS, WHOLE_BATCHES)
def test_more_depth_gives_equal_whole_batches_never_later(
    batches: list[BatchCost], steps: Steps, dispatch: RingDispatch | TorchDispatch
) -> None:
    assert (
        replay(batches, steps, deeper(dispatch)).wall_ns <= replay(batches, steps, dispatch).wall_ns
    )


@given(BATCHES, STEPS, TORCHES)
def test_more_depth_gives_any_batches_of_torch_never_later(
    batches: list[BatchCost], steps: Steps, dispatch: TorchDispatch
) -> None:
    """In order and with a free ``next()``, when each batch comes is a maximum of sums."""
    dispatch = dataclasses.replace(dispatch, in_order=True, next_ns=0)

    assert (
        replay(batches, steps, deeper(dispatch)).wall_ns <= replay(batches, steps, dispatch).wall_ns
    )


@given(BATCHES, STEPS, TORCHES | st.just(InlineDispatch()), st.data())
def test_faster_samples_never_come_later_inline_or_in_torchs_order(
    batches: list[BatchCost],
    steps: Steps,
    dispatch: TorchDispatch | InlineDispatch,
    data: st.DataObject,
) -> None:
    if isinstance(dispatch, TorchDispatch):
        dispatch = dataclasses.replace(dispatch, in_order=True, next_ns=0)
    faster = [
        BatchCost(
            spans=tuple(Span(rows, data.draw(st.integers(0, ns))) for rows, ns in batch.spans)
        )
        for batch in batches
    ]

    assert replay(faster, steps, dispatch).wall_ns <= replay(batches, steps, dispatch).wall_ns


def deeper(dispatch: RingDispatch | TorchDispatch) -> Dispatch:
    if isinstance(dispatch, RingDispatch):
        return dataclasses.replace(dispatch, depth=dispatch.depth + 1)
    return dataclasses.replace(dispatch, prefetch_factor=dispatch.prefetch_factor + 1)


@given(BATCHES, st.integers(1, 20))
def test_chunks_add_up_to_their_batch_and_none_is_negative(
    batches: list[BatchCost], rows: int
) -> None:
    for batch in batches:
        times_ns = chunk_times_ns(batch, rows)

        assert sum(times_ns) == batch.time_ns
        assert len(times_ns) == -(-batch.rows // rows)
        assert min(times_ns) >= 0


def test_a_cut_through_a_span_gives_each_side_its_share() -> None:
    cost = BatchCost(spans=(Span(3, 30), Span(1, 100), Span(2, 7)))

    assert chunk_times_ns(cost, 2) == [20, 110, 7]
    assert chunk_times_ns(cost, 5) == [133, 4]


def test_costs_are_scaled_row_by_row() -> None:
    cost = BatchCost(spans=(Span(3, 30), Span(1, 100)))

    assert scaled(cost, 1.5).spans == (Span(3, 45), Span(1, 150))
