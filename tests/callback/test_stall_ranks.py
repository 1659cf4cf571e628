"""Ranks show each other what they measured, and nobody waits for anybody."""

import json
from pathlib import Path

import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from two_ranks import run_two_ranks

from lightning_fastdata.callback import ranks as ranks_module
from lightning_fastdata.callback.ranks import MOST_INTERVALS, RankExchange
from lightning_fastdata.report import logger_metrics
from lightning_fastdata.trace import RankWindow, StallWindow


def window(stall_ns: int, wall_ns: int = 100) -> StallWindow:
    return StallWindow(steps=1, stall_ns=stall_ns, wall_ns=wall_ns, host_wait_ns=stall_ns)


def some_ranks(count: int) -> list[RankExchange]:
    store = dist.HashStore()
    return [RankExchange(store, rank=rank, world_size=count) for rank in range(count)]


def stalls_of(exchange: RankExchange) -> list[list[int]]:
    return [[each.stall_ns for each in row] for row in exchange.intervals]


def test_rank_0_knows_what_every_rank_measured_in_each_interval() -> None:
    zero, one = some_ranks(2)

    for interval in range(3):
        one.show(window(50 + interval))
        zero.show(window(interval))

    assert stalls_of(zero) == [[0, 50], [1, 51], [2, 52]]
    assert zero.newest == zero.intervals[-1]
    assert one.intervals == []


def test_a_rank_that_is_late_is_known_an_interval_later() -> None:
    zero, one = some_ranks(2)

    zero.show(window(1))
    seen = stalls_of(zero)
    one.show(window(51))
    zero.show(window(2))

    assert seen == []
    assert stalls_of(zero) == [[1, 51]]


@given(turns=st.lists(st.sampled_from([0, 1, 2]), max_size=40))
def test_in_whatever_order_ranks_show_each_interval_is_known_once(turns: list[int]) -> None:
    exchanges = some_ranks(3)
    shown = [0, 0, 0]

    for rank in turns:
        exchanges[rank].show(window(1 + shown[rank]))
        shown[rank] += 1
    for exchange in reversed(exchanges):
        exchange.finish(wait=True)

    rows = stalls_of(exchanges[0])
    assert len(rows) == max(shown)
    for rank, count in enumerate(shown):
        column = [row[rank] for row in rows]
        # What a rank showed long before rank 0 looked again is no longer there.
        assert all(stall in (0, 1 + interval) for interval, stall in enumerate(column))
        recent = range(max(0, count - 8), count)
        if rank == 0 or shown[0] <= 8:
            assert all(column[interval] == 1 + interval for interval in recent)


def test_a_rank_that_ended_early_is_missing_from_later_intervals() -> None:
    zero, one = some_ranks(2)

    one.show(window(50))
    zero.show(window(0))
    one.finish(wait=False)
    zero.show(window(1))
    zero.finish(wait=True)

    assert stalls_of(zero) == [[0, 50], [1, 0]]
    assert zero.intervals[1][1].steps == 0


def test_a_rank_that_never_says_that_it_is_done_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranks_module, "FLUSH_S", 0.01)
    zero, one = some_ranks(2)
    one.show(window(50))
    zero.show(window(0))
    zero.show(window(1))

    zero.finish(wait=True)

    assert stalls_of(zero) == [[0, 50], [1, 0]]


def test_a_rank_without_a_profiler_keeps_nobody_waiting() -> None:
    zero = RankExchange(dist.HashStore(), rank=0, world_size=2)

    for interval in range(20):
        zero.show(window(interval))
    known = len(zero.intervals)
    zero.finish(wait=False)

    assert known == 20 - 8  # beyond that, what is missing can no longer come
    assert stalls_of(zero) == [[interval, 0] for interval in range(20)]


def test_a_long_run_stays_small_and_loses_nothing() -> None:
    zero, one = some_ranks(2)

    for _ in range(3 * MOST_INTERVALS):
        one.show(window(2))
        zero.show(window(1))

    assert len(zero.intervals) <= MOST_INTERVALS
    assert sum(row[1].stall_ns for row in zero.intervals) == 2 * 3 * MOST_INTERVALS
    assert zero.newest[1].stall_ns == 2


def test_each_fit_of_a_job_has_its_own_numbers() -> None:
    store = dist.HashStore()
    for stall_ns in (7, 8):
        zero, one = (RankExchange(store, rank=rank, world_size=2) for rank in range(2))
        one.show(window(10 * stall_ns))
        zero.show(window(stall_ns))

    assert stalls_of(zero) == [[8, 80]]


def test_loggers_are_told_of_the_rank_that_stalls_most() -> None:
    ranks = [
        RankWindow(steps=1, wall_ns=100, stall_ns=10, host_wait_ns=10),
        RankWindow(steps=1, wall_ns=100, stall_ns=40, host_wait_ns=40),
        RankWindow(steps=0, wall_ns=0, stall_ns=0, host_wait_ns=0),
    ]

    metrics = logger_metrics(window(10), ranks)

    assert metrics["time_metrics/data_loading(%)"] == 10
    assert metrics["time_metrics/data_loading_max(%)"] == 40


PROGRAM = """
import json, sys, time
from pathlib import Path
from stall_runs import Model, Numbers, a_loader, a_trainer
import lightning.pytorch
from lightning_fastdata.callback import DataStallProfiler

folder, slow_rank, ends_early = Path(sys.argv[1]), 1, sys.argv[2] == "ends_early"


class Keep(lightning.pytorch.Callback):
    def on_train_batch_end(self, trainer, *_):
        self.record = profiler._run.record
        if ends_early and trainer.global_rank == 1 and trainer.global_step == 25:
            profiler._run._ranks = None  # as if it had died: it shows nothing more


class Slow(Numbers):
    def __getitem__(self, index):
        time.sleep(0.02 if trainer.global_rank == slow_rank else 0.0)
        return super().__getitem__(index)


profiler, keep = DataStallProfiler(reports=(), log_every_n_steps=10), Keep()
trainer = a_trainer(folder, profiler, keep, devices=2, strategy="ddp")
begin = time.monotonic()
trainer.fit(Model(), a_loader(Slow(80)))
ranks = [
    [[each.steps, each.wall_ns, each.stall_ns, each.host_wait_ns] for each in row]
    for row in keep.record.ranks
]
notes = {"ranks": ranks, "problem": keep.record.stall.problem}
(folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(notes))
"""


def trained_in(folder: Path, how: str) -> list[dict[str, object]]:
    run_two_ranks(PROGRAM, folder, how, beside=Path(__file__))
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_find_out_which_of_them_starves(tmp_path: Path) -> None:
    zero, one = trained_in(tmp_path, "whole")

    assert (zero["problem"], one["problem"], one["ranks"]) == (None, None, [])
    rows = zero["ranks"]
    assert isinstance(rows, list)
    assert [row[0][0] for row in rows] == [9, 10, 10, 10]
    assert [row[1][0] for row in rows] == [9, 10, 10, 10]
    for row in rows:
        stall_fractions = [stall_ns / wall_ns for _, wall_ns, stall_ns, _ in row]
        assert stall_fractions[1] > 0.5 > stall_fractions[0]


@pytest.mark.slow
def test_a_rank_that_goes_silent_does_not_hold_up_the_other(tmp_path: Path) -> None:
    zero, one = trained_in(tmp_path, "ends_early")

    assert (zero["problem"], one["problem"]) == (None, None)
    rows = zero["ranks"]
    assert isinstance(rows, list)
    assert [row[0][0] for row in rows] == [9, 10, 10, 10]
    assert [row[1][0] for row in rows] == [9, 10, 0, 0]
