"""What the doctor finds out about the samples of a dataset."""

import os
import signal
import threading
import warnings
from typing import Any

import pytest
import torch
from check_sets import (
    Counting,
    Letters,
    OfNeighbour,
    OwnGenerator,
    Plain,
    Ragged,
    Raising,
    WithNone,
    check_of,
    looked_at,
)
from torch.utils.data import DataLoader, Subset

from lightning_fastdata.checkup.again import how_many
from lightning_fastdata.checkup.result import SlowSample
from lightning_fastdata.checkup.sample import SampleRecord, describe, digest
from lightning_fastdata.checkup.subjects import subjects_of
from lightning_fastdata.checkup.tally import Tally
from lightning_fastdata.checkup.walk import choose_samples


def record(sample: int, wall_ns: int, *, is_first: bool = False) -> SampleRecord:
    return SampleRecord(sample, wall_ns, wall_ns // 2, is_first, 8, "int", None, None, None)


def test_a_sound_dataset_is_healthy() -> None:
    report = looked_at(Plain())

    of_data = [check for check in report.checks if check.dataset is not None]
    assert {check.level for check in of_data} == {"ok"}
    assert report.bad_samples == report.outliers == ()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_bad_sample_is_named_with_its_file_and_one_line(num_workers: int) -> None:
    report = looked_at(Raising(), num_workers=num_workers)

    found = [(one.index, one.path, one.error) for one in report.bad_samples]
    assert found == [
        (index, f"/data/{index}.bin", f"OSError: file {index} is broken") for index in (3, 17)
    ]
    assert not report.is_healthy


def test_samples_that_hang_or_end_their_worker_are_named_by_their_index() -> None:
    class Faulty(Plain):
        def __getitem__(self, index: int) -> Any:
            if index == 11:
                os.kill(os.getpid(), signal.SIGKILL)
            if index == 29:
                threading.Event().wait()
            return index

    report = looked_at(Faulty(60), num_workers=2, max_samples=59, timeout_s=0.5)

    found = {one.index: (one.path, one.error) for one in report.bad_samples}
    assert found.keys() == {11, 29}
    assert found[11][0] == "/data/11.bin"
    assert "was killed by SIGKILL while it made sample 11" in found[11][1]
    assert "sample 29 was not made within" in found[29][1]
    assert report.facts["datasets"][0]["samples_looked_at"] == 59


def test_a_sample_that_raises_stop_iteration_is_bad_and_not_the_end() -> None:
    class Stopping(Plain):
        def __getitem__(self, index: int) -> Any:
            return next(iter([] if index == 4 else [index]))

    report = looked_at(Stopping())

    assert [(one.index, one.error) for one in report.bad_samples] == [(4, "StopIteration")]
    assert report.facts["datasets"][0]["samples_looked_at"] == 40


def test_a_subset_names_the_files_of_its_whole() -> None:
    report = looked_at(Subset(Raising(), [20, 17]))

    assert [(one.index, one.path) for one in report.bad_samples] == [(1, "/data/17.bin")]


def test_samples_unlike_most_are_named() -> None:
    report = looked_at(Ragged())

    found = [(one.index, one.found, one.usual) for one in report.outliers]
    assert found == [(5, "tensor 4 int8", "tensor 3 int8"), (6, "tensor 3 int16", "tensor 3 int8")]
    assert check_of(report, "batches").level == "error"


def test_unequal_samples_are_a_note_where_the_user_collates() -> None:
    report = looked_at(DataLoader(Ragged(), collate_fn=list))

    assert check_of(report, "batches").level == "note"
    assert report.is_healthy


def test_a_sample_that_cannot_be_collated_is_an_error() -> None:
    batches = check_of(looked_at(WithNone()), "batches")

    assert batches.level == "error"
    assert batches.found.startswith("sample 9 is NoneType, which torch's default collation refuses")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_draws_of_a_generator_of_its_own_are_named(num_workers: int) -> None:
    repeats = check_of(looked_at(OwnGenerator(), num_workers=num_workers), "repeats")

    assert repeats.level == "warning"
    assert "dataset.generator, which nobody seeds" in repeats.found


def test_a_sample_that_differs_at_once_is_told_from_one_that_depends_on_others() -> None:
    counting = check_of(looked_at(Counting()), "repeats")
    neighbour = check_of(looked_at(OfNeighbour()), "repeats")

    assert "made twice in a row from the same seeds, they differ" in counting.found
    assert "they depend on what was made before or on the process" in neighbour.found


def test_samples_of_the_process_that_makes_them_are_found_to_differ() -> None:
    class OfProcess(Plain):
        def __getitem__(self, index: int) -> Any:
            return os.getpid()

    assert check_of(looked_at(OfProcess(), num_workers=2), "repeats").level == "warning"


def test_a_sample_that_warns_is_named_and_the_warning_goes_no_further() -> None:
    class Warning(Plain):
        def __getitem__(self, index: int) -> Any:
            if index == 4:
                warnings.warn("odd header", stacklevel=1)
            return index

    warned = check_of(looked_at(Warning()), "warnings")

    assert warned.found == "1 sample with a warning, the first is 4: UserWarning: odd header"


def test_a_stream_without_end_is_looked_at_as_far_as_asked() -> None:
    report = looked_at(Letters(), max_samples=30)

    assert report.facts["datasets"][0]["samples_looked_at"] == 30
    assert report.is_healthy


def test_a_stream_that_breaks_is_bad_there() -> None:
    report = looked_at(Letters(fails_at=2), num_workers=1)

    assert [(one.index, one.error) for one in report.bad_samples] == [
        (2, "ValueError: nothing at 2")
    ]


def test_the_callers_generators_are_left_alone() -> None:
    before = torch.get_rng_state()

    looked_at(Plain())

    assert torch.equal(torch.get_rng_state(), before)


def test_chosen_samples_come_from_all_over_and_none_twice() -> None:
    chosen = choose_samples(1000, 100)

    assert chosen is not None
    assert len(set(chosen.tolist())) == 100
    assert chosen.tolist() == sorted(chosen.tolist())
    assert chosen[0] < 100
    assert chosen[-1] > 900


def test_all_samples_are_taken_where_fewer_are_there_than_asked_for() -> None:
    assert choose_samples(10, 10) is None
    assert choose_samples(10, None) is None


def test_the_slowest_one_in_a_hundred_leaves_out_a_workers_first() -> None:
    tally = Tally()
    tally.add(record(0, 10**9, is_first=True))
    for sample in range(1, 201):
        tally.add(record(sample, sample))

    slowest = tally.slowest(subjects_of(Plain(), 1)[0])

    assert slowest == [
        SlowSample(dataset="Plain", index=i, path=f"/data/{i}.bin", wall_ns=i, cpu_ns=i // 2)
        for i in (200, 199)
    ]


@pytest.mark.parametrize(
    ("sample_ns", "max_samples", "count"),
    [(None, None, 256), (1, 10, 10), (10**9, None, 8), (50 * 10**6, None, 133)],
)
def test_slow_samples_are_made_again_in_smaller_numbers(
    sample_ns: int | None, max_samples: int | None, count: int
) -> None:
    assert how_many(sample_ns, max_samples) == count


def test_a_digest_tells_values_types_and_shapes_apart() -> None:
    samples = [
        torch.zeros(2),
        torch.zeros(2, dtype=torch.bfloat16),
        torch.zeros(1, 2),
        torch.zeros(2).numpy(),
        [0.0, 0.0],
        (0.0, -0.0),
        (0.0, 0.0),
        [[0.0], 0.0],
        {"a": 0},
        {"a": False},
        "a",
        b"a",
        None,
        {1, 2},
        torch.tensor(0.0),
    ]

    assert len({digest(sample) for sample in samples}) == len(samples)
    assert digest({"a": torch.arange(4)[::2]}) == digest({"a": torch.tensor([0, 2])})


def test_a_description_is_short() -> None:
    sample = {"x": torch.zeros(3, 4), "y": [1] * 9, "z": (1, "a")}

    assert describe(sample) == "{'x': tensor 3 x 4 float32, 'y': (9 times int), 'z': (int, str)}"
