"""One rank that holds the others up."""

from lightning_fastdata.stalls.case import Case
from lightning_fastdata.stalls.finding import Finding
from lightning_fastdata.stalls.thresholds import percent


def straggling_rank(case: Case) -> Finding | None:
    """Blame the rank that waits longest for data in most intervals."""
    found, limits = case.straggling, case.limits
    rank = found.worst
    if rank is None or found.by_rank[rank] < limits.straggle_intervals_fraction:
        return None
    cost = found.cost_by_rank[rank]
    windows = [ranks[rank] for ranks in case.record.ranks if rank < len(ranks)]
    waited_ns = sum(each.host_wait_ns for each in windows)
    wall_ns = max(1, sum(each.wall_ns for each in windows))
    return Finding(
        cause="rank_straggler",
        stall_fraction=min(1.0, cost),
        evidence=(
            f"Rank {rank} waited longest for data in {percent(found.by_rank[rank])} of intervals, "
            f"and {percent(cost)} of the time longer than the median of the others.",
            f"It waited for data in {percent(min(1.0, waited_ns / wall_ns))} of its time. Ranks "
            "train in step: all of them wait for it.",
        ),
        advice=f"Look at rank {rank}'s machine and its part of the data: its loader alone is slow.",
    )
