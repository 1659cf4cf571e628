"""The quarantine file names every bad sample and every pair, and the next run believes it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bad_sets import BAD, LENGTH, bad_records, listed_over, pairs_in
from fault_passes import told_of
from fault_sets import ALWAYS, Good, Harmful, SharedCount, leave
from sample_sets import loader_of
from torch.utils.data import Subset

from lightning_fastdata.errors import BadSampleWarning
from lightning_fastdata.loader import mend


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lists" / "bad.jsonl"


def test_each_bad_sample_is_listed_with_path_error_time_and_rank(file: Path) -> None:
    listed_over(file, num_workers=2)

    assert sorted(record["index"] for record in bad_records(file)) == sorted(BAD)
    first = next(record for record in bad_records(file) if record["index"] == 3)
    assert first["path"] == "/data/3.jpg"
    assert first["error"] == "OSError: picture 3 is broken"
    assert first["time"].startswith("20")
    assert first["rank"] == 0


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_index_comes_exactly_once_but_for_the_pairs_in_the_file(
    num_workers: int, file: Path
) -> None:
    told = listed_over(file, num_workers=num_workers, shuffle=True)
    pairs = pairs_in(file)

    came = Counter(told.numbers)
    came.subtract(record["repeated"] for record in pairs)
    came.update(record["skipped"] for record in pairs)
    assert came == Counter(range(LENGTH))
    assert all(record["epoch"] == 0 for record in pairs)


def test_samples_that_are_left_out_are_listed_and_nothing_is_repeated(file: Path) -> None:
    told = listed_over(file, on_bad_sample="leave_out")

    assert sorted(record["index"] for record in bad_records(file)) == sorted(BAD)
    assert sorted(told.numbers) == sorted(set(range(LENGTH)) - set(BAD))
    assert [path.name for path in file.parent.iterdir()] == ["bad.jsonl"]


def test_pairs_of_batches_that_nobody_got_are_not_listed(file: Path) -> None:
    with told_of(BadSampleWarning):
        loader = loader_of(
            Good(LENGTH, [7, 50]), num_workers=2, engine="ring", on_bad_sample="skip",
            max_bad_fraction=0.2, quarantine=file,
        )  # fmt: skip
        batches = iter(loader)
        for _ in range(3):
            next(batches)
        batches.close()  # type: ignore[attr-defined]  # a generator
        loader.close()

    assert [record["skipped"] for record in pairs_in(file)] == [7]


class Counted(Good):
    def __init__(self, length: int, bad: Any) -> None:
        super().__init__(length, bad)
        self.tries = SharedCount()

    def __getitem__(self, index: int) -> Any:
        if index in self.bad:
            self.tries.add()
        return super().__getitem__(index)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_next_run_tries_no_listed_sample_again(num_workers: int, file: Path) -> None:
    first = listed_over(file, Counted(LENGTH, BAD), num_workers=num_workers)
    dataset = Counted(LENGTH, BAD)

    second = listed_over(file, dataset, num_workers=num_workers)

    assert int(dataset.tries) == 0
    assert second.batches == first.batches
    assert second.bad == first.bad


def test_the_next_run_says_once_how_many_are_listed_and_where(file: Path) -> None:
    listed_over(file)

    (words,) = listed_over(file, passes=2).warned

    assert words.startswith("BadSampleWarning: ")
    assert str(file) in words
    assert " 5 " in words


def test_a_sample_that_ends_workers_is_listed_too(file: Path) -> None:
    dataset = Harmful(leave, times=ALWAYS, length=LENGTH)

    listed_over(file, dataset, num_workers=2)
    again = Harmful(leave, times=ALWAYS, length=LENGTH)
    told = listed_over(file, again, num_workers=2)

    assert "ended with status 7" in bad_records(file)[0]["error"]
    assert int(again.tries) == 0
    assert told.error is None


def test_a_deleted_line_has_its_sample_tried_again(file: Path) -> None:
    listed_over(file)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if '"index": 21,' not in line))

    told = listed_over(file, Good(LENGTH))

    assert sorted(told.bad) == sorted(set(BAD) - {21})
    assert 21 in told.numbers


def test_a_file_that_is_deleted_during_a_run_is_begun_anew(file: Path) -> None:
    def during(number: int) -> None:
        if number == 1:
            file.unlink()

    told = listed_over(file, during=during)

    assert told.error is None
    assert sorted(told.bad) == sorted(BAD)
    assert sorted(record["index"] for record in bad_records(file)) == sorted(set(BAD) - {3})


@pytest.mark.parametrize("torn", [b'{"index": 4, "pa', b"\xff\xfe\x00half", b"{}\n[1]\nnull\n7\n"])
def test_torn_and_strange_lines_are_left_alone_and_new_ones_stay_whole(
    torn: bytes, file: Path
) -> None:
    file.parent.mkdir()
    file.write_bytes(torn)

    told = listed_over(file)

    written = file.read_bytes()
    assert told.error is None
    assert written.startswith(torn)
    lines = written[len(torn) :].decode().splitlines()
    assert sorted(json.loads(line)["index"] for line in lines if '"index"' in line) == sorted(BAD)


def test_a_record_of_another_dataset_is_not_believed(file: Path) -> None:
    listed_over(file, Good(LENGTH + 1, [5]))
    listed_over(file, Harmful(leave, times=0, length=LENGTH))

    told = listed_over(file, Good(LENGTH))

    assert told.bad == {}
    assert all("left alone" in words for words in told.warned)


@pytest.mark.parametrize(
    "index", [True, None, 1.5, [1], {"a": 1}], ids=lambda value: type(value).__name__
)
def test_a_record_with_an_index_that_is_none_is_not_believed(index: Any, file: Path) -> None:
    file.parent.mkdir()
    record = {"index": index, "dataset": "Good", "length": LENGTH}
    file.write_text(json.dumps(record) + "\n")

    assert sorted(listed_over(file).bad) == sorted(BAD)


def test_views_of_one_dataset_share_what_is_known_of_it(file: Path) -> None:
    listed_over(file, Subset(Good(LENGTH, BAD), range(30)))

    told = listed_over(file, Subset(Good(LENGTH, BAD), range(10, 60)))

    assert sorted(told.bad) == sorted(BAD)
    assert len(bad_records(file)) == len(BAD)


def as_rank(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mend, "current_ranks", lambda: (2, rank))


def test_each_rank_writes_a_file_of_its_own_and_reads_all(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_rank(0, monkeypatch)
    listed_over(file, Good(LENGTH, [3]))
    as_rank(1, monkeypatch)
    listed_over(file, Good(LENGTH, [21]))
    as_rank(0, monkeypatch)

    told = listed_over(file, Good(LENGTH))

    assert [record["index"] for record in bad_records(file)] == [3]
    (other,) = bad_records(file.with_name("bad.rank1.jsonl"))
    assert (other["index"], other["rank"]) == (21, 1)
    assert sorted(told.bad) == [3, 21]


@pytest.mark.parametrize("name", ["bad[1].jsonl", "bad*.jsonl", "bad", "a.b.jsonl"])
def test_any_name_of_a_file_serves_several_ranks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_rank(1, monkeypatch)
    listed_over(tmp_path / name, Good(LENGTH, [21]))
    as_rank(0, monkeypatch)

    assert list(listed_over(tmp_path / name, Good(LENGTH)).bad) == [21]


def test_building_a_loader_makes_no_file_and_a_good_run_neither(file: Path) -> None:
    listed_over(file, Good(LENGTH))

    assert not file.exists()


def test_long_errors_are_cut_to_a_line(file: Path) -> None:
    class Long(Good):
        def __getitem__(self, index: int) -> Any:
            if index == 3:
                raise OSError("line\n" * 1000)
            return super().__getitem__(index)

    listed_over(file, Long(LENGTH))

    (record,) = bad_records(file)
    assert "\n" not in record["error"]
    assert len(record["error"]) < 400


def test_names_that_are_no_unicode_are_listed(file: Path) -> None:
    class Named(Good):
        def sample_path(self, index: int) -> str:
            return f"/data/\udcff{index}.jpg"

    told = listed_over(file, Named(LENGTH, [3]))

    assert told.error is None
    assert bad_records(file)[0]["path"] == "/data/\udcff3.jpg"
