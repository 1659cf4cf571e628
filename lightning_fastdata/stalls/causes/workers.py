"""Workers that are too few or too many, or that need more cores than there are."""

import math
from dataclasses import dataclass

from lightning_fastdata.stalls.case import Case, LoaderCase
from lightning_fastdata.stalls.costs import Kept
from lightning_fastdata.stalls.finding import Finding, SettingChange
from lightning_fastdata.stalls.thresholds import percent, spent
from lightning_fastdata.stalls.what_if import WhatIf
from lightning_fastdata.stalls.work_figures import (
    REST,
    stage_fractions,
    worker_figures,
    worker_lines,
)

SOLVED = 0.5  # of the stall: a change that leaves more than this is not the answer (guess)
ROOM_LEFT = 1.25  # as a plan leaves: giving workers away must not start a stall
OURS = 0.75  # of the cores: where workers wait although less is used, others use the rest (guess)
CHEAPER = 0.5  # of a sample's time, where nothing in it has a name


@dataclass(frozen=True, kw_only=True, slots=True)
class _Costly:
    """What takes most of the workers' time."""

    name: str
    fraction: float
    advice: str


def not_enough(about: LoaderCase, share_fraction: float, core_wait_fraction: float) -> Finding:
    """Blame the number of workers, or the cores where more workers would not help.

    Args:
        about: The loader.
        share_fraction: The stall that is left for these two causes.
        core_wait_fraction: What of it goes away if nobody waits for a core.
    """
    what_if = about.what_if
    if what_if is None:
        return _unseen(about, share_fraction)
    setup, limits = about.loader.setup, about.case.limits
    workers, lost_ns = what_if.fewest(limits.wanted_fraction, limits.most_workers)
    predicted = what_if.predicted(lost_ns)
    now = what_if.predicted(what_if.as_it_was_ns)
    is_scarce = core_wait_fraction > share_fraction / 2 and predicted > limits.stall_fraction
    if workers > setup.num_workers and predicted <= SOLVED * now and not is_scarce:
        return about.finding(
            "too_few_workers",
            share_fraction,
            _busy_evidence(about, what_if),
            f"num_workers {setup.num_workers} -> {workers}.",
            changes=_workers_change(setup.num_workers, workers),
            predicted=predicted,
        )
    return _no_cores(about, what_if, share_fraction)


def unknown_loader(case: Case, share_fraction: float) -> Finding:
    """Blame a loader of which nothing is known, not even how it was set up."""
    return Finding(
        cause="too_few_workers",
        stall_fraction=min(1.0, share_fraction),
        evidence=(
            "The loader could not be watched; this goes by the waits alone.",
            f"Training waited for data in {percent(share_fraction)} of its time, "
            f"{spent(case.summary.wait_p50_ns or 0)} at the median step.",
        ),
        advice="Raise num_workers, or pass a FastDataLoader, which says where its time goes.",
    )


def too_many(about: LoaderCase) -> Finding | None:
    """Find workers that could be given away without a stall."""
    what_if, setup, limits = about.what_if, about.loader.setup, about.case.limits
    figures = worker_figures(about.loader)
    if what_if is None or figures is None or setup.num_workers < 2:
        return None
    if figures.busy_fraction is None or figures.busy_fraction > limits.idle_fraction:
        return None
    unavoidable = what_if.handover_fraction
    if about.stall_fraction > limits.keeps_up_fraction + unavoidable:
        return None
    workers, lost_ns = what_if.fewest(
        limits.keeps_up_fraction, setup.num_workers, headroom=ROOM_LEFT
    )
    predicted = what_if.predicted(lost_ns)
    if workers > setup.num_workers / 2 or predicted > limits.wanted_fraction + unavoidable:
        return None
    return about.finding(
        "too_many_workers",
        0.0,
        [
            f"The {setup.num_workers} workers were at work {percent(figures.busy_fraction)} of "
            "the time, and training hardly waited.",
        ],
        f"num_workers {setup.num_workers} -> {workers}: as fast, with less memory and with free "
        "cores.",
        changes=_workers_change(setup.num_workers, workers),
        predicted=predicted,
    )


def _no_cores(about: LoaderCase, what_if: WhatIf, share_fraction: float) -> Finding:
    setup, cores = about.loader.setup, about.case.cores
    figures = worker_figures(about.loader)
    evidence = []
    if figures is not None and figures.core_wait_fraction:
        evidence.append(
            f"Workers waited for a free core in {percent(figures.core_wait_fraction)} of the time "
            "to make samples."
        )
    if cores is not None:
        evidence.append(
            f"There are {cores:g} cores. Workers kept {what_if.busy_cores:.1f} of them busy, and "
            f"the training process needs {what_if.measured.host_cores:.1f}."
        )
    evidence += _busy_evidence(about, what_if)
    fewer = None if cores is None else max(1, math.floor(cores))
    if fewer is not None and setup.num_workers > fewer:
        lost_ns = what_if.lost_ns(num_workers=fewer)
        if lost_ns <= what_if.as_it_was_ns + what_if.measured.busy_ns * 0.05:
            return about.finding(
                "cpu_saturated",
                share_fraction,
                evidence,
                f"num_workers {setup.num_workers} -> {fewer}: more than there are cores only wait "
                f"for each other. {_costliest(about).advice}",
                changes=_workers_change(setup.num_workers, fewer),
                predicted=what_if.predicted(lost_ns),
            )
    if cores is not None and (used := what_if.cores or cores) < OURS * cores:
        return about.finding(
            "cpu_saturated",
            share_fraction,
            evidence,
            f"Other processes use the cores: this run got {used:.1f} of {cores:g}. End them, or "
            "give the run cores of its own.",
        )
    costly = _costliest(about)
    kept = Kept(factor=max(0.0, 1.0 - costly.fraction))
    return about.finding(
        "cpu_saturated",
        share_fraction,
        evidence,
        f"More workers cannot help. {costly.advice}",
        predicted=what_if.predicted(what_if.lost_ns(kept)),
    )


def _unseen(about: LoaderCase, share_fraction: float) -> Finding:
    """Judge by the waits alone: as a team, the workers made one batch a step."""
    setup, stall = about.loader.setup, about.case.summary.stall_fraction or 0.0
    needed = max(setup.num_workers + 1, math.ceil(max(1, setup.num_workers) / max(0.02, 1 - stall)))
    workers = min(needed, about.case.limits.most_workers)
    cores = about.case.cores
    evidence = [
        "The workers could not be seen at work; this goes by the waits alone.",
        f"Training waited for data in {percent(stall)} of its time, "
        f"{spent(about.case.summary.wait_p50_ns or 0)} at the median step.",
    ]
    if cores is not None:
        evidence.append(f"There are {cores:g} cores.")
    return about.finding(
        "too_few_workers",
        share_fraction,
        evidence,
        f"num_workers {setup.num_workers} -> {workers}, if there are cores for them.",
        changes=_workers_change(setup.num_workers, workers),
    )


def _busy_evidence(about: LoaderCase, what_if: WhatIf) -> list[str]:
    setup, work = about.loader.setup, what_if.workload
    step_ns = what_if.measured.busy_ns
    evidence = []
    if setup.num_workers == 0:
        evidence.append("num_workers is 0: the training process makes each batch while it waits.")
    figures = worker_figures(about.loader)
    if figures is not None and setup.num_workers and figures.busy_fraction is not None:
        are = "workers were" if setup.num_workers > 1 else "worker was"
        evidence.append(
            f"The {setup.num_workers} {are} at work {percent(figures.busy_fraction)} of the time."
        )
    evidence.append(
        f"A batch takes {spent(work.work_ns)} to make, a step without waiting {spent(step_ns)}: "
        f"{work.work_ns / max(1.0, step_ns):.1f} workers' worth of work."
    )
    if figures is not None and figures.ready_fraction is not None:
        evidence.append(
            f"{percent(figures.ready_fraction)} of batches lay ready when they were wanted."
        )
    switches = about.case.straggling.switches_fraction
    if switches > 1 - about.case.limits.straggle_intervals_fraction:
        evidence.append("Ranks take turns at waiting longest: the loader is too slow on all.")
    return evidence


def _costliest(about: LoaderCase) -> _Costly:
    """Name what a cheaper step would save most in."""
    totals = about.loader.work.totals
    stages = [(name, part) for name, part in stage_fractions(totals).items() if name != REST]
    lines = worker_lines(totals)
    name, fraction = max(stages, key=lambda entry: entry[1], default=("", 0.0))
    if lines and lines[0].fraction > fraction:
        line = lines[0]
        where = f"{line.file}:{line.line}"
        text = f" `{line.text}`" if line.text else ""
        advice = f"Make {where}{text} cheaper, or move it to the device: "
        return _costly(where, line.fraction, advice)
    if name == "batch_transform":
        return _costly(name, fraction, "Move `batch_transform` to the device: ")
    if fraction > 0:
        what = "`collate_fn`" if name == "collate" else f'stage "{name}"'
        return _costly(name, fraction, f"Make {what} cheaper, or move it to the device: ")
    return _Costly(
        name=REST,
        fraction=CHEAPER,
        advice="Make samples cheaper: half the time for each is what the prediction is for.",
    )


def _costly(name: str, fraction: float, advice: str) -> _Costly:
    share = f"{percent(fraction)} of the workers' time."
    return _Costly(name=name, fraction=min(1.0, fraction), advice=advice + share)


def _workers_change(now: int, then: int) -> tuple[SettingChange, ...]:
    return (SettingChange(name="num_workers", now=now, then=then),)
