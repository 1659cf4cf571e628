"""Bad samples are raised, repeated or left out: the same for any workers, engine and resume."""

import traceback
from typing import Any

import pytest
from bad_sets import BAD, ENGINES, EVERYWHERE, GOOD, LEAVE, LENGTH, SKIP
from fault_passes import Pass, go_over, numbers_in, told_of
from fault_sets import Good
from sample_sets import MORE_WORKERS_THAN_CORES, loader_of, plain
from torch.utils.data import default_collate

from lightning_fastdata.errors import BadSampleWarning, SampleError, SettingsError


def over(**how: Any) -> Pass:
    return go_over(Good(LENGTH, BAD), shuffle=True, **how)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("policy", [SKIP, LEAVE], ids=["skip", "leave_out"])
def test_what_comes_is_the_same_to_the_bit_everywhere(policy: dict[str, Any], engine: str) -> None:
    wanted, told = over(**policy), over(**policy, **ENGINES[engine])

    assert told.error is None
    assert told.batches == wanted.batches
    assert sorted(told.bad) == sorted(wanted.bad) == sorted(BAD)


def test_each_good_sample_comes_once_and_each_bad_one_is_replaced_by_one_of_these() -> None:
    numbers = over(**SKIP).numbers

    assert len(numbers) == LENGTH
    assert set(numbers) == GOOD


def test_in_order_false_delivers_the_same_batches() -> None:
    told = over(**SKIP, num_workers=2, in_order=False)

    assert sorted(told.batches, key=str) == sorted(over(**SKIP).batches, key=str)


def replaced(batch_size: int | None, **how: Any) -> dict[int, int]:
    """What stands at the places of bad samples, by position."""
    told = go_over(Good(LENGTH, BAD), batch_size, shuffle=True, **SKIP, **how).numbers
    wanted = go_over(Good(LENGTH), batch_size, shuffle=True, **how).numbers
    return {wanted[k]: told[k] for k in range(LENGTH) if told[k] != wanted[k]}


@pytest.mark.parametrize("batch_size", [1, 7, LENGTH, None])
def test_a_stand_in_is_the_same_for_any_batch_size(batch_size: int | None) -> None:
    assert replaced(batch_size) == replaced(4)
    assert sorted(replaced(batch_size)) == sorted(BAD)


def test_another_epoch_has_other_stand_ins() -> None:
    first, second = (over(**SKIP, passes=2).batches[part] for part in (slice(15), slice(15, 30)))

    assert sorted(numbers_in(first)) != sorted(numbers_in(second))
    assert set(numbers_in(second)) == GOOD


def test_another_seed_has_other_stand_ins() -> None:
    assert replaced(4, seed=1) != replaced(4)


@pytest.mark.parametrize("policy", [SKIP, LEAVE], ids=["skip", "leave_out"])
@pytest.mark.parametrize("after", [1, 6, 14])
def test_a_resumed_pass_gives_the_rest_to_the_bit(policy: dict[str, Any], after: int) -> None:
    wanted = over(**policy).batches
    with told_of(BadSampleWarning):
        loader = loader_of(Good(LENGTH, BAD), shuffle=True, **policy)
        batches = iter(loader)
        for _ in range(after):
            next(batches)
        position = loader.state_dict()
        other = loader_of(Good(LENGTH, BAD), shuffle=True, num_workers=1, engine="ring", **policy)
        other.load_state_dict(position)
        rest = [plain(batch) for batch in other]
        other.close()

    assert rest == wanted[after:]


def test_a_stand_in_that_is_bad_itself_is_replaced_too() -> None:
    bad = range(0, LENGTH, 2)

    told = go_over(
        Good(LENGTH, bad), num_workers=2, shuffle=True, on_bad_sample="skip", max_bad_fraction=1
    )

    assert (
        told.batches
        == go_over(
            Good(LENGTH, bad), shuffle=True, on_bad_sample="skip", max_bad_fraction=1
        ).batches
    )
    assert set(told.numbers) == set(range(1, LENGTH, 2))


@EVERYWHERE
def test_a_dataset_of_bad_samples_alone_is_an_error_and_no_loop(engine: str) -> None:
    told = go_over(Good(6, range(6)), **ENGINES[engine], on_bad_sample="skip", max_bad_fraction=1)

    assert type(told.error) is SampleError
    assert "could not be made" in told.words


class Whole(Good):
    def __getitems__(self, indices: Any) -> list[Any]:
        return [self[index] for index in indices]


@EVERYWHERE
def test_bad_samples_of_whole_batches_are_found_one_by_one(engine: str) -> None:
    told = go_over(Whole(LENGTH, BAD), **ENGINES[engine], **SKIP)

    assert sorted(told.bad) == sorted(BAD)
    assert set(told.numbers) == GOOD
    assert len(told.numbers) == LENGTH


@EVERYWHERE
def test_a_collate_fn_gets_the_mended_samples(engine: str) -> None:
    sizes: list[int] = [
        batch[0][1][0]
        for batch in go_over(
            Good(10, [5]),
            collate_fn=lambda samples: default_collate(samples),
            on_bad_sample="leave_out",
            **ENGINES[engine],
        ).batches
    ]

    assert sizes == [4, 3, 2]


@EVERYWHERE
def test_an_error_in_collation_is_no_bad_sample(engine: str) -> None:
    def collate(samples: Any) -> Any:
        raise ZeroDivisionError("in collation")

    told = go_over(Good(10), collate_fn=collate, **ENGINES[engine], **SKIP)

    assert type(told.error) is ZeroDivisionError
    assert told.bad == {}


class OddError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Odd(Good):
    def __getitem__(self, index: int) -> Any:
        if index == 5:
            raise OddError(1, 2)
        return super().__getitem__(index)


@EVERYWHERE
def test_an_error_that_cannot_be_sent_is_survived_and_named(engine: str) -> None:
    told = go_over(Odd(20), **ENGINES[engine], **SKIP)

    assert told.error is None
    assert "OddError" in told.bad[5]


@pytest.mark.parametrize("engine", ["inline", "ring of 2"])
def test_raise_gives_the_samples_own_error_with_index_file_and_traceback(
    engine: str,
) -> None:
    told = go_over(Good(LENGTH, BAD), **ENGINES[engine])

    error = told.error
    assert type(error) is OSError
    assert str(error) == "picture 3 is broken"
    assert "This was sample 3 of the Good, /data/3.jpg" in told.words
    assert "in __getitem__" in "".join(traceback.format_exception(error))


def test_raise_names_the_worker() -> None:
    assert ", made by worker " in go_over(Good(LENGTH, BAD), num_workers=2).words


def test_batches_before_a_bad_sample_are_delivered() -> None:
    assert go_over(Good(LENGTH, [21]), num_workers=2).numbers == list(range(20))


def test_a_skipped_sample_is_told_with_file_error_and_count() -> None:
    (words,) = go_over(Good(LENGTH, [3]), num_workers=2, on_bad_sample="skip").warned

    assert words.startswith("BadSampleWarning: sample 3 (/data/3.jpg) ")
    assert "OSError: picture 3 is broken" in words
    assert "1 so far" in words


def test_of_many_bad_samples_only_a_few_are_told() -> None:
    told = go_over(Good(200, range(0, 200, 2)), on_bad_sample="skip", max_bad_fraction=1)

    assert len(told.warned) == 5  # the first three, the tenth and the hundredth


@pytest.mark.parametrize(("fraction", "allowed"), [(0.05, 3), (0.001, 1), (0.0, 0)])
def test_as_many_samples_as_allowed_may_be_bad_and_no_more(fraction: float, allowed: int) -> None:
    how: dict[str, Any] = {"on_bad_sample": "skip", "max_bad_fraction": fraction}

    enough = go_over(Good(LENGTH, range(allowed)), **how)
    more = go_over(Good(LENGTH, range(allowed + 1)), **how)

    assert enough.error is None
    assert type(more.error) is SampleError
    assert f"wanted at most {allowed} (max_bad_fraction={fraction:g})" in more.words


def test_too_many_bad_samples_are_an_error_that_names_the_first_ones() -> None:
    told = go_over(Good(LENGTH, range(8)), num_workers=2, on_bad_sample="skip")

    assert "/data/0.jpg: OSError: picture 0 is broken" in told.words


def test_a_new_pass_after_too_many_does_not_go_on_in_silence() -> None:
    loader = loader_of(Good(LENGTH, range(8)), on_bad_sample="skip")
    for _ in range(2):
        with told_of(BadSampleWarning) if _ == 0 else pytest.raises(SampleError):
            try:
                list(loader)
            except SampleError:
                if _:
                    raise


def test_a_broken_sample_that_is_mended_meanwhile_stays_replaced_in_this_run() -> None:
    """A batch may not depend on when it was made."""
    dataset = Good(LENGTH, [5])
    with told_of(BadSampleWarning):
        loader = loader_of(dataset, on_bad_sample="skip")
        list(loader)
        dataset.bad.clear()
        second = numbers_in([plain(batch) for batch in loader])

    assert 5 not in second


@pytest.mark.parametrize(
    "wrong",
    [
        {"on_bad_sample": "ignore"},
        {"max_bad_fraction": 1.5},
        {"max_bad_fraction": True},
        {"on_bad_sample": "raise", "quarantine": "bad.jsonl"},
        {"sample_timeout_s": 0},
        {"sample_timeout_s": 5, "num_workers": 0},
    ],
    ids=str,
)
def test_arguments_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        loader_of(Good(4), **wrong)


@MORE_WORKERS_THAN_CORES
def test_a_pass_that_is_left_half_way_leaves_no_bad_sample_to_the_next() -> None:
    loader = loader_of(Good(LENGTH, [21]), num_workers=2, engine="ring")
    next(iter(loader))

    with pytest.raises(OSError, match="picture 21 is broken"):
        list(loader)
    loader.close()
