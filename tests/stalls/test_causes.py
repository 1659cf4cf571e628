"""Each cause of lost time, put into a run on purpose: the first finding names it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from run_records import MS, Run, machine_with, recorded, stall_after

from lightning_fastdata.stalls import Finding, StallSummary, conclude
from lightning_fastdata.trace import Line, Part, RankWindow, RunRecord


def each(time_ns: int) -> Callable[[int, int], int]:
    return lambda epoch, index: time_ns


def every_50th_is_slow(epoch: int, index: int) -> int:
    return 150 * MS if index % 50 == 3 else 2 * MS


def one_is_slow(epoch: int, index: int) -> int:
    return 4_000 * MS if index == 803 else 2 * MS


def the_first_epoch_is_slow(epoch: int, index: int) -> int:
    return 20 * MS if epoch == 0 else 2 * MS


RUNS = {
    "too_few_workers": Run(num_workers=1, sample_ns=each(5 * MS)),
    "too_few_workers, none": Run(num_workers=0, sample_ns=each(5 * MS)),
    "too_few_workers, asleep": Run(num_workers=2, sample_ns=each(20 * MS), cpu_fraction=0.02),
    "too_few_workers, scarce cores": Run(
        num_workers=2, sample_ns=each(20 * MS), cpu_fraction=0.02, cores=2
    ),
    "cpu_saturated": Run(num_workers=3, cores=2, stretch=2.2, sample_ns=each(8 * MS)),
    "cpu_saturated, crowded": Run(
        num_workers=8, cores=2, stretch=4.0, sample_ns=each(8 * MS), host_cpu_cores=0.0
    ),
    "storage": Run(num_workers=2, sample_ns=each(20 * MS), cpu_fraction=0.1, read_bytes=100_000),
    "storage, mapped": Run(
        num_workers=1, sample_ns=each(9 * MS), cpu_fraction=0.1, major_faults=30
    ),
    "storage, cold": Run(
        epochs=4, num_workers=2, sample_ns=the_first_epoch_is_slow, cpu_fraction=0.1
    ),
    "slow_samples, heavy tail": Run(num_workers=2, sample_ns=every_50th_is_slow),
    "slow_samples, one": Run(num_workers=2, sample_ns=one_is_slow, batches=300),
    "ipc": Run(next_ns=30 * MS, batch_bytes=100_000_000),
    "host_other, logger": Run(logging_ns=10 * MS, settings={"log_every_n_steps": 1}),
    "host_other, checkpoint": Run(checkpoint_ns=10 * MS),
    "host_other, callback": Run(other_ns=10 * MS),
    "host_other, validation": Run(validation_ns=200 * MS, settings={"val_check_interval": 5}),
    "epoch_start": Run(epochs=5, batches=20, epoch_start_ns=500 * MS, persistent_workers=False),
    "pinning": Run(clock="cuda", device="cuda", transfer_ns=5 * MS),
    "transfer": Run(clock="cuda", device="cuda", transfer_ns=5 * MS, pin_memory=True),
    "host_sync": Run(clock="cuda", device="cuda", other_ns=2 * MS, is_drained=True),
}


def first_of(run: Run) -> Finding:
    return conclude(recorded(run)).findings[0]


@pytest.mark.parametrize("name", RUNS)
def test_the_first_finding_names_what_is_wrong(name: str) -> None:
    assert first_of(RUNS[name]).cause == name.split(",")[0]


@pytest.mark.parametrize(
    "name",
    ["too_few_workers", "too_few_workers, none", "too_few_workers, asleep", "storage"],
)
def test_more_workers_have_the_stall_that_was_predicted(name: str) -> None:
    finding = first_of(RUNS[name])

    then = finding.changes[0].then
    assert finding.changes[0].name == "num_workers"
    assert finding.predicted_stall_fraction == pytest.approx(
        stall_after(RUNS[name], num_workers=then), abs=0.02
    )


@pytest.mark.parametrize("name", ["slow_samples, heavy tail", "slow_samples, one"])
def test_without_its_slow_samples_a_run_has_the_stall_that_was_predicted(name: str) -> None:
    finding = first_of(RUNS[name])

    assert finding.predicted_stall_fraction == pytest.approx(
        stall_after(RUNS[name], sample_ns=each(2 * MS)), abs=0.02
    )


def test_slow_samples_are_named_by_index_the_slowest_first() -> None:
    run = replace(RUNS["slow_samples, one"], sample_ns=lambda epoch, index: index_time(index))

    finding = first_of(run)

    assert finding.samples == (803, 1201)
    assert "sample" in finding.advice


def index_time(index: int) -> int:
    return {803: 4_000 * MS, 1201: 2_000 * MS}.get(index, 2 * MS)


def test_shared_memory_has_the_stall_that_was_predicted_of_a_large_batch() -> None:
    finding = first_of(RUNS["ipc"])

    assert finding.predicted_stall_fraction == pytest.approx(
        stall_after(RUNS["ipc"], next_ns=0), abs=0.02
    )


@pytest.mark.parametrize("next_every", [1, 4])
def test_handing_over_in_no_time_ends_all_waits_for_batches_that_were_made(
    next_every: int,
) -> None:
    """Also where few of them are held up, as by a full pipe, so that the usual one is not."""
    finding = first_of(Run(next_ns=30 * MS * next_every, next_every=next_every))

    assert finding.cause == "ipc"
    assert finding.stall_fraction > 0.5
    assert finding.predicted_stall_fraction == pytest.approx(0.0, abs=0.01)


def test_handing_over_in_no_time_leaves_waits_for_batches_that_are_not_made_yet() -> None:
    run = Run(num_workers=1, sample_ns=each(4 * MS), next_ns=200 * MS, next_every=8)

    finding = next(each for each in conclude(recorded(run)).findings if each.cause == "ipc")

    assert finding.predicted_stall_fraction == pytest.approx(stall_after(run, next_ns=0), abs=0.05)


def test_warm_data_has_the_stall_that_was_predicted_of_a_cold_start() -> None:
    finding = first_of(RUNS["storage, cold"])

    assert finding.predicted_stall_fraction == pytest.approx(
        stall_after(RUNS["storage, cold"], sample_ns=each(2 * MS)), abs=0.02
    )


def test_rarer_validation_has_the_stall_that_was_predicted() -> None:
    """The loader gets ahead in each validation, so fewer of them stall more."""
    run = Run(
        num_workers=1,
        sample_ns=each(3 * MS),
        validation_ns=30 * MS,
        prefetch_factor=4,
        settings={"val_check_interval": 5},
    )

    finding = next(f for f in conclude(recorded(run)).findings if f.cause == "host_other")

    assert finding.changes[0].then == 15
    assert finding.predicted_stall_fraction == pytest.approx(
        stall_after(run, validation_every=15), abs=0.02
    )


def test_fewer_workers_than_cores_are_advised_where_they_only_wait_for_each_other() -> None:
    finding = first_of(RUNS["cpu_saturated, crowded"])

    assert [(change.name, change.then) for change in finding.changes] == [("num_workers", 2)]


def test_cores_that_other_processes_use_are_missed_and_no_number_of_workers_is_advised() -> None:
    """Workers wait for a core four fifths of the time, and use less than one of eight."""
    finding = first_of(Run(num_workers=2, stretch=5.0, sample_ns=each(4 * MS)))

    assert finding.cause == "cpu_saturated"
    assert finding.advice.startswith("Other processes use the cores")
    assert finding.changes == ()


def test_a_small_batch_that_is_late_for_want_of_a_core_is_no_large_payload() -> None:
    run = Run(next_ns=5 * MS, batch_bytes=128, stretch=2.0, sample_ns=each(MS))

    assert first_of(run).cause == "cpu_saturated"
    assert first_of(replace(run, stretch=1.0)).cause == "ipc"


def test_samples_that_only_wait_for_a_core_are_not_slow_ones() -> None:
    def now_and_then(epoch: int, index: int) -> int:
        return 20 * MS if index % 20 == 3 else 5 * MS

    run = Run(num_workers=2, sample_ns=now_and_then, batches=120)

    assert "slow_samples" in {each.cause for each in conclude(recorded(run)).findings}
    crowded = replace(run, stretch=2.0, cores=2)
    assert "slow_samples" not in {each.cause for each in conclude(recorded(crowded)).findings}


def test_samples_of_which_every_fifth_is_slow_are_not_a_few() -> None:
    def often(epoch: int, index: int) -> int:
        return 20 * MS if index % 5 == 3 else 2 * MS

    (finding,) = conclude(recorded(Run(num_workers=2, sample_ns=often, batches=120))).findings

    assert finding.cause == "too_few_workers"


def test_what_is_most_costly_is_named_where_cores_are_scarce() -> None:
    run = replace(RUNS["cpu_saturated"], transform_fraction=0.4)

    finding = first_of(run)

    assert "`batch_transform`" in finding.advice
    assert "40 %" in finding.advice


def test_a_read_that_sleeps_in_the_datasets_own_code_is_storage(tmp_path: Path) -> None:
    """A throttled file object reads nothing that the kernel counts."""
    source = tmp_path / "slow_files.py"
    source.write_text("import time\n\ndef read():\n    time.sleep(1)\n")
    line = Line(str(source), 4, "read")

    finding = first_of(replace(RUNS["too_few_workers, asleep"], line=line))

    assert finding.cause == "storage"
    assert any(f"{source}:4" in sentence for sentence in finding.evidence)


def test_a_run_in_which_nothing_is_wrong_has_no_finding_above_5_percent() -> None:
    for run in (Run(num_workers=2), Run(num_workers=2, epochs=3), Run(num_workers=12)):
        findings = conclude(recorded(run)).findings

        assert all(finding.stall_fraction <= 0.05 for finding in findings)


def test_idle_workers_are_given_away_last_and_for_nothing() -> None:
    findings = conclude(recorded(replace(RUNS["host_other, logger"], num_workers=12))).findings

    assert [finding.cause for finding in findings] == ["host_other", "too_many_workers"]
    assert findings[-1].stall_fraction == 0.0
    assert findings[-1].changes[0].now == 12


def test_workers_that_are_just_enough_are_kept() -> None:
    findings = conclude(recorded(Run(num_workers=2, sample_ns=each(4 * MS)))).findings

    assert findings == ()


def test_what_device_finding_needs_a_device() -> None:
    run = Run(transfer_ns=5 * MS, other_ns=MS, is_drained=True)

    causes = {finding.cause for finding in conclude(recorded(run)).findings}

    assert not causes & {"pinning", "transfer", "host_sync"}


def test_workers_that_nobody_saw_are_judged_by_the_waits_and_that_is_said() -> None:
    finding = first_of(replace(RUNS["too_few_workers"], is_watched=False))

    assert finding.cause == "too_few_workers"
    assert finding.predicted_stall_fraction is None
    assert any("could not be seen" in sentence for sentence in finding.evidence)


def test_without_workers_the_waits_tell_what_batches_cost() -> None:
    run = replace(RUNS["too_few_workers, none"], is_watched=False)

    finding = first_of(run)

    assert finding.predicted_stall_fraction == pytest.approx(
        stall_after(run, num_workers=finding.changes[0].then), abs=0.02
    )


def test_a_stall_without_any_known_loader_is_still_a_finding() -> None:
    record = recorded(RUNS["too_few_workers"])
    record.loaders.clear()

    (finding,) = conclude(record).findings

    assert finding.cause == "too_few_workers"
    assert finding.changes == ()


def test_the_line_that_a_slow_logger_spends_its_time_in_is_named() -> None:
    record = recorded(RUNS["host_other, logger"])
    record.host_lines[Part.LOGGING] = Counter({Line("/home/me/my_logger.py", 33, "log"): 61})
    record.host_looks[Part.LOGGING] = 100

    finding = conclude(record).findings[0]

    assert "61 % of it in /home/me/my_logger.py:33." in finding.evidence


def straggling(slow_rank: Callable[[int], int], *, own_rank: int = 0) -> RunRecord:
    """Three ranks, ten intervals of 50 steps each, in which one waits for a third of the time."""
    record = recorded(Run(num_workers=1, sample_ns=each(5 * MS)) if own_rank == 0 else Run())
    record.rank = own_rank
    record.ranks = [
        [
            RankWindow(
                steps=50,
                wall_ns=3_000 * MS,
                stall_ns=(waited := 1_500 * MS if rank == slow_rank(interval) else 20 * MS),
                host_wait_ns=waited,
            )
            for rank in range(3)
        ]
        for interval in range(10)
    ]
    return record


@pytest.mark.parametrize("own_rank", [0, 1])
def test_a_rank_that_holds_the_others_up_is_named(own_rank: int) -> None:
    summary = conclude(straggling(lambda interval: 0, own_rank=own_rank))

    assert summary.findings[0].cause == "rank_straggler"
    assert "rank 0" in summary.findings[0].advice
    assert summary.findings[0].stall_fraction == pytest.approx(1_480 / 3_000)
    assert [rank.straggled_fraction for rank in summary.ranks] == [1.0, 0.0, 0.0]


def test_ranks_that_take_turns_have_a_loader_that_is_too_slow() -> None:
    finding = conclude(straggling(lambda interval: interval % 3)).findings[0]

    assert finding.cause == "too_few_workers"
    assert any("take turns" in sentence for sentence in finding.evidence)


def test_the_loader_that_is_waited_for_is_blamed_of_two() -> None:
    record = recorded(RUNS["too_few_workers"])
    (quick,) = recorded(Run()).loaders
    record.loaders[0].setup = replace(record.loaders[0].setup, name="pictures")
    quick.setup = replace(quick.setup, name="texts")
    record.loaders.insert(0, quick)

    summary: StallSummary = conclude(record)

    assert summary.findings[0].evidence[0] == 'About the loader "pictures".'
    assert summary.workers is not None
    assert summary.workers.num_workers == 1


def test_what_is_not_known_of_the_cores_keeps_nobody_from_advice() -> None:
    record = recorded(RUNS["too_few_workers"])
    record.machine = None

    assert conclude(record).findings[0].changes[0].then == 3


def test_a_machine_without_a_core_to_spare_gets_no_advice_for_more_workers() -> None:
    record = recorded(RUNS["too_few_workers"])
    record.machine = machine_with(1.0)

    assert conclude(record).findings[0].cause == "cpu_saturated"
