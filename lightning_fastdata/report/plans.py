"""What was decided about each loader, and why, for people and for config files."""

from collections.abc import Mapping
from typing import Any

from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.report.table import ReportTable

_NOT_YET = "Nothing has been decided yet: no loader has been made."


def plans_table(plans: Mapping[str, LoaderPlan]) -> ReportTable:
    """List each choice of each loader with its value and its reason."""
    rows = [
        (name, field, _value(getattr(plan, field, "")), reason)
        for name, plan in plans.items()
        for field, reason in plan.reasons.items()
    ]
    return ReportTable(
        title="How the data is loaded",
        columns=("loader", "setting", "value", "because"),
        rows=tuple(rows),
        words=(0, 1, 2, 3),
        lines=() if rows else (_NOT_YET,),
    )


def _value(value: Any) -> str:
    """Write a value; cores as their ranges: ``0-31, 64-95``."""
    if not isinstance(value, tuple):
        return str(value)
    ranges: list[list[int]] = []
    for number in sorted(value):
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1] = [ranges[-1][0], number]
        else:
            ranges.append([number])
    return ", ".join("-".join(map(str, each)) for each in ranges)


def plan_as_arguments(plan: LoaderPlan) -> dict[str, Any]:
    """Give a plan as the loader's arguments: plain values that make the same choices again."""
    arguments: dict[str, Any] = {
        "engine": plan.engine,
        "num_workers": plan.num_workers,
        "pin_memory": plan.pin_memory,
    }
    if plan.num_workers:
        arguments["prefetch_factor"] = plan.prefetch_batches // plan.num_workers
        arguments["persistent_workers"] = plan.persistent_workers
    if plan.start_method is not None:
        arguments["multiprocessing_context"] = plan.start_method
    if plan.engine == "ring" and not plan.sample_timeout_follows:
        arguments["sample_timeout_s"] = plan.sample_timeout_s
    return arguments
