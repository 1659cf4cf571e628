"""Small inputs for replays, and the strategies that draw them."""

from hypothesis import strategies as st

from lightning_fastdata.tuning.replay import (
    BatchCost,
    Dispatch,
    InlineDispatch,
    RingDispatch,
    Span,
    Steps,
    TorchDispatch,
)


def whole(*times_ns: int, rows: int = 4) -> list[BatchCost]:
    """Batches of one span each."""
    return [BatchCost(spans=(Span(rows, time_ns),)) for time_ns in times_ns]


SPANS = st.builds(Span, st.integers(1, 4), st.integers(0, 8))
COSTS = st.builds(
    BatchCost, spans=st.lists(SPANS, min_size=1, max_size=4).map(lambda spans: tuple(spans))
)
BATCHES = st.lists(COSTS, min_size=1, max_size=12)
EQUAL_BATCHES = st.builds(lambda count, ns: whole(*[ns] * count), *[st.integers(1, 14)] * 2)
TIMES = st.lists(st.integers(0, 8), min_size=1, max_size=3)
HOST_STEPS = st.builds(Steps, host_ns=TIMES)
STEPS = HOST_STEPS | st.builds(Steps, host_ns=TIMES, device_ns=TIMES, run_ahead=st.integers(0, 3))
SMALL = st.integers(0, 3)
WORKERS = st.integers(1, 4)


def rings(is_cut: st.SearchStrategy[bool]) -> st.SearchStrategy[RingDispatch]:
    return st.builds(
        RingDispatch,
        num_workers=WORKERS,
        depth=st.integers(1, 8),
        is_cut=is_cut,
        handing_ns=SMALL,
        in_order=st.booleans(),
        next_ns=SMALL,
    )


TORCHES = st.builds(
    TorchDispatch,
    num_workers=WORKERS,
    prefetch_factor=st.integers(1, 3),
    handing_ns=SMALL,
    in_order=st.booleans(),
    next_ns=SMALL,
)
DISPATCHES: st.SearchStrategy[Dispatch] = rings(st.booleans()) | TORCHES | st.just(InlineDispatch())
