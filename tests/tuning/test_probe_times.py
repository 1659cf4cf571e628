"""What is measured are the dataset's own times: slow samples, cold files, and no wait for cores."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.tuning.calls import Call, Noted, over_ns, without_wait
from lightning_fastdata.tuning.probe import MAX_SAMPLES, ProbeFacts, probe_batches


class Stage:
    """A dataset whose samples take the time that a table says, on a clock of its own."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, time_ns_of: Callable[[int], int], again: float = 1.0
    ) -> None:
        self._time_ns_of, self._again = time_ns_of, again
        self._now_ns = 0
        self._seen: set[int] = set()
        self._noted = Noted()
        self.row_over_ns = 0
        monkeypatch.setattr("lightning_fastdata.tuning.probe.time", self)

    def perf_counter_ns(self) -> int:
        return self._now_ns

    def process_time_ns(self) -> int:
        return self._now_ns // 4

    def make(self, indices: Sequence[int]) -> torch.Tensor:
        times_ns = []
        for index in indices:
            factor = self._again if index in self._seen else 1.0
            times_ns.append(round(self._time_ns_of(index) * factor))
            self._seen.add(index)
        self._now_ns += sum(times_ns) + 1000 + self.row_over_ns * len(times_ns)
        self._noted = Noted(sample_ns=tuple(times_ns), read_bytes=0)
        return torch.zeros(len(indices))

    def noted(self) -> Noted:
        return self._noted

    def facts(self, length: int, batch_size: int) -> ProbeFacts:
        facts = probe_batches(
            self.make, length=length, batch_size=batch_size, reads_whole=False, noted=self.noted
        )
        assert facts is not None
        return facts


def test_slow_samples_stay_what_they_were_though_they_are_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(monkeypatch, lambda index: 5_000_000 if index % 50 == 7 else 100_000)

    facts = stage.facts(length=10_000, batch_size=32)

    assert len(facts.sample_ns) >= MAX_SAMPLES - 1
    assert set(facts.sample_ns) == {100_000, 5_000_000}
    assert facts.whole_ns == 1000
    mean_ns = sum(facts.sample_ns) / len(facts.sample_ns)
    assert facts.batch_wall_ns == pytest.approx(32 * mean_ns + 1000, abs=1)


@pytest.mark.parametrize("sample_ns", [100_000, 20_000_000], ids=["whole batches", "too slow"])
def test_putting_samples_together_is_counted_though_batches_are_too_slow_to_be_made(
    monkeypatch: pytest.MonkeyPatch, sample_ns: int
) -> None:
    stage = Stage(monkeypatch, lambda _: sample_ns)
    stage.row_over_ns = sample_ns // 2

    facts = stage.facts(length=10_000, batch_size=64)

    assert facts.whole_ns == 64 * sample_ns // 2 + 1000
    assert facts.batch_wall_ns == 64 * sample_ns + facts.whole_ns
    assert set(facts.sample_ns) == {sample_ns}


def test_a_short_sample_that_is_slow_only_once_was_held_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []

    def time_ns_of(index: int) -> int:
        made.append(index)
        return 2_000_000 if len(made) == 12 or index % 60 == 7 else 100_000

    facts = Stage(monkeypatch, time_ns_of).facts(length=10_000, batch_size=32)

    own = sum(index % 60 == 7 for index in dict.fromkeys(made[1:]))
    assert made[11] % 60 != 7
    assert sum(ns == 2_000_000 for ns in facts.sample_ns) == own > 0


def test_a_slow_sample_that_is_slow_again_keeps_its_first_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(monkeypatch, lambda index: 2_000_000 if index % 9 == 7 else 100_000, again=0.8)

    facts = stage.facts(length=10_000, batch_size=32)

    assert set(facts.sample_ns) == {100_000, 2_000_000}


def test_a_batch_costs_what_it_takes_without_waiting_for_a_core() -> None:
    def make(indices: Sequence[int]) -> torch.Tensor:
        return torch.zeros(len(indices))

    facts = probe_batches(
        make,
        length=100,
        batch_size=8,
        reads_whole=True,
        noted=lambda: Noted(core_wait_ns=10**12),
    )

    assert facts is not None
    assert facts.batch_wall_ns <= 8


def test_what_a_call_takes_beyond_its_samples_leaves_out_those_that_cannot_be_made() -> None:
    call = Call(
        rows=4,
        indices=(1, 2),
        wall_ns=100.0,
        cpu_ns=0.0,
        size_bytes=0.0,
        noted=Noted(sample_ns=(10, 20)),
    )

    assert over_ns(call) == 40


@pytest.mark.parametrize(("again", "is_cold"), [(1.0, False), (0.8, False), (0.3, True)])
def test_files_that_are_read_faster_the_second_time_were_cold(
    monkeypatch: pytest.MonkeyPatch, again: float, is_cold: bool
) -> None:
    facts = Stage(monkeypatch, lambda _: 1_000_000, again).facts(length=10_000, batch_size=8)

    assert facts.is_cold is is_cold
    assert facts.warm_batch_wall_ns == pytest.approx(again * facts.batch_wall_ns, rel=0.01)


def test_what_is_read_from_storage_is_cold_at_a_smaller_difference() -> None:
    facts = ProbeFacts(
        samples=9, batch_wall_ns=150, batch_cpu_ns=50, batch_bytes=1, warm_batch_wall_ns=100
    )

    assert not facts.is_cold
    assert replace(facts, read_bytes=512).is_cold
    assert not replace(facts, read_bytes=512, warm_batch_wall_ns=None).is_cold


def test_time_that_does_not_compute_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = Stage(monkeypatch, lambda _: 10_000_000).facts(length=100, batch_size=32)

    assert facts.blocked_fraction == pytest.approx(0.75, abs=0.01)


@given(factor=st.floats(0.1, 10), cost_ns=st.integers(100, 10**9))
def test_facts_of_a_larger_batch_cost_as_much_more_and_samples_as_much_as_before(
    factor: float, cost_ns: int
) -> None:
    facts = ProbeFacts(
        samples=9,
        batch_wall_ns=cost_ns,
        batch_cpu_ns=cost_ns,
        batch_bytes=cost_ns,
        sample_ns=(1, 2),
        whole_ns=cost_ns,
        read_bytes=cost_ns,
        warm_batch_wall_ns=cost_ns,
    )

    scaled = facts.scaled(factor)

    assert scaled.sample_ns == (1, 2)
    assert {
        scaled.batch_wall_ns,
        scaled.batch_cpu_ns,
        scaled.batch_bytes,
        scaled.whole_ns,
        scaled.read_bytes,
        scaled.warm_batch_wall_ns,
    } == {round(cost_ns * factor)}


@given(
    sample_ns=st.lists(st.integers(0, 20), max_size=8),
    core_wait_ns=st.integers(0, 60),
)
def test_waiting_for_a_core_is_no_samples_cost(sample_ns: list[int], core_wait_ns: int) -> None:
    left = without_wait(sample_ns, core_wait_ns)

    taken = sum(sample_ns) - sum(left)
    assert 0 <= taken <= core_wait_ns
    assert all(0 <= after <= before for before, after in zip(sample_ns, left, strict=True))
    if len(sample_ns) > 1:
        usual = round(statistics.median(sample_ns))
        assert all(
            after == before or after >= usual for before, after in zip(sample_ns, left, strict=True)
        )
        assert taken == min(core_wait_ns, sum(max(0, each - usual) for each in sample_ns))
