"""From any record to a summary: nothing odd ends a run, and shares stay shares."""

from collections import Counter
from dataclasses import replace

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
small = st.integers(0, 20)

chunk_times = st.builds(
    ChunkTimes,
    worker=st.none() | st.integers(0, 3),
    samples=st.integers(0, 4),
    began_ns=small,
    ended_ns=small,
    cpu_ns=small,
    page_faults=small,
    read_bytes=st.integers(0, 10**6),
    first_row=small,
    major_faults=small,
    cached_bytes=st.none() | small,
    core_wait_ns=st.none() | small,
    collate_ns=small,
    transform_ns=small,
    stages_ns=st.lists(st.tuples(st.sampled_from(["read", "samples"]), small)).map(tuple),
    slowest=st.lists(st.tuples(small, small | st.text(max_size=2), small), max_size=3).map(tuple),
    lines=st.lists(st.tuples(st.just(Line("nowhere.py", 3, "read")), small)).map(tuple),
    looks=small,
)
batch_times = st.builds(
    BatchTimes,
    number=st.integers(0, 5),
    asked_ns=small,
    sent_ns=st.none() | small,
    arrived_ns=st.none() | small,
    wanted_ns=small,
    taken_ns=small,
    size_bytes=st.none() | small,
    chunks=st.lists(chunk_times, max_size=3).map(tuple),
)
step_times = st.builds(
    StepTimes,
    parts_ns=st.tuples(*[small] * len(Part)),
    host_wait_ns=small,
    samples=st.none() | small,
    spans=st.lists(st.tuples(st.sampled_from(Part), small, small), max_size=3).map(tuple),
    device_spans_ns=st.lists(small, max_size=4).map(tuple),
    was_drained=st.none() | st.booleans(),
)
rank_windows = st.builds(RankWindow, steps=small, wall_ns=small, stall_ns=small, host_wait_ns=small)
epochs = st.builds(
    EpochTotals,
    epoch=st.integers(0, 2),
    steps=small,
    wall_ns=small,
    stall_ns=small,
    start_ns=st.none() | small,
)
value = st.none() | st.booleans() | small | st.floats(0, 1) | st.text(max_size=2)


@st.composite
def loader_records(draw: st.DrawFn) -> LoaderRecord:
    work = WorkTrace()
    for batch in draw(st.lists(batch_times, max_size=8)):
        work.add(batch)
    setup = replace(
        setup_of(Run(num_workers=draw(st.integers(0, 4)))),
        name=draw(st.sampled_from(["", "a"])),
        is_ours=draw(st.booleans()),
        engine=draw(st.sampled_from(["ring", "torch", "inline"])),
        prefetch_batches=draw(small),
        batch_size=draw(st.none() | small),
        in_order=draw(st.booleans()),
    )
    return LoaderRecord(setup=setup, work=work, is_watched=draw(st.booleans()))


@st.composite
def run_records(draw: st.DrawFn) -> RunRecord:
    is_cuda = draw(st.booleans())
    stall = StallTrace(
        clock="cuda" if is_cuda else "host", device_type="cuda" if is_cuda else "cpu"
    )
    for epoch in draw(st.lists(epochs, max_size=3)):
        stall.epochs.append(epoch)
    for step in draw(st.lists(step_times, max_size=8)):
        stall.steps_seen += 1
        stall.add(step)
    stall.first_batch_ns = draw(st.none() | st.just(10**10))
    return RunRecord(
        stall=stall,
        loaders=draw(st.lists(loader_records(), max_size=2)),
        machine=draw(st.none() | st.sampled_from([0.0, 0.5, 3.0]).map(machine_with)),
        host_lines={Part.LOGGING: Counter({Line("x.py", 1, "f"): draw(small)})},
        host_looks=Counter({Part.LOGGING: draw(small)}),
        ranks=draw(st.lists(st.lists(rank_windows, max_size=3), max_size=3)),
        settings=draw(st.dictionaries(st.sampled_from(SETTINGS), value)),
        host_cpu_cores=draw(st.none() | st.floats(0, 9)),
    )


SETTINGS = [
    "val_check_interval",
    "check_val_every_n_epoch",
    "log_every_n_steps",
    "reload_dataloaders_every_n_epochs",
]


def fractions_of(finding: Finding) -> list[float]:
    predicted = finding.predicted_stall_fraction
    return [finding.stall_fraction, *([] if predicted is None else [predicted])]


def of_the_loader(summary: StallSummary) -> float:
    return sum(f.stall_fraction for f in summary.findings if f.cause in OF_THE_LOADER)


@settings(max_examples=200)
@given(record=run_records())
def test_no_record_however_odd_is_refused_and_all_shares_are_shares(record: RunRecord) -> None:
    summary = conclude(record)

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


@settings(max_examples=200)
@given(record=run_records())
def test_findings_are_sorted_and_those_of_loaders_cost_no_more_than_the_stall(
    record: RunRecord,
) -> None:
    summary = conclude(record)

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


@settings(max_examples=60)
@given(run=plausible_runs)
def test_the_causes_of_a_stall_come_to_the_stall(run: Run) -> None:
    """What is too little to be named is left out: the causes under 2 %."""
    summary = conclude(recorded(run))

    stall = summary.stall_fraction or 0.0
    cost = of_the_loader(summary)
    assert cost <= stall + 1e-9
    if stall >= FindingThresholds().stall_fraction:
        assert cost >= stall - 0.05


@settings(max_examples=60)
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
