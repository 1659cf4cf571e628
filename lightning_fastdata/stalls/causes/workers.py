"""Workers that are too few or too many, or that need more cores than there are."""

import math

from lightning_fastdata.stalls.case import Case, LoaderCase
from lightning_fastdata.stalls.causes.costly import costliest
from lightning_fastdata.stalls.costs import Kept
from lightning_fastdata.stalls.finding import Finding, SettingChange
from lightning_fastdata.stalls.thresholds import percent, spent
from lightning_fastdata.stalls.what_if import WhatIf
from lightning_fastdata.stalls.work_figures import worker_figures

SOLVED = 0.5  # of the stall: a change that leaves more than this is not the answer (guess)
ROOM_LEFT = 1.25  # as a plan leaves: giving workers away must not start a stall
NO_WORSE = 0.02  # of the run: replays are no more exact (guess)
OURS = 0.75  # of the cores: where workers wait although less is used, others use the rest (guess)


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
    predicted = what_if.predicted(lost_ns, num_workers=workers)
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
    predicted = what_if.predicted(lost_ns, num_workers=workers)
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


def crowded(about: LoaderCase, share_fraction: float) -> Finding | None:
    """Find workers that slow training itself down, which computes on the same cores.

    The stall does not show it: training asks for batches as late as it is slowed.
    """
    what_if, limits = about.what_if, about.case.limits
    if what_if is None or about.case.has_device or not about.loader.setup.num_workers:
        return None
    if what_if.core_wait_fraction < limits.crowded_fraction:
        return None
    if 1.0 - what_if.host_stretch(0) < limits.crowding_fraction:
        return None
    slowed = "Training computes on the same cores: what workers use makes its own steps longer."
    return _no_cores(about, what_if, share_fraction, slowed)


def _no_cores(about: LoaderCase, what_if: WhatIf, share_fraction: float, *evidence: str) -> Finding:
    costly, cores = costliest(about), about.case.cores
    said = [*evidence, *_cores_evidence(about, what_if), *costly.evidence]
    said += _busy_evidence(about, what_if)
    fewer = _fewer(about, what_if)
    if fewer is not None:
        now, (workers, predicted) = about.loader.setup.num_workers, fewer
        return about.finding(
            "cpu_saturated",
            share_fraction,
            said,
            f"num_workers {now} -> {workers}: more than there are cores only wait for each other.",
            changes=_workers_change(now, workers),
            predicted=predicted,
        )
    usable, got = what_if.usable_cores, what_if.cores
    if cores is not None and usable is not None and got is not None and got < OURS * cores:
        return about.finding(
            "cpu_saturated",
            share_fraction,
            said,
            f"Other processes use the cores: this run got {what_if.used_cores:.1f} of the "
            f"{usable:g} that it can use. End them, or give the run cores of its own.",
        )
    kept = Kept(factor=1.0 - costly.fraction)
    return about.finding(
        "cpu_saturated",
        share_fraction,
        said,
        f"More workers cannot help. {costly.advice}",
        predicted=what_if.predicted(what_if.lost_ns(kept)),
    )


def _fewer(about: LoaderCase, what_if: WhatIf) -> tuple[int, float] | None:
    """As many workers as cores and the stall with them, where that is no worse."""
    cores = about.case.cores
    workers = None if cores is None else max(1, math.floor(cores))
    if workers is None or about.loader.setup.num_workers <= workers:
        return None
    lost_ns = what_if.lost_ns(num_workers=workers)
    # At a pass's start and at its end, each worker more is a batch less to wait for: no lasting
    # gain, but much of a short run.
    steps = max(1, len(what_if.workload.steady))
    edges = 2 * (about.loader.setup.num_workers - workers) * len(what_if.workload.passes)
    head_ns = edges * (what_if.measured.busy_ns + what_if.measured.stall_ns) / steps
    lasting = what_if.predicted(max(0.0, lost_ns - head_ns), num_workers=workers)
    if lasting > what_if.predicted(what_if.as_it_was_ns) + NO_WORSE:
        return None
    return workers, what_if.predicted(lost_ns, num_workers=workers)


def _cores_evidence(about: LoaderCase, what_if: WhatIf) -> list[str]:
    figures, cores = worker_figures(about.loader), about.case.cores
    evidence = []
    if figures is not None and figures.core_wait_fraction:
        evidence.append(
            f"Workers waited for a free core in {percent(figures.core_wait_fraction)} of the time "
            "to make samples."
        )
    if cores is not None:
        host = "."
        if about.case.record.host_cpu_cores is not None:
            used = f"{what_if.measured.host_cores:.1f}"
            host = f", and the training process used {used} while it did not wait."
        evidence.append(
            f"There are {cores:g} cores. Workers kept {what_if.busy_cores:.1f} of them busy{host}"
        )
    return evidence


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


def _workers_change(now: int, then: int) -> tuple[SettingChange, ...]:
    return (SettingChange(name="num_workers", now=now, then=then),)
