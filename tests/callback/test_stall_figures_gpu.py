"""What is measured on a GPU: on its own clock, and without ever waiting for it."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import torch
from stall_runs import THIRD_PARTY_WARNINGS, Model, Numbers, a_loader, a_trainer, summary_of

from lightning_fastdata.callback import DataStallProfiler
from lightning_fastdata.trace import events as events_module

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.gpu]
BATCHES = 60
WORK_MS = 20
WAIT_S = 0.010


class GpuWork(Model):
    """Keeps the device busy for 20 ms a step; may wait for it at the end of each, as many loops do.

    A value read by ``item()`` after the step is what a progress bar or a careless log call does.
    """

    def __init__(self, *, work_ms: float = WORK_MS, reads_each_step: bool = False) -> None:
        super().__init__()
        self.work_ms = work_ms
        self.reads_each_step = reads_each_step

    def on_train_start(self) -> None:
        cycles = 10_000_000
        torch.cuda._sleep(cycles)  # the first one also loads the kernel
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch
        begin.record()
        torch.cuda._sleep(cycles)
        end.record()
        end.synchronize()
        self.cycles = round(cycles * self.work_ms / begin.elapsed_time(end))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.cycles:
            torch.cuda._sleep(self.cycles)
        loss: torch.Tensor = self.layer(batch).sum()
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        if self.reads_each_step:
            self.layer.weight.sum().item()


def a_gpu_trainer(folder: Path, *callbacks: Any) -> Any:
    return a_trainer(folder, *callbacks, accelerator="gpu", devices=1)


@pytest.mark.parametrize("reads_each_step", [False, True])
def test_a_wait_counts_only_where_the_device_had_no_work_left(
    reads_each_step: bool, tmp_path: Path
) -> None:
    """Work of 20 ms a batch hides a wait of 10 ms, unless each step waits for its own result."""
    profiler = DataStallProfiler(reports=())

    a_gpu_trainer(tmp_path, profiler).fit(
        GpuWork(reads_each_step=reads_each_step), a_loader(Numbers(BATCHES, wait_s=WAIT_S))
    )

    summary = summary_of(profiler)
    assert summary.clock == "cuda"
    wanted = 10 / 30 if reads_each_step else 0.0
    assert summary.stall_fraction == pytest.approx(wanted, abs=0.02)
    assert summary.hidden_wait_ns is not None
    assert (summary.hidden_wait_ns > summary.steps * 9e6) != reads_each_step


@pytest.mark.parametrize("reads_each_step", [False, True])
def test_a_loop_that_reads_a_value_each_step_has_drained_the_device_before_each_fetch(
    reads_each_step: bool, tmp_path: Path
) -> None:
    profiler = DataStallProfiler(reports=())

    a_gpu_trainer(tmp_path, profiler).fit(
        GpuWork(reads_each_step=reads_each_step), a_loader(Numbers(BATCHES))
    )

    drained_fraction = summary_of(profiler).drained_fraction
    assert drained_fraction is not None
    assert drained_fraction == 1.0 if reads_each_step else drained_fraction < 0.1


class WallClock(lightning.pytorch.Callback):
    def __init__(self) -> None:
        self.ended_ns: list[int] = []

    def on_train_batch_end(self, *_: Any) -> None:
        torch.cuda.synchronize()
        self.ended_ns.append(time.perf_counter_ns())


def test_the_parts_of_the_devices_clock_add_up_to_the_time_on_the_wall(tmp_path: Path) -> None:
    wall, profiler = WallClock(), DataStallProfiler(reports=())

    # Fewer than the warm-up twice over, so that the figures are of all steps but the first.
    a_gpu_trainer(tmp_path, wall, profiler).fit(GpuWork(), a_loader(Numbers(30, wait_s=WAIT_S)))

    wall_ns = wall.ended_ns[-1] - wall.ended_ns[0]
    assert summary_of(profiler).wall_ns == pytest.approx(wall_ns, rel=0.01)


class Counted(lightning.pytorch.Callback):
    """Counts every call that waits for the device, up to the end of the last step."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: Counter[str] = Counter()
        self.while_training: Counter[str] = Counter()
        for owner, name in (
            (torch.cuda, "synchronize"),
            (torch.cuda.Event, "synchronize"),
            (torch.cuda.Stream, "synchronize"),
            (torch.Tensor, "item"),
            (torch.Tensor, "cpu"),
        ):
            patch.setattr(owner, name, self._counting(f"{owner.__name__}.{name}", owner, name))

    def _counting(self, label: str, owner: Any, name: str) -> Any:
        original = getattr(owner, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            self.calls[label] += 1
            return original(*args, **kwargs)

        return counting

    def on_train_batch_end(self, *_: Any) -> None:
        self.while_training = self.calls.copy()


def waits_of_a_run(folder: Path, *callbacks: Any) -> Counter[str]:
    with pytest.MonkeyPatch.context() as patch:
        counted = Counted(patch)
        model = GpuWork(work_ms=1)
        a_gpu_trainer(folder, *callbacks, counted).fit(model, a_loader(Numbers(BATCHES)))
    return counted.while_training


def test_measuring_adds_no_call_that_waits_for_the_device(tmp_path: Path) -> None:
    alone = waits_of_a_run(tmp_path)

    measured = waits_of_a_run(tmp_path, DataStallProfiler(reports=()))

    assert measured == alone


class Strict(lightning.pytorch.Callback):
    """Lets torch raise at whatever waits for the device, inside of operators too."""

    def on_train_batch_end(self, trainer: Any, module: Any, _1: Any, _2: Any, index: int) -> None:
        if index == 5:  # libraries have been loaded by then
            torch.cuda.set_sync_debug_mode("error")
        if index == BATCHES - 2:
            torch.cuda.set_sync_debug_mode("default")

    def on_exception(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_no_operator_that_waits_for_the_device_runs_while_measuring(tmp_path: Path) -> None:
    profiler = DataStallProfiler(reports=())

    a_gpu_trainer(tmp_path, profiler, Strict()).fit(
        GpuWork(work_ms=1), a_loader(Numbers(BATCHES), pin_memory=True)
    )

    assert summary_of(profiler).problem is None


def test_events_are_taken_from_a_pool_once_the_run_is_under_way(tmp_path: Path) -> None:
    """A new event takes four times as long to record."""
    made: list[int] = []
    profiler = DataStallProfiler(reports=())

    class Makes(lightning.pytorch.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            made.append(len(events))

    events: list[Any] = []

    def noted() -> Any:
        events.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]  # torch
        return events[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events_module, "_new_event", noted)
        model = GpuWork(work_ms=0.1, reads_each_step=True)
        a_gpu_trainer(tmp_path, profiler, Makes()).fit(model, a_loader(Numbers(BATCHES)))

    assert made[-1] == made[5] > 0
