"""A run survives what is done to its processes, and loses nothing. Each campaign, in short."""

import functools
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FLAT_MB = 5.0  # of a short soak, in which memory may still settle


@functools.cache
def found_by(name: str) -> dict[str, Any]:
    row = run.run(name)
    print(f"seed {run.SEED}: {row}")
    assert row["failed"] is None, row["stderr"]
    return row


def assert_nothing_was_lost(row: dict[str, Any]) -> None:
    """The same batches to the bit as without workers, in every pass."""
    assert row["errors"] == []
    assert (row["lost"], row["duplicated"], row["changed_batches"]) == (0, 0, 0)


def test_killed_workers_lose_nothing():
    row = found_by("kills")

    assert row["kills"] >= 100
    assert_nothing_was_lost(row)


def test_killed_nurseries_lose_nothing():
    row = found_by("nursery_kills")

    assert row["kills"] >= 10
    assert_nothing_was_lost(row)


def test_every_hang_is_named_by_its_index_and_loses_nothing_else():
    """How soon is in what is printed; a time on shared cores is no test."""
    row = found_by("hangs")

    assert row["unnamed"] == []
    assert row["named"] >= 30
    assert_nothing_was_lost(row)


def test_nothing_is_left_of_a_killed_training_process():
    row = found_by("parent_kills")

    assert row["left_after_5_s"] == []


@pytest.mark.parametrize("by", ["numpy", "torch"])
def test_workers_whose_memory_runs_out_are_replaced_and_named(by):
    row = found_by("rlimit")["by"][by]

    assert row["named"] > 0
    assert_nothing_was_lost(row)


def test_a_worker_that_the_kernel_kills_for_memory_is_replaced_and_the_cause_named():
    row = found_by("cgroup")
    if row["skipped"]:
        pytest.skip(row["skipped"])

    assert row["once"]["oom_kill"] == 1
    assert any(
        "Memory had run out: the kernel killed 1" in text for text in row["once"]["warnings"]
    )
    assert_nothing_was_lost(row["once"])


def test_a_sample_that_the_kernel_kills_its_workers_for_is_skipped_with_the_cause():
    row = found_by("cgroup")
    if row["skipped"]:
        pytest.skip(row["skipped"])

    bad = [text for text in row["always"]["warnings"] if text.startswith("BadSampleWarning")]
    assert len(bad) == 1
    assert "sample 77" in bad[0]
    assert "Memory had run out" in bad[0]
    assert row["always"]["errors"] == []
    assert (row["always"]["lost"], row["always"]["duplicated"]) == (1, 1)


def test_everything_together_for_two_minutes_loses_nothing_and_stays_flat():
    row = found_by("soak")

    assert row["kills"] > 0
    assert row["hanging_samples"] > 0
    assert row["bad_files"] > 0
    assert row["resizes"] > 0
    assert row["good_samples_called_bad"] == []
    assert_nothing_was_lost(row)
    for megabytes in row["mb_over_time"].values():
        assert megabytes[-1] - megabytes[0] < FLAT_MB
    assert row["parent_fds"]["last"] <= row["parent_fds"]["first"] + 2
    assert row["parent_threads"]["max"] == row["parent_threads"]["min"]
