"""Plans shrink before anything starts, and say what to do about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.plan import EngineName
from lightning_fastdata.tuning.fit import FILES_FRACTION, IN_USE, Draft, Room, fit

SIZES = st.none() | st.integers(0, 200)


def draft_of(num_workers: int, prefetch_factor: int) -> Draft:
    return Draft(num_workers=num_workers, prefetch_factor=prefetch_factor)


@given(
    workers=st.integers(1, 20),
    prefetch=st.integers(1, 5),
    engine=st.sampled_from(["ring", "torch"]),
    is_fixed=st.booleans(),
    sizes=st.tuples(SIZES, SIZES, SIZES, SIZES),
)
def test_what_is_left_fits_into_every_limit_or_there_are_no_workers(
    workers: int,
    prefetch: int,
    engine: EngineName,
    is_fixed: bool,
    sizes: tuple[int | None, ...],
) -> None:
    memory, shm, files, batch = sizes
    draft = draft_of(workers, prefetch)

    room = Room(memory_bytes=memory, shm_bytes=shm, files=files, batch_bytes=batch)
    fit(draft, engine, room, prefetch_is_fixed=is_fixed)

    in_flight = draft.num_workers * draft.prefetch_factor
    if draft.num_workers and batch:
        assert memory is None or (in_flight + 1) * batch <= memory / 2
        assert engine == "ring" or shm is None or (in_flight + 1) * batch <= shm / 2
    if draft.num_workers and files is not None:
        assert in_flight + IN_USE <= files * FILES_FRACTION
    if is_fixed:
        assert draft.prefetch_factor == prefetch
    assert (draft.shortage is None) == (
        (draft.num_workers, draft.prefetch_factor) == (workers, prefetch)
    )


@pytest.mark.parametrize(
    ("room", "remedy"),
    [
        (
            Room(memory_bytes=None, shm_bytes=64 * 10**6, files=None, batch_bytes=10**7),
            "in Docker pass --shm-size=191m.",
        ),
        (
            Room(memory_bytes=10**8, shm_bytes=None, files=None, batch_bytes=10**7),
            "have 200 MB free, or use a smaller batch_size.",
        ),
        (
            Room(memory_bytes=None, shm_bytes=None, files=40, batch_bytes=None),
            "raise the limit by 120.",
        ),
    ],
)
def test_the_remedy_names_how_much_is_enough(room: Room, remedy: str) -> None:
    draft = draft_of(4, 2)

    fit(draft, "torch", room, prefetch_is_fixed=False)

    assert draft.shortage is not None
    assert draft.shortage.endswith(remedy)
