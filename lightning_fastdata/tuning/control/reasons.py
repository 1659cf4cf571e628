"""The sentence for each decision, with the figures that it rests on."""

from lightning_fastdata.trace.changes import PlanChange
from lightning_fastdata.tuning.control.undisturbed import FULL, Facts
from lightning_fastdata.tuning.control.window import Window


def why_predicted(
    window: Window, facts: Facts, after: int, predicted: float, *, is_enough: bool
) -> str:
    """Say why replay's number of workers is taken."""
    result = f"{_workers(after)} {_are(after)} predicted to leave {_percent(predicted)}"
    rest = "" if is_enough else f"; {_no_more(facts)}"
    return f"{_stood_still(window)}; {_costs(facts)}, so {result}{rest}"


def why_tried(window: Window, facts: Facts, after: int, predicted: float | None) -> str:
    """Say why more workers are tried than replay asks for."""
    now = window.num_workers
    but = f"; {_costs(facts)}"
    if predicted is not None:
        but = f", though {_workers(now)} {_are(now)} predicted to leave {_percent(predicted)}"
    return f"{_stood_still(window)}{but}; {_workers(after)} {_are(after)} tried"


def why_taken_back(window: Window, change: PlanChange) -> str:
    """Say what came of a change that is undone."""
    expected = change.predicted_stall_fraction
    wanted = "" if expected is None else f" where {_percent(expected)} were predicted"
    if change.after > change.before:
        return (
            f"{_workers(change.after)} left {_percent(window.stall_fraction)} of stall{wanted} "
            f"({_percent(change.stall_fraction)} before), so more workers did not help"
        )
    return (
        f"with {_workers(change.after)} training stood still {_percent(window.stall_fraction)} of "
        f"the last {_seconds(window)}{wanted} ({_percent(change.stall_fraction)} before)"
    )


def why_fewer(window: Window, windows: int, after: int, predicted: float, slower: float) -> str:
    """Say why fewer workers do."""
    kept_up = f"training stood still {_percent(window.stall_fraction)} of the last "
    return (
        f"{kept_up}{_seconds(window)}, and within the limit for {windows} windows in a row; "
        f"{_workers(after)} {_are(after)} predicted to leave {_percent(predicted)}, even if a "
        f"batch took {slower:.1f} times as long"
    )


def why_no_worse(window: Window, facts: Facts, after: int, *, is_crowded: bool) -> str:
    """Say why fewer workers are no worse although training stands still."""
    if is_crowded:
        cause = f"{facts.used_cores:.1f} cores are in use and workers only wait for each other"
    else:
        cause = f"not for lack of workers ({_costs(facts)})"
    return f"{_stood_still(window)}, but {cause}; {_workers(after)} {_are(after)} predicted to do"


def why_not_more(window: Window, facts: Facts, most: int) -> str:
    """Say why nothing was done although training stood still."""
    if window.num_workers >= most:
        return f"{_stood_still(window)}; {most} is the most workers that there may be"
    if facts.used_cores < FULL * facts.cores:
        return (
            f"{_stood_still(window)}; {_costs(facts)}, and more workers are not predicted to help"
        )
    return f"{_stood_still(window)}; {_no_more(facts)}"


def _no_more(facts: Facts) -> str:
    if facts.used_cores < FULL * facts.cores:
        return "more than those hardly help"
    return (
        f"{facts.used_cores:.1f} of the {facts.cores:.1f} cores that there are for it are in use, "
        "so more workers would only wait for each other"
    )


def _stood_still(window: Window) -> str:
    return f"training stood still {_percent(window.stall_fraction)} of the last {_seconds(window)}"


def _costs(facts: Facts) -> str:
    step = facts.step_ns / 1e6
    if not facts.batch_work_ns:
        return f"what a batch takes is not known, and a step takes {step:.1f} ms"
    work = facts.batch_work_ns / 1e6
    return f"a batch takes {work:.1f} ms of a worker and a step {step:.1f} ms"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _seconds(window: Window) -> str:
    return f"{max(0, window.ended_ns - window.began_ns) / 1e9:.1f} s"


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{number} workers"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
