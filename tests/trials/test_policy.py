"""Which number of workers is tried next, over all tables of stalls that a machine may have."""

from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.trials.policy import (
    best_number,
    interleaved,
    next_number,
    numbers_to_weigh,
    shortfalls,
)

LIMIT = 0.02
OFF_BY = 0.02  # predictions, where the table is to be found


def shares(least: float = 0.0, most: float = 1.0) -> st.SearchStrategy[float]:
    """Whole percents, so that ties and the limit itself occur."""
    return st.integers(round(least * 100), round(most * 100)).map(lambda percent: percent / 100)


@st.composite
def falling_then_rising(draw: st.DrawFn) -> list[float]:
    """The stall with 0, 1, 2, ... workers: more help, until they are in each other's way."""
    falling = sorted(draw(st.lists(shares(), min_size=1, max_size=9)), reverse=True)
    rising = sorted(draw(st.lists(shares(falling[-1]), max_size=4)))
    return falling + rising


def settle(
    truth: list[float], predicted: dict[int, float], noise: list[float], limit: float = LIMIT
) -> tuple[int, dict[int, list[float]]]:
    """Try until all is settled; give the choice and what was measured."""
    measured: dict[int, list[float]] = {}
    tries = 0
    while (number := next_number(predicted, measured, limit)) is not None:
        seen = truth[number] + (noise[tries % len(noise)] if noise else 0.0)
        measured.setdefault(number, []).append(max(0.0, seen))
        tries += 1
        assert tries <= 2 * len(truth)
    return best_number(predicted, measured, limit), measured


@given(truth=falling_then_rising(), predicted=st.lists(shares(), min_size=13, max_size=13))
def test_ends_and_tries_no_number_more_than_twice_whatever_was_predicted(
    truth: list[float], predicted: list[float]
) -> None:
    chosen, measured = settle(truth, dict(enumerate(predicted[: len(truth)])), [])

    assert max(map(len, measured.values())) <= 2
    assert chosen in measured


@given(
    truth=falling_then_rising(),
    predicted=st.lists(shares(), min_size=13, max_size=13),
    noise=st.lists(st.floats(-0.02, 0.02), min_size=1, max_size=30),
)
def test_ends_with_noise_too(
    truth: list[float], predicted: list[float], noise: list[float]
) -> None:
    chosen, measured = settle(truth, dict(enumerate(predicted[: len(truth)])), noise)

    assert max(map(len, measured.values())) <= 2
    assert chosen in measured


@given(truth=falling_then_rising())
def test_finds_the_fewest_that_come_near_the_best_where_predictions_and_trials_are_exact(
    truth: list[float],
) -> None:
    chosen, _ = settle(truth, dict(enumerate(truth)), [])

    best = min(truth)
    goal = LIMIT if best <= LIMIT else max(LIMIT, best + min(0.03, 0.1 * (1.0 - best)))
    assert truth[chosen] <= best + 0.03
    assert chosen == next(n for n, stall in enumerate(truth) if stall <= goal)


@given(
    truth=falling_then_rising(),
    errors=st.lists(shares(0, OFF_BY), min_size=13, max_size=13),
    signs=st.lists(st.sampled_from([-1, 1]), min_size=13, max_size=13),
)
def test_comes_as_near_to_the_best_as_predictions_are_right(
    truth: list[float], errors: list[float], signs: list[int]
) -> None:
    """What is never tried is believed; so much less than the best may be taken for the best."""
    predicted = {n: max(0.0, stall + signs[n] * errors[n]) for n, stall in enumerate(truth)}

    chosen, _ = settle(truth, predicted, [])

    assert truth[chosen] <= min(truth) + 0.03 + 2 * OFF_BY + 1e-9


@given(truth=falling_then_rising())
def test_tries_few_numbers_where_predictions_hold(truth: list[float]) -> None:
    _, measured = settle(truth, dict(enumerate(truth)), [])

    assert len(measured) <= 4


def test_one_fewer_is_not_tried_where_it_is_clearly_too_few() -> None:
    _, measured = settle([0.8, 0.4, 0.0, 0.0], {0: 0.8, 1: 0.4, 2: 0.0, 3: 0.0}, [])

    assert set(measured) == {2}


def test_one_fewer_is_tried_where_it_is_predicted_to_be_just_over_the_limit() -> None:
    chosen, measured = settle([0.8, 0.01, 0.0], {0: 0.8, 1: 0.05, 2: 0.0}, [])

    assert set(measured) == {1, 2}
    assert chosen == 1


def test_what_predictions_were_off_by_is_how_far_they_are_trusted() -> None:
    """Two were said to leave 0.3 and left 0; one is said to leave 0.3 as well."""
    predicted = {0: 0.9, 1: 0.3, 2: 0.3, 3: 0.0}

    assert next_number(predicted, {3: [0.0], 2: [0.0]}, LIMIT) == 1


def test_a_trial_just_over_the_limit_is_made_again_before_more_workers_are_taken() -> None:
    predicted = {0: 0.9, 1: 0.02, 2: 0.0}

    assert next_number(predicted, {1: [0.03]}, LIMIT) == 1
    assert next_number(predicted, {1: [0.03, 0.03]}, LIMIT) == 2
    assert next_number(predicted, {1: [0.03, 0.005]}, LIMIT) is None


def test_more_are_tried_where_the_limit_cannot_be_kept_but_one_more_promises_much() -> None:
    predicted = {0: 0.9, 1: 0.5, 2: 0.49}

    assert next_number(predicted, {1: [0.5]}, LIMIT) == 2


def test_where_no_number_keeps_the_limit_half_as_many_are_tried_however_bad_they_look() -> None:
    """Workers that fill the cores are slow; one alone is not, which predictions do not know."""
    predicted = {0: 0.65, 1: 0.59, 2: 0.46, 3: 0.36, 4: 0.43}
    truth = [0.51, 0.26, 0.285, 0.32, 0.28]

    chosen, measured = settle(truth, predicted, [])

    assert chosen == 1
    assert 0 not in measured


def test_half_as_many_are_not_tried_where_fewer_were_clearly_worse() -> None:
    predicted = {0: 0.9, 1: 0.7, 2: 0.5, 3: 0.33, 4: 0.3}

    assert next_number(predicted, {4: [0.3], 3: [0.4]}, LIMIT) is None
    assert next_number(predicted, {4: [0.3], 3: [0.34]}, LIMIT) == 2


def test_where_training_hardly_does_more_than_wait_workers_that_double_the_batches_are_taken() -> (
    None
):
    """A stall of 99 % with two workers instead of 99.5 % with one is twice the batches."""
    truth = [0.998, 0.996, 0.992, 0.99]

    chosen, _ = settle(truth, dict(enumerate(truth)), [])

    assert chosen == 3


def test_without_trials_the_predictions_choose() -> None:
    assert best_number({0: 0.5, 1: 0.02, 2: 0.0}, {}, LIMIT) == 1


def test_where_time_is_up_numbers_that_were_not_tried_are_as_disturbed_as_those_that_were() -> None:
    """Two were to do and did not, as something else takes the cores; others do not either."""
    predicted = {0: 0.4, 1: 0.005, 2: 0.002, 3: 0.003}

    assert best_number(predicted, {2: [0.6]}, LIMIT) == 2


def test_where_time_is_up_what_was_foreseen_counts_for_numbers_that_were_not_tried() -> None:
    assert best_number({0: 0.5, 1: 0.2, 2: 0.0}, {1: [0.2]}, LIMIT) == 2


@given(rates=st.dictionaries(st.integers(0, 8), st.integers(0, 100), min_size=1))
def test_the_best_rate_falls_short_of_nothing(rates: dict[int, int]) -> None:
    best = max(rates.values())

    short = shortfalls(rates, best)

    assert all(0 <= each <= 1 for each in short.values())
    assert mean(short[n] for n, rate in rates.items() if rate == best) == 0


@given(most=st.integers(0, 300), around=st.none() | st.integers(0, 300))
def test_of_very_many_numbers_few_are_weighed_but_none_left_out_where_it_matters(
    most: int, around: int | None
) -> None:
    numbers = numbers_to_weigh(most, around)

    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert numbers[-1] == most
    assert len(numbers) <= 55
    if around is not None and around <= most:
        assert {max(0, around - 1), around, min(most, around + 1)} <= set(numbers)


@pytest.mark.parametrize("most", [0, 1, 2, 3, 4, 7, 64])
def test_an_exhaustive_order_has_each_number_once_and_neighbours_apart(most: int) -> None:
    order = interleaved(most)

    assert sorted(order) == list(range(most + 1))
    if most >= 4:
        assert all(abs(a - b) > 1 for a, b in pairwise(order))


def test_more_workers_are_not_tried_against_what_taking_batches_takes() -> None:
    predicted = {0: 0.3, 1: 0.0, 2: 0.0, 3: 0.0}

    assert next_number(predicted, {1: [0.06]}, LIMIT) == 2
    assert next_number(predicted, {1: [0.06]}, LIMIT, floors={1: 0.055}) is None


def test_a_number_is_not_tried_again_where_taking_batches_alone_takes_too_long() -> None:
    predicted = {0: 0.5, 1: 0.03}

    assert next_number(predicted, {1: [0.035]}, LIMIT, floors={1: 0.001}) == 1
    assert next_number(predicted, {1: [0.035]}, LIMIT, floors={1: 0.03}) is None


def test_what_no_number_can_change_is_no_reason_against_the_training_process() -> None:
    predicted = {0: 0.034, 1: 0.007, 2: 0.006}

    assert next_number(predicted, {1: [0.05]}, LIMIT, floors={1: 0.045}) == 0
