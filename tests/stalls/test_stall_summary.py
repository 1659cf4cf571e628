"""From a trace to its summary: sums stay sums, and what is not known stays unknown."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.stalls import (
    SCHEMA_VERSION,
    StallSummary,
    StallThresholds,
    stall_level,
    summarise,
)
from lightning_fastdata.trace import WARMUP_STEPS, Part, StallTrace, StepTimes

parts = st.tuples(*[st.integers(0, 9)] * len(Part))
step_times = st.builds(
    StepTimes, parts_ns=parts, host_wait_ns=st.integers(0, 9), samples=st.integers(1, 4)
)


def a_trace(*steps: StepTimes, clock: str = "host", device_type: str = "cpu") -> StallTrace:
    trace = StallTrace(clock="cuda" if clock == "cuda" else "host", device_type=device_type)
    for step in steps:
        trace.steps_seen += 1
        trace.add(step)
    return trace


def a_step(
    wait_ns: int = 0,
    compute_ns: int = 0,
    *,
    host_wait_ns: int | None = None,
    samples: int | None = 4,
) -> StepTimes:
    host_wait_ns = wait_ns if host_wait_ns is None else host_wait_ns
    return StepTimes(
        parts_ns=(wait_ns, 0, compute_ns, 0, 0, 0, 0), host_wait_ns=host_wait_ns, samples=samples
    )


@given(steps=st.lists(step_times, max_size=2 * WARMUP_STEPS + 5))
def test_the_parts_add_up_to_the_wall_time_of_the_steady_steps(steps: list[StepTimes]) -> None:
    summary = summarise(a_trace(*steps))

    counted = steps[WARMUP_STEPS:] if len(steps) >= 2 * WARMUP_STEPS else steps
    assert summary.steps == len(counted)
    assert summary.steps_left_out == len(steps) - len(counted)
    assert summary.wall_ns == sum(
        sum(step.parts_ns) - step.parts_ns[Part.VALIDATION] for step in counted
    )
    assert summary.wall_ns == (
        summary.exposed_stall_ns + summary.transfer_ns + summary.compute_ns + summary.other_host_ns
    )
    assert summary.validation_ns == sum(step.parts_ns[Part.VALIDATION] for step in counted)


@given(steps=st.lists(step_times, min_size=1, max_size=2 * WARMUP_STEPS + 5))
def test_hidden_wait_is_what_the_host_waited_beyond_the_stall_of_the_same_step(
    steps: list[StepTimes],
) -> None:
    summary = summarise(a_trace(*steps, clock="cuda", device_type="cuda"))

    counted = steps[WARMUP_STEPS:] if len(steps) >= 2 * WARMUP_STEPS else steps
    assert summary.hidden_wait_ns == sum(
        max(0, step.host_wait_ns - step.parts_ns[0]) for step in counted
    )


@given(steps=st.lists(step_times, max_size=2 * WARMUP_STEPS + 5))
def test_the_stall_fraction_is_a_fraction(steps: list[StepTimes]) -> None:
    summary = summarise(a_trace(*steps))

    if summary.wall_ns == 0:
        assert summary.stall_fraction is None
    else:
        assert summary.stall_fraction == summary.exposed_stall_ns / summary.wall_ns


def test_a_warmup_of_slow_steps_does_not_count_in_a_long_run() -> None:
    slow = [a_step(compute_ns=1000)] * WARMUP_STEPS

    summary = summarise(a_trace(*slow, *[a_step(3, 7)] * WARMUP_STEPS))

    assert summary.stall_fraction == 0.3


def test_percentiles_are_those_of_the_hosts_waits() -> None:
    waits = [a_step(host_wait_ns=wait_ns) for wait_ns in range(1, 101)]

    summary = summarise(a_trace(*[a_step()] * WARMUP_STEPS, *waits))

    assert (summary.wait_p50_ns, summary.wait_p95_ns, summary.wait_p99_ns) == (50, 95, 99)


def test_samples_a_second_are_those_of_the_steady_wall_time() -> None:
    summary = summarise(a_trace(*[a_step(1, 1, samples=4)] * 3))

    assert summary.samples_per_s == 2e9


def test_one_batch_of_unknown_size_makes_the_rate_unknown() -> None:
    summary = summarise(a_trace(a_step(1, 1), a_step(1, 1, samples=None)))

    assert summary.samples_per_s is None


def test_a_device_that_was_not_watched_has_no_hidden_wait() -> None:
    summary = summarise(a_trace(a_step(1, 1), clock="host", device_type="mps"))

    assert summary.hidden_wait_ns is None


def test_a_run_without_a_step_says_nothing_rather_than_zero() -> None:
    summary = summarise(a_trace())

    unknown = (summary.stall_fraction, summary.wait_p50_ns, summary.samples_per_s)
    assert unknown == (None, None, None)
    assert summary.first_batch_ns is None


def test_json_carries_every_field_and_its_version() -> None:
    summary = summarise(a_trace(a_step(3, 7)))

    read = json.loads(summary.to_json())

    assert read.pop("schema_version") == SCHEMA_VERSION
    assert set(read) == {field.name for field in dataclasses.fields(StallSummary)}
    assert read["exposed_stall_ns"] == 3


def test_html_escapes_what_it_shows() -> None:
    summary = dataclasses.replace(summarise(a_trace(a_step(3, 7))), problem="<script>")

    html = summary._repr_html_()

    assert "<script>" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("stall_fraction", "level"),
    [(0.0, "keeps_up"), (0.05, "waits"), (0.19, "waits"), (0.2, "starves"), (1.0, "starves")],
)
def test_a_level_begins_at_its_threshold(stall_fraction: float, level: str) -> None:
    assert stall_level(stall_fraction) == level


def test_thresholds_can_be_given() -> None:
    assert stall_level(0.3, StallThresholds(waits_fraction=0.4)) == "keeps_up"
