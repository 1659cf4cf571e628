"""A quarantine file that lists too many samples, or that cannot be written, is an error in time."""

import json
from pathlib import Path
from typing import Any

import pytest
from bad_sets import BAD, LENGTH, bad_records, listed_over
from fault_passes import a_file_below_a_file
from fault_sets import Good, Harmful, leave
from sample_sets import loader_of

from lightning_fastdata.errors import SampleError, SettingsError
from lightning_fastdata.loader.quarantine import BadSample, Quarantine


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lists" / "bad.jsonl"


TOO_MANY: dict[str, Any] = {"max_bad_fraction": 0.05}


def test_too_many_bad_samples_set_this_runs_list_aside(file: Path) -> None:
    told = listed_over(file, num_workers=2, **TOO_MANY)

    aside = file.with_name("bad.refused.jsonl")
    assert type(told.error) is SampleError
    assert str(aside) in told.words
    assert bad_records(file) == []
    assert len(bad_records(aside)) in (4, 5)  # a batch under way may find the last one


def test_after_too_many_the_next_run_tries_all_again(file: Path) -> None:
    listed_over(file, **TOO_MANY)

    told = listed_over(file, Good(LENGTH), **TOO_MANY)

    assert told.warned == []
    assert told.numbers == list(range(LENGTH))


def test_too_many_leave_what_earlier_runs_and_other_datasets_have_listed(file: Path) -> None:
    listed_over(file, Good(LENGTH, [3]))
    listed_over(file, Harmful(leave, times=0, length=LENGTH))
    strange = {"index": 21, "dataset": "Other", "length": LENGTH, "path": None}
    with open(file, "ab") as more:
        more.write(json.dumps(strange).encode() + b"\n\xff half\n")

    told = listed_over(file, **TOO_MANY)

    assert type(told.error) is SampleError
    *kept, half = file.read_text(errors="replace").splitlines()
    named = [json.loads(line) for line in kept]
    assert [(each["dataset"], each["index"]) for each in named] == [("Good", 3), ("Other", 21)]
    assert half.endswith("half")


def test_too_many_are_an_error_also_when_the_file_is_gone(file: Path) -> None:
    def during(number: int) -> None:
        file.unlink(missing_ok=True)

    told = listed_over(file, Good(LENGTH, [0, 5, 9, 14]), during=during, **TOO_MANY)

    assert type(told.error) is SampleError


def test_a_list_of_too_many_is_refused_by_a_run_that_allows_fewer(file: Path) -> None:
    listed_over(file)

    told = listed_over(file, **TOO_MANY)

    assert type(told.error) is SampleError
    assert told.batches == []
    assert len(bad_records(file)) == len(BAD)


def test_a_file_that_cannot_be_written_is_refused_before_any_sample(tmp_path: Path) -> None:
    dataset = Good(LENGTH, BAD)

    with pytest.raises(SettingsError, match="Pass another path"):
        list(loader_of(dataset, on_bad_sample="skip", quarantine=a_file_below_a_file(tmp_path)))


def test_a_folder_that_allows_no_new_file_is_refused_before_any_sample() -> None:
    """As root, tests have no folder but the kernel's own that refuses them."""
    with pytest.raises(SettingsError, match="quarantine="):
        list(loader_of(Good(LENGTH), on_bad_sample="skip", quarantine="/proc/bad.jsonl"))


def test_a_folder_is_refused_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is a folder, wanted a file"):
        loader_of(Good(LENGTH), on_bad_sample="skip", quarantine=tmp_path)


def test_what_is_found_after_the_list_was_set_aside_joins_it(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "bad.jsonl", "Good", 100, 0)

    for index in (1, 2):
        quarantine.add(BadSample.of(index, None, OSError("broken"), 0))
        aside = quarantine.disown()

    assert aside is not None
    assert [record["index"] for record in bad_records(aside)] == [1, 2]
    assert bad_records(tmp_path / "bad.jsonl") == []
