"""Which process of several waits longest for its data, and what that costs all of them."""

from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from lightning_fastdata.stalls.figures import RankFigures
from lightning_fastdata.trace import RankWindow


@dataclass(frozen=True, kw_only=True, slots=True)
class Straggling:
    """How ranks waited beside each other."""

    by_rank: tuple[float, ...] = ()
    """Share of the intervals (0 to 1) in which each waited longest, by a margin."""
    cost_by_rank: tuple[float, ...] = ()
    """Share of the wall time that each held the others up in these intervals."""
    switches_fraction: float = 0.0
    """Share of the straggled intervals whose straggler was another one than in the one before."""

    @property
    def worst(self) -> int | None:
        """The rank that straggled most often; ``None`` where none did."""
        if not any(self.by_rank):
            return None
        return max(range(len(self.by_rank)), key=self.by_rank.__getitem__)


def straggling(ranks: list[list[RankWindow]], margin_fraction: float) -> Straggling:
    """Compare how long the ranks waited for data, interval by interval."""
    intervals = [windows for windows in ranks if len(windows) > 1 and _wall_ns(windows)]
    if not intervals:
        return Straggling()
    world = max(len(windows) for windows in intervals)
    times, cost_ns = [0] * world, [0.0] * world
    stragglers: list[int] = []
    for windows in intervals:
        longest = max(range(len(windows)), key=lambda rank: windows[rank].host_wait_ns)
        others = [each.host_wait_ns for rank, each in enumerate(windows) if rank != longest]
        excess_ns = windows[longest].host_wait_ns - median(others)
        if excess_ns > margin_fraction * _wall_ns(windows):
            times[longest] += 1
            cost_ns[longest] += excess_ns
            stragglers.append(longest)
    wall_ns = sum(_wall_ns(windows) for windows in intervals)
    pairs = list(pairwise(stragglers))
    return Straggling(
        by_rank=tuple(count / len(intervals) for count in times),
        cost_by_rank=tuple(min(1.0, each / wall_ns) for each in cost_ns),
        switches_fraction=sum(a != b for a, b in pairs) / len(pairs) if pairs else 0.0,
    )


def rank_figures(ranks: list[list[RankWindow]], found: Straggling) -> tuple[RankFigures, ...]:
    """Return what each rank did over all intervals."""
    world = max((len(windows) for windows in ranks), default=0)
    figures = []
    for rank in range(world):
        mine = [windows[rank] for windows in ranks if rank < len(windows)]
        wall_ns = sum(each.wall_ns for each in mine)
        stall_ns = sum(each.stall_ns for each in mine)
        figures.append(
            RankFigures(
                rank=rank,
                stall_fraction=stall_ns / wall_ns if wall_ns else None,
                host_wait_ns=sum(each.host_wait_ns for each in mine),
                straggled_fraction=found.by_rank[rank] if rank < len(found.by_rank) else 0.0,
            )
        )
    return tuple(figures)


def _wall_ns(windows: list[RankWindow]) -> int:
    """Ranks train in step, so the longest is everybody's."""
    return max(each.wall_ns for each in windows)
