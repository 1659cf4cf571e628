"""Bad samples that are left out make batches smaller, or leave none, and nothing else."""

from bad_sets import BAD, ENGINES, EVERYWHERE, GOOD, LEAVE, LENGTH
from fault_passes import go_over, numbers_in
from fault_sets import Good


@EVERYWHERE
def test_a_whole_batch_may_be_left_out(engine: str) -> None:
    told = go_over(Good(16, [4, 5, 6, 7]), **ENGINES[engine], **LEAVE | {"max_bad_fraction": 1})

    assert [len(part) for part in map(numbers_in, ([one] for one in told.batches))] == [4, 4, 4]
    assert told.numbers == [0, 1, 2, 3, *range(8, 16)]


@EVERYWHERE
def test_the_last_and_the_first_batch_may_be_left_out(engine: str) -> None:
    told = go_over(
        Good(10, [0, 1, 2, 3, 8, 9]), **ENGINES[engine], **LEAVE | {"max_bad_fraction": 1}
    )

    assert told.numbers == [4, 5, 6, 7]
    assert told.error is None


@EVERYWHERE
def test_all_samples_may_be_left_out(engine: str) -> None:
    told = go_over(Good(6, range(6)), **ENGINES[engine], **LEAVE | {"max_bad_fraction": 1})

    assert told.batches == []
    assert told.error is None


@EVERYWHERE
def test_single_samples_may_be_left_out(engine: str) -> None:
    told = go_over(Good(LENGTH, BAD), None, **ENGINES[engine], **LEAVE)

    assert told.numbers == sorted(GOOD)
