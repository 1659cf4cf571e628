"""What one would expect to help and does not: why replay is asked, and no rule of thumb.

These are properties of the dispatches, not of the replay, which is held to the real ones elsewhere.
"""

from replay_tools import whole

from lightning_fastdata.tuning.replay import RingDispatch, Steps, TorchDispatch, replay

STEPS = Steps(host_ns=[1])


def test_a_fourth_torch_worker_may_make_it_slower() -> None:
    """Every fourth batch is slow: dealt in turn to four workers, one has all of them."""
    batches = whole(*[40, 1, 1, 1] * 20)

    three = replay(batches, STEPS, TorchDispatch(num_workers=3))
    four = replay(batches, STEPS, TorchDispatch(num_workers=4))

    assert four.wall_ns > 1.5 * three.wall_ns


def test_more_prefetch_out_of_order_may_make_it_slower() -> None:
    """The third batch is dealt ahead to the worker of the slow first, and waits behind it."""
    batches = whole(5, 1, 5)

    def prefetching(factor: int) -> TorchDispatch:
        return TorchDispatch(num_workers=2, prefetch_factor=factor, in_order=False)

    one, two = (replay(batches, STEPS, prefetching(factor)) for factor in (1, 2))

    assert (one.wall_ns, two.wall_ns) == (7, 11)


def test_quicker_samples_may_make_the_ring_slower() -> None:
    """Samples of 1 ms are worth sharing between two workers; those of 0.9 ms are not."""
    dispatch = RingDispatch(num_workers=2, depth=1)
    slow, quick = (
        replay(whole(*[4 * sample_ns] * 20), STEPS, dispatch) for sample_ns in (10**6, 900_000)
    )

    assert quick.wall_ns > slow.wall_ns


def test_more_depth_may_make_the_ring_slower_at_the_start() -> None:
    """More batches are cut small before it is known what samples cost."""
    dispatches = [RingDispatch(num_workers=1, depth=depth, handing_ns=5) for depth in (1, 6)]

    shallow, deep = (replay(whole(*[10] * 6), STEPS, dispatch) for dispatch in dispatches)

    assert deep.wall_ns > shallow.wall_ns
