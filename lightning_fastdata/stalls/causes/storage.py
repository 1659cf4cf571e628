"""Workers that wait for storage, throughout or in the first epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from lightning_fastdata.stalls.case import Case, LoaderCase
from lightning_fastdata.stalls.costs import Kept
from lightning_fastdata.stalls.finding import Finding, SettingChange
from lightning_fastdata.stalls.reading import Reading
from lightning_fastdata.stalls.thresholds import FindingThresholds, data_size, percent
from lightning_fastdata.trace import WorkTotals


@dataclass(frozen=True, kw_only=True, slots=True)
class ColdStart:
    """A first epoch that stalled more than those after it."""

    first_fraction: float
    later_fraction: float
    cost_fraction: float
    """Share of the run's wall time that the first epoch lost beyond what later ones do."""


def cold_start(case: Case) -> ColdStart | None:
    """Compare the first epoch with the later ones."""
    limits = case.limits
    epochs = [each for each in case.record.stall.epochs if each.steps and each.wall_ns > 0]
    if len(epochs) < 2 or epochs[0].epoch != 0:
        return None
    first, later = epochs[0], epochs[1:]
    first_fraction = min(1.0, first.stall_ns / first.wall_ns)
    later_fraction = median(min(1.0, each.stall_ns / each.wall_ns) for each in later)
    if first_fraction < limits.stall_fraction or (
        first_fraction < limits.cold_times * later_fraction
    ):
        return None
    usual_ns = later_fraction * first.wall_ns
    wall_ns = sum(each.wall_ns for each in epochs)
    return ColdStart(
        first_fraction=first_fraction,
        later_fraction=later_fraction,
        cost_fraction=max(0.0, (first.stall_ns - usual_ns) / wall_ns),
    )


def cold_data(case: Case, cold: ColdStart, share_fraction: float) -> Finding:
    """Blame data that was not in memory in the first epoch."""
    totals = [loader.work.totals for loader in case.record.loaders]
    read_bytes = _data_bytes(totals, case.limits)
    faults = sum(each.major_faults for each in totals)
    evidence = [
        f"The first epoch waited {percent(cold.first_fraction)} of its time for data, later ones "
        f"{percent(cold.later_fraction)}."
    ]
    if read_bytes:
        evidence.append(f"Workers read {data_size(read_bytes)} from storage.")
    if faults:
        evidence.append(f"{faults} pages of mapped files had to be read from storage.")
    data = data_size(read_bytes) if read_bytes else "data"
    return Finding(
        cause="storage",
        stall_fraction=min(1.0, share_fraction),
        evidence=tuple(evidence),
        advice=f"Read the {data} once before training, on the machine that trains: later epochs "
        f"find it in memory and wait {percent(cold.later_fraction)} of their time.",
        predicted_stall_fraction=cold.later_fraction,
    )


def slow_storage(about: LoaderCase, share_fraction: float, found: Reading) -> Finding | None:
    """Blame storage, and overlap the waiting for it."""
    what_if, setup = about.what_if, about.loader.setup
    if what_if is None:
        return None
    limits = about.case.limits
    workers, lost_ns = what_if.fewest(limits.wanted_fraction, limits.most_workers)
    predicted = what_if.predicted(lost_ns)
    changes: tuple[SettingChange, ...] = ()
    if workers > setup.num_workers and predicted < about.stall_fraction / 2:
        changes = (SettingChange(name="num_workers", now=setup.num_workers, then=workers),)
        advice = (
            f"num_workers {setup.num_workers} -> {workers}: workers that wait for storage need no "
            "core, so more of them wait at the same time."
        )
    else:
        predicted = what_if.predicted(what_if.lost_ns(Kept(blocked=False)))
        read_bytes = _data_bytes([about.loader.work.totals], limits)
        data = f"the {data_size(read_bytes)} that were read" if read_bytes else "the data"
        advice = (
            f"Keep {data} on a faster disk or in memory; in fewer, larger files they are read in "
            "longer pieces."
        )
    return about.finding(
        "storage",
        share_fraction,
        list(found.evidence),
        advice,
        changes=changes,
        predicted=predicted,
    )


def _data_bytes(totals: Sequence[WorkTotals], limits: FindingThresholds) -> int:
    """What was read of the data; 0 where it is so little that it is libraries and logs."""
    read_bytes = sum(each.read_bytes for each in totals)
    samples = sum(each.samples for each in totals)
    return read_bytes if read_bytes >= limits.bytes_a_sample * max(1, samples) else 0
