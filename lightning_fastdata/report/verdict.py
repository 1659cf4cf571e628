"""Two runs against each other: which one is faster, what stalls, what was set up differently."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.report.comparison import compare_table
from lightning_fastdata.report.table import ReportTable
from lightning_fastdata.report.units import percent, step_ms
from lightning_fastdata.report.words import CAUSES, printable
from lightning_fastdata.stalls import RunFacts, StallSummary

_CHANGES_SHOWN = 12  # guess: more of them, and the runs are not two of the same
_PARTS = (
    ("waiting for data", "exposed_stall_ns"),
    ("transfer", "transfer_ns"),
    ("compute", "compute_ns"),
    ("other host work", "other_host_ns"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What became of a run."""

    table: ReportTable
    """Both runs side by side, with the verdict as its last line."""
    is_worse: bool
    """Whether the second run is worse by more than was tolerated."""


def compare_runs(
    before: StallSummary,
    after: StallSummary,
    *,
    stall_tolerance: float = 0.02,
    rate_tolerance: float = 0.05,
    lines: tuple[str, ...] = (),
) -> Comparison:
    """Judge the run ``after`` by the run ``before``.

    Args:
        before: Called A.
        after: Called B.
        stall_tolerance: How much more stall (share of the time, 0 to 1) is not worse.
        rate_tolerance: How large a share (0 to 1) fewer samples a second is not worse.
        lines: Stand below the table, before what differs.

    Raises:
        SettingsError: One of them had no step to judge by.
    """
    for name, run in (("A", before), ("B", after)):
        if run.stall_fraction is None:
            raise SettingsError(
                f"run {name} has no step after the first of an epoch, wanted some to compare. "
                "Train for more steps."
            )
    stall = (before.stall_fraction or 0.0, after.stall_fraction or 0.0)
    ratio = (
        after.samples_per_s / before.samples_per_s
        if before.samples_per_s and after.samples_per_s is not None
        else None
    )
    stalls_more = stall[1] - stall[0] > stall_tolerance
    is_slower = ratio is not None and ratio < 1 - rate_tolerance
    is_worse = stalls_more or is_slower
    is_better = stall[0] - stall[1] > stall_tolerance or (ratio or 1) > 1 + rate_tolerance
    judged = "B is worse" if is_worse else "B is better" if is_better else "B is as good as A"
    table = compare_table(
        {"A": before, "B": after},
        extra_rows={"costs most": [_first_cause(before), _first_cause(after)]},
    )
    verdict = f"Verdict: {judged}; {_rate_words(ratio)}stall {percent(stall[0])} -> "
    verdict += f"{percent(stall[1])}{_moved(before, after)}."
    return Comparison(
        table=replace(table, lines=(*lines, *_differences(before.run, after.run), verdict)),
        is_worse=is_worse,
    )


def _first_cause(run: StallSummary) -> str:
    return CAUSES[run.findings[0].cause] if run.findings else "nothing found"


def _rate_words(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} times A's samples a second, "


def _moved(before: StallSummary, after: StallSummary) -> str:
    """Name the part of a step that changed most."""

    def change_ns(name: str) -> float:
        was_ns: float = getattr(before, name) / before.steps
        now_ns: float = getattr(after, name) / after.steps
        return now_ns - was_ns

    words, name = max(_PARTS, key=lambda part: abs(change_ns(part[1])))
    if not change_ns(name):
        return ""
    was = step_ms(getattr(before, name), before.steps)
    return f"; most changed: {words}, {was} -> {step_ms(getattr(after, name), after.steps)} ms/step"


def _differences(before: RunFacts | None, after: RunFacts | None) -> list[str]:
    if before is None or after is None:
        return ["Changed: not known, a report does not say how its run was set up."]
    was, now = _flat(before), _flat(after)
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    if not names:
        return ["Changed: nothing in the set-up that the reports hold."]
    told = [
        f"{printable(name, 60)}: {printable(was.get(name, 'not there'), 60)} -> "
        f"{printable(now.get(name, 'not there'), 60)}"
        for name in names[:_CHANGES_SHOWN]
    ]
    if len(names) > _CHANGES_SHOWN:
        told.append(f"and {len(names) - _CHANGES_SHOWN} more")
    return ["Changed:", *(f"  {line}" for line in told)]


def _flat(facts: RunFacts) -> dict[str, str]:
    """Give every fact of a run as text under a name of its own."""
    values: dict[str, Any] = {}
    for loader in facts.loaders:
        start = f"loader {loader.name}, " if loader.name else ""
        values |= {f"{start}{each.name}": getattr(loader, each.name) for each in fields(loader)}
    values |= {f"Trainer, {name}": value for name, value in facts.settings}
    if is_dataclass(facts.machine):
        machine = {each.name: getattr(facts.machine, each.name) for each in fields(facts.machine)}
        machine |= {f"version of {name}": text for name, text in machine.pop("versions")}
        values |= {f"machine, {name}": value for name, value in machine.items()}
    return {
        name: repr(value) if isinstance(value, str) else str(value)
        for name, value in values.items()
    }
