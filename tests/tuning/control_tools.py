"""Windows of training, made up one by one, and a controller that sees them."""

from dataclasses import replace

from lightning_fastdata.trace.changes import PlanChange
from lightning_fastdata.tuning.control.controller import Controller, ControlLimits
from lightning_fastdata.tuning.control.window import Window
from lightning_fastdata.tuning.replay import BatchCost, Span

MS = 1_000_000
S = 1_000 * MS
LIMITS = ControlLimits(
    most_workers=8, least_workers=1, cores=8, max_stall_fraction=0.02, is_cut=True
)


def window(
    num_workers: int,
    *,
    stall: float = 0.0,
    work_ms: float = 40.0,
    step_ms: float = 10.0,
    at_s: float = 0.0,
    cpu: float = 0.5,
    knows_costs: bool = True,
    core_wait_fraction: float | None = 0.0,
    host_cores: float = 0.0,
    is_new_pass: bool = False,
) -> Window:
    """Three seconds of training: its stall, and what batches and steps cost."""
    batches = max(1, round(3_000 * (1 - stall) / step_ms))
    work_ns = round(work_ms * MS) * batches
    cost = BatchCost(spans=(Span(32, round(work_ms * MS)),))
    return Window(
        began_ns=round(at_s * S),
        ended_ns=round((at_s + 3) * S),
        num_workers=num_workers,
        batches=batches,
        busy_ns=round(3 * S * (1 - stall)),
        stall_ns=round(3 * S * stall),
        ready_fraction=1.0 - stall,
        costs=(cost,) * min(batches, 128) if knows_costs else (),
        work_ns=work_ns if knows_costs else 0,
        cpu_ns=round(work_ns * cpu) if knows_costs else 0,
        core_wait_ns=None if core_wait_fraction is None else round(work_ns * core_wait_fraction),
        host_cores=host_cores,
        is_new_pass=is_new_pass,
    )


def after(controller: Controller, *windows: Window) -> PlanChange | None:
    """Show windows one after the other, each at its time; give what the last one led to."""
    change = None
    for number, one in enumerate(windows):
        at_ns = one.began_ns or number * 3 * S
        change = controller.see(replace(one, began_ns=at_ns, ended_ns=at_ns + 3 * S))
    return change
