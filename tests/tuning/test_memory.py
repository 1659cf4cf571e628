"""Decisions outlive a run, and no trouble with their files is ever an error."""

import json
import logging
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.tuning.fingerprint import PlanKey
from lightning_fastdata.tuning.memory import PlanMemory
from lightning_fastdata.tuning.remembered import Remembered, as_plain, from_plain

KEY = PlanKey(machine="A CPU, 4 cores", dataset="d1", batch_size=32, transforms="t1")
DECISION = Remembered(
    engine="ring",
    num_workers=3,
    prefetch_batches=6,
    stall_fraction=0.004,
    step_time_s=0.05,
    batch_bytes=1000,
    source="run",
    saved_on="2026-11-23",
)


def key(number: int) -> PlanKey:
    return replace(KEY, dataset=f"d{number}")


def the_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_recalls_what_was_kept(tmp_path: Path) -> None:
    PlanMemory(tmp_path / "plans").keep(KEY, DECISION, "10 samples")

    assert PlanMemory(tmp_path / "plans").recall(KEY) == DECISION


def test_keeps_the_newest(tmp_path: Path) -> None:
    memory, newer = PlanMemory(tmp_path), replace(DECISION, num_workers=4)
    memory.keep(KEY, DECISION, "10 samples")

    memory.keep(KEY, newer, "10 samples")

    assert memory.recall(KEY) == newer
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [{"machine": "B"}, {"dataset": "d2"}, {"batch_size": 33}, {"transforms": "t2"}],
    ids=str,
)
def test_recalls_nothing_for_another_key(change: dict[str, Any], tmp_path: Path) -> None:
    PlanMemory(tmp_path).keep(KEY, DECISION, "10 samples")

    assert PlanMemory(tmp_path).recall(replace(KEY, **change)) is None


def test_a_person_can_read_what_a_file_is_about(tmp_path: Path) -> None:
    PlanMemory(tmp_path).keep(KEY, DECISION, "1,281,167 samples of ImageFolder")

    text = the_file(tmp_path).read_text()

    assert "1,281,167 samples of ImageFolder, batches of 32, on A CPU, 4 cores" in text
    assert "It may be deleted at any time." in text


def test_uses_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    PlanMemory().keep(KEY, DECISION, "10 samples")

    assert len(list((tmp_path / "lightning_fastdata" / "plans").iterdir())) == 1


def broken(text: str) -> Any:
    """Changes to a file that make it useless, by what is wrong with it."""
    values = json.loads(text)
    decision = values["decision"]
    return {
        "is empty": "",
        "ends early": text[: len(text) // 2],
        "is no JSON": "\0\1\2",
        "is no object": "[1, 2]",
        "is deep": "[" * 100_000,
        "is of a newer version": json.dumps(values | {"version": 2}),
        "is another's": json.dumps(values | {"key": values["key"] | {"dataset": "other"}}),
        "has no decision": json.dumps({**values, "decision": None}),
        "has part of one": json.dumps(values | {"decision": {"num_workers": 3}}),
        "has negative workers": json.dumps(values | {"decision": decision | {"num_workers": -1}}),
        "has a text for a number": json.dumps(
            values | {"decision": decision | {"num_workers": "3"}}
        ),
        "has no number": json.dumps(values | {"decision": decision | {"stall_fraction": 1e400}}),
        "has a time without end": json.dumps(
            values | {"decision": decision | {"step_time_s": 1e7}}
        ),
        "has an unknown engine": json.dumps(values | {"decision": decision | {"engine": "x"}}),
        "has workers inline": json.dumps(values | {"decision": decision | {"engine": "inline"}}),
        "has a list for its source": json.dumps(values | {"decision": decision | {"source": []}}),
    }


SOUND = json.dumps(
    {"version": 1, "key": {"dataset": "d1"}, "decision": as_plain(DECISION)}, indent=1
)


@pytest.mark.parametrize("fault", broken(SOUND))
def test_a_file_that_is_of_no_use_is_as_good_as_none(fault: str, tmp_path: Path) -> None:
    memory = PlanMemory(tmp_path)
    memory.keep(KEY, DECISION, "10 samples")
    path = the_file(tmp_path)
    path.write_text(broken(path.read_text())[fault])

    assert memory.recall(KEY) is None

    memory.keep(KEY, DECISION, "10 samples")
    assert memory.recall(KEY) == DECISION


def test_bytes_that_are_no_text_are_as_good_as_none(tmp_path: Path) -> None:
    memory = PlanMemory(tmp_path)
    memory.keep(KEY, DECISION, "10 samples")
    the_file(tmp_path).write_bytes(b"\xff\xfe\xff")

    assert memory.recall(KEY) is None


@pytest.mark.parametrize("place", ["a file", "inside a file"])
def test_a_folder_that_cannot_be_made_is_told_about_once_and_quietly(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    memory = PlanMemory(tmp_path / "file" if place == "a file" else tmp_path / "file" / "plans")

    with caplog.at_level(logging.INFO):
        memory.keep(KEY, DECISION, "10 samples")

    assert memory.recall(KEY) is None
    assert memory.forget() == 0
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_a_user_without_a_home_has_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")

    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    memory = PlanMemory()

    memory.keep(KEY, DECISION, "10 samples")

    assert memory.recall(KEY) is None
    assert memory.forget() == 0


def test_forgets_a_dataset_on_every_machine_or_one_size_of_its_batches(tmp_path: Path) -> None:
    memory = PlanMemory(tmp_path)
    keys = [
        replace(KEY, dataset=dataset, batch_size=size, machine=machine)
        for dataset in ("a", "b")
        for size in (8, 16)
        for machine in ("one rank", "eight ranks")
    ]
    for each in keys:
        memory.keep(each, DECISION, "10 samples")

    assert memory.forget("a", 8) == 2
    assert memory.forget("a", 8) == 0
    assert [each for each in keys if memory.recall(each) is None] == keys[:2]
    assert memory.forget("a") == 2
    assert memory.forget() == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": 3}', '{"key": {"dataset": [1]}}'])
def test_what_cannot_be_read_is_no_datasets_and_goes_with_all(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan-x.json").write_text(content)

    assert PlanMemory(tmp_path).forget("a") == 0
    assert PlanMemory(tmp_path).forget() == 1


def test_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.json").touch()

    PlanMemory(tmp_path).forget()

    assert (tmp_path / "notes.json").exists()


def test_drops_the_oldest_beyond_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_fastdata.tuning.memory._MOST_FILES", 3)
    memory = PlanMemory(tmp_path)
    for number in range(5):
        memory.keep(key(number), DECISION, "10 samples")
        for path in tmp_path.glob(f"*{key(number).name}*"):
            os.utime(path, (1000 + number, 1000 + number))

    memory.keep(key(5), DECISION, "10 samples")

    kept = [number for number in range(6) if memory.recall(key(number)) is not None]
    assert kept == [3, 4, 5]


def test_clears_up_after_a_process_that_died_while_it_wrote(tmp_path: Path) -> None:
    (tmp_path / "unfinished-old.json").touch()
    os.utime(tmp_path / "unfinished-old.json", (1000, 1000))
    (tmp_path / "unfinished-new.json").touch()

    PlanMemory(tmp_path).keep(KEY, DECISION, "10 samples")

    assert not (tmp_path / "unfinished-old.json").exists()
    assert (tmp_path / "unfinished-new.json").exists()


def test_writers_at_the_same_time_never_show_half_a_file(tmp_path: Path) -> None:
    """They share nothing but the folder, as processes do."""

    def write_often(number: int) -> list[Remembered | None]:
        memory = PlanMemory(tmp_path)
        decision = replace(DECISION, num_workers=number, prefetch_batches=number)
        seen = []
        for _ in range(100):
            memory.keep(KEY, decision, "x" * 1000 * number)
            seen.append(memory.recall(KEY))
        return seen

    with ThreadPoolExecutor(4) as pool:
        seen = [each for result in pool.map(write_often, range(1, 5)) for each in result]

    assert all(each is not None and each.num_workers == each.prefetch_batches for each in seen)
    assert len(list(tmp_path.iterdir())) == 1


measures = st.none() | st.floats(0, 1)
decisions = st.builds(
    Remembered,
    engine=st.just("ring"),
    num_workers=st.integers(1, 512),
    prefetch_batches=st.integers(1, 4096),
    stall_fraction=measures,
    step_time_s=measures,
    batch_bytes=st.none() | st.integers(0, 10**12),
    source=st.sampled_from(["run", "tune", "checkpoint", "loader"]),
    saved_on=st.dates().map(str),
)


@given(decision=decisions)
def test_plain_values_are_the_decision_again(decision: Remembered) -> None:
    plain = json.loads(json.dumps(as_plain(decision)))

    assert from_plain(plain) == decision


@given(
    values=st.dictionaries(
        st.sampled_from([*as_plain(DECISION), "other"]),
        st.none() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
    )
)
def test_any_other_values_are_none(values: dict[str, Any]) -> None:
    for changed in (values, as_plain(DECISION) | values):
        read = from_plain(changed)
        assert read is None or as_plain(read) == {name: changed[name] for name in as_plain(read)}


@pytest.mark.parametrize("name", ["num_workers", "prefetch_batches", "step_time_s", "batch_bytes"])
@pytest.mark.parametrize(
    "value",
    [10**400, math.inf, math.nan, -1, True],
    ids=["huge", "infinite", "no number", "negative", "a truth"],
)
def test_numbers_that_nothing_can_be_are_none(name: str, value: float) -> None:
    assert from_plain(as_plain(DECISION) | {name: value}) is None
