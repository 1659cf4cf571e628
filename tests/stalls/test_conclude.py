"""From any record to a summary: nothing odd ends a run, and shares stay shares."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_records import MS, Run, machine_with, recorded, setup_of

from lightning_fastdata.stalls import Finding, FindingThresholds, StallSummary, conclude
from lightning_fastdata.trace import (
    BatchTimes,
    ChunkTimes,
    EpochTotals,
    Line,
    LoaderRecord,
    MachineFacts,
    Part,
    RankWindow,
    RunRecord,
    StallTrace,
    StepTimes,
    WorkTrace,
)

OF_THE_LOADER = {"too_few_workers", "cpu_saturated", "storage", "slow_samples", "ipc"}
SETTINGS = [
    "val_check_interval",
    "check_val_every_n_epoch",
    "log_every_n_steps",
    "reload_dataloaders_every_n_epochs",
]


class Odd:
    """Records of everything that may be missing or strange, each from its seed.

    Drawn here rather than by Hypothesis, which takes seconds for a record of so many fields.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def small(self) -> int:
        return self.random.choice([0, 0, 1, 2, 5, 20])

    def maybe(self, value: int) -> int | None:
        return self.random.choice([None, value])

    def count(self, most: int) -> range:
        return range(self.random.randint(0, most))

    def chunk(self) -> ChunkTimes:
        began_ns = self.small()
        return ChunkTimes(
            worker=self.maybe(self.small()),
            samples=self.random.randint(0, 4),
            began_ns=began_ns,
            ended_ns=began_ns + self.small(),
            cpu_ns=self.small(),
            page_faults=self.small(),
            read_bytes=self.random.choice([0, 10**6]),
            first_row=self.small(),
            major_faults=self.small(),
            cached_bytes=self.maybe(self.small()),
            core_wait_ns=self.maybe(self.small()),
            collate_ns=self.small(),
            transform_ns=self.small(),
            stages_ns=tuple(
                (self.random.choice(["read", "samples"]), self.small()) for _ in self.count(3)
            ),
            slowest=tuple(
                (self.small(), self.random.choice([3, "key", (1, 2)]), self.small())
                for _ in self.count(3)
            ),
            lines=tuple((Line("nowhere.py", 3, "read"), self.small()) for _ in self.count(2)),
            looks=self.small(),
        )

    def batch(self) -> BatchTimes:
        asked_ns, wanted_ns = self.small(), self.small()
        return BatchTimes(
            number=self.random.randint(0, 9),
            asked_ns=asked_ns,
            sent_ns=self.maybe(asked_ns + self.small()),
            arrived_ns=self.maybe(self.small()),
            wanted_ns=wanted_ns,
            taken_ns=wanted_ns + self.small(),
            size_bytes=self.maybe(self.small()),
            chunks=tuple(self.chunk() for _ in self.count(3)),
        )

    def loader(self) -> LoaderRecord:
        work = WorkTrace()
        batches = [self.batch() for _ in self.count(12)]
        if self.random.random() < 0.7:
            batches.sort(key=lambda batch: batch.number)
        for batch in batches:
            work.add(batch)
        setup = replace(
            setup_of(Run(num_workers=self.random.randint(0, 4))),
            name=self.random.choice(["", "a"]),
            is_ours=self.random.random() < 0.5,
            engine=self.random.choice(["ring", "torch", "inline"]),
            prefetch_batches=self.small(),
            batch_size=self.maybe(self.small()),
            in_order=self.random.random() < 0.5,
        )
        return LoaderRecord(setup=setup, work=work)

    def step(self) -> StepTimes:
        spans, at_ns = [], self.small()
        for _ in self.count(4):
            until_ns = at_ns + self.small()
            spans.append((self.random.choice([*Part]), at_ns, until_ns))
            at_ns = until_ns
        return StepTimes(
            parts_ns=tuple(self.small() for _ in Part),
            host_wait_ns=self.small(),
            samples=self.maybe(self.small()),
            spans=tuple(spans),
            device_spans_ns=tuple(self.small() for _ in self.count(5)),
            was_drained=self.random.choice([None, True, True, False]),
        )

    def stall(self) -> StallTrace:
        trace = StallTrace(clock="host", device_type="cpu")
        if self.random.random() < 0.5:
            trace = StallTrace(clock="cuda", device_type="cuda")
        for _ in self.count(3):
            trace.epochs.append(
                EpochTotals(
                    epoch=self.random.randint(0, 2),
                    steps=self.small(),
                    wall_ns=self.small(),
                    stall_ns=self.small(),
                    start_ns=self.maybe(self.small()),
                )
            )
        for _ in self.count(30):
            trace.steps_seen += 1
            trace.add(self.step())
        trace.first_batch_ns = self.maybe(10**10)
        return trace

    def window(self) -> RankWindow:
        return RankWindow(
            steps=self.small(),
            wall_ns=self.small(),
            stall_ns=self.small(),
            host_wait_ns=self.small(),
        )

    def run(self) -> RunRecord:
        settings = {
            name: self.random.choice([None, True, 0, 1, 5, 0.25, 1.0, "x"])
            for name in SETTINGS
            if self.random.random() < 0.7
        }
        return RunRecord(
            stall=self.stall(),
            loaders=[self.loader() for _ in self.count(2)],
            machine=self.random.choice([None, *map(machine_with, (0.0, 0.5, 3.0))]),
            host_lines={Part.LOGGING: Counter({Line("x.py", 1, "f"): self.small()})},
            host_looks=Counter({Part.LOGGING: self.small()}),
            ranks=[[self.window() for _ in self.count(3)] for _ in self.count(3)],
            settings=settings,
            host_cpu_cores=self.random.choice([None, 0.0, 0.5, 9.0]),
        )


def fractions_of(finding: Finding) -> list[float]:
    predicted = finding.predicted_stall_fraction
    return [finding.stall_fraction, *([] if predicted is None else [predicted])]


def of_the_loader(summary: StallSummary) -> float:
    return sum(f.stall_fraction for f in summary.findings if f.cause in OF_THE_LOADER)


@settings(max_examples=150)
@given(seed=st.integers(0, 10**9))
def test_no_record_however_odd_is_refused_and_all_shares_are_shares(seed: int) -> None:
    summary = conclude(Odd(seed).run())

    figures = summary.workers
    shares = [share for finding in summary.findings for share in fractions_of(finding)]
    shares += summary.worker_stage_fractions.values()
    shares += [line.fraction for line in (*summary.worker_lines, *summary.host_lines)]
    if figures is not None:
        shares += [figures.cpu_fraction, figures.slot_wait_fraction]
        shares += [figures.busy_fraction or 0.0, figures.core_wait_fraction or 0.0]
        shares.append(figures.ready_fraction or 0.0)
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert sum(summary.worker_stage_fractions.values()) <= 1.0 + 1e-9


@settings(max_examples=150)
@given(seed=st.integers(0, 10**9))
def test_findings_are_sorted_and_those_of_loaders_cost_no_more_than_the_stall(seed: int) -> None:
    summary = conclude(Odd(seed).run())

    costs = [finding.stall_fraction for finding in summary.findings]
    assert costs == sorted(costs, reverse=True)
    assert of_the_loader(summary) <= (summary.stall_fraction or 0.0) + 1e-9


plausible_runs = st.builds(
    Run,
    num_workers=st.integers(0, 5),
    prefetch_factor=st.integers(1, 3),
    epochs=st.integers(1, 3),
    batches=st.integers(2, 40),
    batch_size=st.integers(1, 6),
    step_ns=st.integers(1, 30).map(lambda ms: ms * MS),
    sample_ns=st.tuples(st.integers(1, 20), st.integers(1, 30)).map(
        lambda cost: lambda epoch, index: cost[0] * MS * (cost[1] if index % 17 == 5 else 1)
    ),
    cpu_fraction=st.floats(0, 1),
    stretch=st.floats(1, 3),
    next_ns=st.integers(0, 10).map(lambda ms: ms * MS),
    read_bytes=st.sampled_from([0, 100_000]),
    cores=st.floats(1, 16),
)


@settings(max_examples=25)
@given(run=plausible_runs)
def test_the_causes_of_a_stall_come_to_the_stall(run: Run) -> None:
    """What is too little to be named is left out: the causes under 2 %."""
    summary = conclude(recorded(run))

    stall = summary.stall_fraction or 0.0
    cost = of_the_loader(summary)
    assert cost <= stall + 1e-9
    if stall >= FindingThresholds().stall_fraction:
        assert cost >= stall - 0.05


@settings(max_examples=25)
@given(run=plausible_runs)
def test_equal_records_give_equal_summaries(run: Run) -> None:
    assert conclude(recorded(run)) == conclude(recorded(run))


def test_a_run_without_a_step_has_no_finding() -> None:
    summary = conclude(RunRecord(stall=StallTrace(clock="host", device_type="cpu")))

    assert summary.findings == ()
    assert summary.workers is None
    assert summary.detail.spans == ()


def test_the_facts_of_the_run_are_kept_beside_the_figures() -> None:
    record = recorded(Run(num_workers=3, settings={"max_epochs": 2}))

    run = conclude(record).run

    assert run is not None
    assert [setup.num_workers for setup in run.loaders] == [3]
    assert isinstance(run.machine, MachineFacts)
    assert run.settings == (("max_epochs", 2),)


def test_each_epoch_has_its_own_figures() -> None:
    summary = conclude(recorded(Run(epochs=3, batches=10)))

    assert [epoch.epoch for epoch in summary.epochs] == [0, 1, 2]
    assert [epoch.steps for epoch in summary.epochs] == [9, 9, 9]
    assert summary.epochs[0].start_ns is None
    assert summary.epochs[1].start_ns is not None


@pytest.mark.parametrize("limit", [0.0, 0.6])
def test_thresholds_decide_what_is_a_finding(limit: float) -> None:
    record = recorded(Run(num_workers=1, sample_ns=lambda epoch, index: 5 * MS))

    findings = conclude(record, thresholds=FindingThresholds(stall_fraction=limit)).findings

    assert bool(findings) == (limit < 0.5)
