"""What training would have waited for: cases worked out by hand, for each way to load."""

import numpy as np
import pytest
from replay_tools import whole

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.tuning.replay import (
    BatchCost,
    InlineDispatch,
    Replayed,
    RingDispatch,
    Span,
    Steps,
    TorchDispatch,
    replay,
)


def ring(num_workers: int, depth: int, *, is_cut: bool = False) -> RingDispatch:
    return RingDispatch(num_workers=num_workers, depth=depth, is_cut=is_cut, handing_ns=0)


def torch_like(num_workers: int, prefetch_factor: int, **options: int) -> TorchDispatch:
    return TorchDispatch(num_workers=num_workers, prefetch_factor=prefetch_factor, **options)


def test_inline_waits_for_all_of_each_batch() -> None:
    result = replay(whole(5, 7, 9), Steps(host_ns=[10]), InlineDispatch(), transit_ns=100)

    assert result.waits_ns.tolist() == [5, 7, 9]
    assert result.wall_ns == 51
    assert result.stall_fraction == (7 + 9) / (51 - 15)
    assert result.busy_fraction is None
    assert result.most_ready == 0


def test_one_ring_worker_that_is_faster_than_training_is_waited_for_once() -> None:
    result = replay(whole(4, 4, 4, 4), Steps(host_ns=[10]), ring(1, 2))

    assert result.waits_ns.tolist() == [4, 0, 0, 0]
    assert result.stall_fraction == 0.0
    assert result.ready_fraction == 1.0


def test_one_ring_worker_that_is_slower_is_waited_for_each_time() -> None:
    """It makes the next batch meanwhile, so each wait is the difference."""
    result = replay(whole(10, 10, 10), Steps(host_ns=[4]), ring(1, 2))

    assert result.waits_ns.tolist() == [10, 6, 6]
    assert result.stall_fraction == 12 / 20
    assert result.busy_fraction == 30 / 34


def test_the_ring_asks_when_a_batch_is_wanted_and_torch_when_one_is_taken() -> None:
    """With one batch in flight torch's worker is at the next one during the step."""
    batches, steps = whole(10, 10), Steps(host_ns=[4])

    assert replay(batches, steps, ring(1, 1)).waits_ns.tolist() == [10, 10]
    assert replay(batches, steps, torch_like(1, 1)).waits_ns.tolist() == [10, 6]


def test_torch_deals_in_turn_and_the_ring_to_whoever_is_free() -> None:
    """The last batch is torch's slow worker's turn; in the ring the idle worker makes it."""
    batches, steps = whole(2, 20, 2, 2, 2, 2), Steps(host_ns=[0])

    assert replay(batches, steps, torch_like(2, 2)).waits_ns.tolist() == [2, 18, 0, 2, 0, 2]
    assert replay(batches, steps, ring(2, 4)).waits_ns.tolist() == [2, 18, 0, 2, 0, 0]


def test_torch_out_of_order_gives_what_is_there() -> None:
    dispatch = TorchDispatch(num_workers=2, prefetch_factor=2, in_order=False)

    result = replay(whole(20, 2, 2, 2), Steps(host_ns=[1]), dispatch)

    # The second and the fourth come at 2 and 4, from one worker; the slow first and the third at
    # 20 and 22, from the other.
    assert result.waits_ns.tolist() == [2, 1, 15, 1]


def test_torch_out_of_order_passes_over_a_worker_that_has_its_share() -> None:
    """It is the slow one's turn when the third batch is dealt, but it has one batch already."""
    dispatch = TorchDispatch(num_workers=2, prefetch_factor=1, in_order=False)

    result = replay(whole(20, 2, 2, 2), Steps(host_ns=[1]), dispatch)

    assert result.waits_ns.tolist() == [2, 1, 1, 13]


def test_the_ring_out_of_order_gives_what_is_there() -> None:
    dispatch = RingDispatch(num_workers=2, depth=4, is_cut=False, handing_ns=0, in_order=False)

    result = replay(whole(20, 2, 2), Steps(host_ns=[1]), dispatch)

    # The third is queued behind the slow one: two chunks a worker are handed out at once.
    assert result.waits_ns.tolist() == [2, 17, 1]


def test_ring_workers_share_a_batch() -> None:
    """Sixteen rows for four workers are sixteen chunks at first, as nothing is known of samples."""
    result = replay(whole(160, rows=16), Steps(host_ns=[0]), ring(4, 1, is_cut=True))

    assert result.waits_ns.tolist() == [40]


def test_each_chunk_costs_its_handing() -> None:
    dispatch = RingDispatch(num_workers=4, depth=1, handing_ns=3)

    result = replay(whole(160, rows=16), Steps(host_ns=[0]), dispatch)

    assert result.waits_ns.tolist() == [40 + 4 * 3]


def test_a_slow_row_holds_up_its_own_chunk_only() -> None:
    batches = [BatchCost(spans=(Span(2, 2), Span(1, 90), Span(1, 1))) for _ in range(2)]

    result = replay(batches, Steps(host_ns=[0]), ring(2, 2, is_cut=True))

    # Chunks of one row, as nothing is known yet: 1, 1, 90, 1, and the same of the second batch.
    # One worker is at the first slow row from 1 to 91, the other at the second from 3 to 93, and at
    # the last row of all to 94.
    assert result.waits_ns.tolist() == [91, 3]


def test_a_batch_is_ready_once_it_has_travelled() -> None:
    result = replay(whole(4, 4), Steps(host_ns=[10]), ring(1, 2), transit_ns=7)

    assert result.waits_ns.tolist() == [11, 0]
    assert result.ready_fraction == 1.0


def test_taking_a_batch_costs_its_time_even_where_it_is_ready() -> None:
    result = replay(whole(4, 4), Steps(host_ns=[10]), torch_like(1, 2, next_ns=3))

    assert result.waits_ns.tolist() == [7, 3]
    assert result.ready_fraction == 1.0


def test_answers_read_before_their_turn_cost_nothing_at_their_turn() -> None:
    """While it waits for the first batch, the loop reads the second."""
    result = replay(whole(20, 2), Steps(host_ns=[0]), torch_like(2, 2, next_ns=3))

    assert result.waits_ns.tolist() == [23, 0]


def test_a_device_hides_waits_that_end_before_it_is_done() -> None:
    """The host has a batch every 10, the device needs 30 a step: only the first one is exposed."""
    steps = Steps(host_ns=[0], device_ns=[30], run_ahead=8)

    result = replay(whole(10, 10, 10), steps, InlineDispatch())

    assert result.waits_ns.tolist() == [10, 10, 10]
    assert result.exposed_ns.tolist() == [10, 0, 0]
    assert result.wall_ns == 10 + 3 * 30
    assert result.stall_fraction == 0.0


def test_a_host_that_waits_for_the_device_each_step_exposes_every_wait() -> None:
    steps = Steps(host_ns=[0], device_ns=[30], run_ahead=0)

    result = replay(whole(10, 10, 10), steps, InlineDispatch())

    assert result.exposed_ns.tolist() == [10, 10, 10]
    assert result.wall_ns == 3 * 40


def test_the_host_is_at_most_so_many_steps_ahead() -> None:
    """One ahead: the third batch is wanted when the first step is done, at 31."""
    steps = Steps(host_ns=[0], device_ns=[30], run_ahead=1)

    result = replay(whole(1, 1, 1, 1), steps, InlineDispatch())

    assert result.waits_ns.tolist() == [1, 1, 1, 1]
    assert result.exposed_ns.tolist() == [1, 0, 0, 0]
    assert result.wall_ns == 121


def test_a_device_that_is_done_early_loses_the_rest_of_the_wait() -> None:
    steps = Steps(host_ns=[2], device_ns=[6])

    result = replay(whole(5, 9), steps, InlineDispatch())

    # The step began at 5 and ends at 11; the batch wanted at 7 comes at 16.
    assert result.exposed_ns.tolist() == [5, 5]
    assert result.stall_fraction == 5 / 11


def test_readiness_and_memory_are_those_of_a_case_by_hand() -> None:
    """Ready at 5, 10, 15 and 45; taken at 5, 25, 45 and 65: two lie there from 15 to 25."""
    result = replay(whole(5, 5, 5, 5), Steps(host_ns=[20]), torch_like(1, 2))

    assert result.waits_ns.tolist() == [5, 0, 0, 0]
    assert result.most_ready == 2
    assert result.ready_fraction == 1.0
    assert replay(whole(5, 30, 5), Steps(host_ns=[20]), torch_like(1, 2)).ready_fraction == 0.5


def test_batches_per_second_are_those_of_the_steady_state() -> None:
    result = replay(whole(10**9, 10**6, 10**6, 10**6), Steps(host_ns=[10**7]), InlineDispatch())

    assert result.batches_per_s == pytest.approx(3 / 0.033)


def test_shorter_sequences_of_steps_are_gone_through_again() -> None:
    result = replay(whole(0, 0, 0, 0, 0), Steps(host_ns=[1, 10]), InlineDispatch())

    assert result.wall_ns == 1 + 10 + 1 + 10 + 1


def test_the_start_can_be_left_out() -> None:
    """Two workers make two batches at once, between steps of 2."""
    result = replay(whole(*[20] * 6), Steps(host_ns=[2]), torch_like(2, 1))

    assert result.waits_ns.tolist() == [20, 0, 16, 0, 16, 0]
    assert result.stall_fraction == 32 / 42
    assert result.stall_fraction_after(2) == 32 / 40
    assert result.stall_fraction_after(6) == result.stall_fraction


def test_nothing_to_replay_is_nothing_lost() -> None:
    result = replay([], Steps(host_ns=[1]), torch_like(2, 2))

    assert isinstance(result, Replayed)
    assert result.waits_ns.dtype == np.int64
    assert (result.wall_ns, result.stall_fraction, result.batches_per_s) == (0, 0.0, None)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch_like(0, 2), "num_workers is 0, wanted is 1 or more"),
        (lambda: ring(2, 0), "depth is 0, wanted is 1 or more"),
        (lambda: Steps(host_ns=[]), "there is no step time"),
        (lambda: BatchCost(spans=()), "a batch's cost has no spans"),
        (lambda: BatchCost(spans=(Span(0, 5),)), "a span has 0 rows and takes 5 ns"),
    ],
)
def test_says_what_is_wrong_with_an_input(make: object, words: str) -> None:
    with pytest.raises(SettingsError, match=f"^{words}"):
        make()  # type: ignore[operator]
