"""A few samples that take far longer than the others."""

from lightning_fastdata.stalls.case import LoaderCase
from lightning_fastdata.stalls.costs import Kept
from lightning_fastdata.stalls.finding import Finding
from lightning_fastdata.stalls.thresholds import percent, spent
from lightning_fastdata.stalls.work_figures import slow_samples

NAMED = 3


def slow_few(about: LoaderCase, share_fraction: float) -> Finding | None:
    """Blame samples by their index."""
    what_if, limits = about.what_if, about.case.limits
    if what_if is None:
        return None
    times = what_if.slow_from(limits.slow_times)
    slow = slow_samples([about.loader], limits.slow_times)
    if not slow:
        return None
    work = what_if.workload
    times_ns = work.slow_rows_ns(times)
    made = sum(chunk.samples for chunk in work.chunks)
    evidence = []
    if times_ns and made:
        evidence.append(
            f"{len(times_ns)} of {made} samples took {times:.2g} times the usual "
            f"{spent(work.usual_row_ns)} or more, and {percent(_share(about, sum(times_ns)))} of "
            "the workers' time."
        )
    evidence += [
        f"Sample {each.index} took {spent(each.time_ns)}, {each.times_the_median:.0f} times the "
        f"median{'' if each.path is None else f': {each.path}'}."
        for each in slow[:NAMED]
    ]
    names = ", ".join(str(each.index) for each in slow[:NAMED])
    others = f" and {len(slow) - NAMED} others" if len(slow) > NAMED else ""
    them = "them" if len(slow) > 1 else "it"
    return about.finding(
        "slow_samples",
        share_fraction,
        evidence,
        f"Look at sample{'s' if len(slow) > 1 else ''} {names}{others}: "
        f"up to {slow[0].times_the_median:.0f} times the median. Make what is stored there "
        f"smaller, or leave {them} out.",
        predicted=what_if.predicted(what_if.lost_ns(Kept(slow_from=times))),
        samples=tuple(each.index for each in slow),
    )


def _share(about: LoaderCase, slow_ns: int) -> float:
    assert about.what_if is not None
    chunks = about.what_if.workload.chunks
    busy_ns = sum(chunk.ended_ns - chunk.began_ns for chunk in chunks)
    return min(1.0, slow_ns / busy_ns) if busy_ns else 0.0
