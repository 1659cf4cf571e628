"""Requests and menders as values: whatever is bad, each row is accounted for, and nothing loops."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_passes import told_of
from fault_sets import Good
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.errors import BadSampleWarning, SampleError
from lightning_fastdata.loader.engine import Change, Request
from lightning_fastdata.loader.mend import BadSamplePolicy, Mender
from lightning_fastdata.order import EpochKey

LENGTH = 12
KEY = EpochKey(seed=3, epoch=2)
FORMS = st.sampled_from(["array", "list"])
quiet = pytest.mark.filterwarnings("ignore::lightning_fastdata.errors.BadSampleWarning")


def request_of(keys: list[Any], form: str = "array", *, of_order: bool = True) -> Request:
    return Request(
        number=4,
        epoch=2,
        indices=np.array(keys, dtype=np.int64) if form == "array" else keys,
        seeds=np.arange(len(keys), dtype=np.uint64) + np.uint64(100),
        batch_seed=9,
        key=KEY,
        order_length=LENGTH if of_order else None,
    )


@st.composite
def requests_with_rows(draw: st.DrawFn) -> tuple[Request, list[int]]:
    keys = draw(st.lists(st.integers(0, LENGTH - 1), min_size=1, max_size=6))
    rows = draw(st.lists(st.integers(0, len(keys) - 1), unique=True).map(sorted))
    return request_of(keys, draw(FORMS)), rows


def same(one: Request, other: Request) -> bool:
    return (
        list(one.keys) == list(other.keys)
        and type(one.indices) is type(other.indices)
        and one.seeds.tolist() == other.seeds.tolist()
        and one.changes == other.changes
        and one.number == other.number
    )


@given(requests_with_rows(), st.integers(0, LENGTH - 1))
def test_a_changed_request_differs_in_these_rows_only(
    given_one: tuple[Request, list[int]], other: int
) -> None:
    request, rows = given_one

    changed = request.with_changes([Change(row, request.keys[row], other) for row in rows])

    assert changed.keys == [other if row in rows else key for row, key in enumerate(request.keys)]
    assert changed.seeds.tolist() == request.seeds.tolist()
    assert changed.positions == len(request.keys)
    assert not changed.is_void


@given(requests_with_rows())
def test_a_request_without_rows_keeps_the_others_with_their_seeds(
    given_one: tuple[Request, list[int]],
) -> None:
    request, rows = given_one
    stay = [row for row in range(len(request.keys)) if row not in rows]

    fewer = request.without(rows)

    assert fewer.keys == [request.keys[row] for row in stay]
    assert fewer.seeds.tolist() == [100 + row for row in stay]
    assert fewer.positions == len(request.keys)
    assert fewer.is_void == (not stay)


@given(requests_with_rows(), st.integers(0, LENGTH - 1))
def test_unchanged_gives_what_the_order_asked_for(
    given_one: tuple[Request, list[int]], other: int
) -> None:
    request, rows = given_one
    changes = [Change(row, request.keys[row], other) for row in rows]

    assert same(request.with_changes(changes).unchanged(), request)
    assert same(request.without(rows).unchanged(), request)
    assert same(request.unchanged(), request)


@pytest.mark.parametrize("key", [7, "seven", (1, 2), [1, 2, 3]])
def test_a_single_sample_is_one_row_whatever_its_key(key: Any) -> None:
    request = Request(
        number=0,
        epoch=0,
        indices=key,
        seeds=np.zeros(1, np.uint64),
        batch_seed=0,
        batched=False,
    )

    changed = request.with_changes([Change(0, key, "other")])

    assert list(request.keys) == [key]
    assert changed.indices == "other"
    assert changed.unchanged().indices == key
    assert request.without([0]).is_void


def made(mender: Mender, request: Request, bad: set[int]) -> Request:
    """Do as an engine does, until all samples can be made."""
    for _ in range(4 * LENGTH):
        wrong = [
            (row, OSError(f"{key} is broken")) for row, key in enumerate(request.keys) if key in bad
        ]
        if not wrong:
            return request
        request = mender.mend(request, wrong)
    raise AssertionError("it never came to an end")


def mender_of(policy: str, path: Path | None = None) -> Mender:
    return Mender(
        Good(LENGTH),
        BadSamplePolicy(on_bad_sample=policy, max_bad_fraction=1.0, quarantine=path),  # type: ignore[arg-type]  # any name
    )


KEYS = st.lists(st.integers(0, LENGTH - 1), min_size=1, max_size=6)
SOME_BAD = st.sets(st.integers(0, LENGTH - 1), max_size=LENGTH - 1)


@quiet
@given(KEYS, SOME_BAD, FORMS)
def test_a_mended_batch_has_as_many_samples_all_good_with_each_change_noted(
    keys: list[int], bad: set[int], form: str
) -> None:
    mended = made(mender_of("skip"), request_of(keys, form), bad)

    assert len(mended.keys) == len(keys)
    assert not set(mended.keys) & bad
    assert {(change.row, change.skipped) for change in mended.changes} == {
        (row, key) for row, key in enumerate(keys) if key in bad
    }
    assert all(mended.keys[change.row] == change.repeated for change in mended.changes)
    assert all(type(change.repeated) is int for change in mended.changes)


@quiet
@given(KEYS, SOME_BAD, FORMS)
def test_what_is_left_out_is_the_bad_samples_and_nothing_else(
    keys: list[int], bad: set[int], form: str
) -> None:
    mended = made(mender_of("leave_out"), request_of(keys, form), bad)

    assert list(mended.keys) == [key for key in keys if key not in bad]
    assert mended.positions == len(keys)


@quiet
@given(KEYS, SOME_BAD)
def test_who_knows_all_bad_samples_before_asks_for_the_same(keys: list[int], bad: set[int]) -> None:
    """So a second run, a resumed one and one that met them in another order agree."""
    mender = mender_of("skip")
    for index in sorted(bad):
        made(mender, request_of([index]), bad)

    assert same(mender.prepared(request_of(keys)), made(mender_of("skip"), request_of(keys), bad))


@quiet
@given(KEYS, KEYS)
def test_a_sample_has_one_stand_in_an_epoch_wherever_it_stands(
    before: list[int], after: list[int]
) -> None:
    alone = made(mender_of("skip"), request_of([5]), {5})
    among = made(mender_of("skip"), request_of([*before, 5, *after]), {5})

    assert among.keys[len(before)] == alone.keys[0]


@quiet
@given(KEYS, st.sets(st.integers(0, LENGTH - 1)))
def test_of_a_sampler_only_its_own_samples_are_repeated(keys: list[int], bad: set[int]) -> None:
    request = request_of(keys, of_order=False)
    if set(keys) <= bad:
        with pytest.raises(SampleError, match="wanted a good one to repeat in its place"):
            made(mender_of("skip"), request, bad)
        return

    assert set(made(mender_of("skip"), request, bad).keys) == set(keys) - bad


def test_another_epoch_draws_other_stand_ins() -> None:
    drawn = set()
    with told_of(BadSampleWarning):
        for epoch in range(20):
            request = request_of([5])
            object.__setattr__(request, "key", EpochKey(seed=3, epoch=epoch))
            drawn.add(made(mender_of("skip"), request, {5}).keys[0])

    assert len(drawn) > 5


def test_with_raise_the_first_rows_error_is_raised() -> None:
    mender = mender_of("raise")

    with pytest.raises(OSError, match=r"^of row 1$"):
        mender.mend(request_of([4, 5, 6]), [(2, KeyError("of row 2")), (1, OSError("of row 1"))])


def test_with_raise_a_request_is_left_as_it_is() -> None:
    request = request_of([4, 5])

    assert mender_of("raise").prepared(request) is request
