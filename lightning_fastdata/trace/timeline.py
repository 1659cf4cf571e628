"""A whole run in a bounded number of buckets, however long it is."""

from dataclasses import dataclass, field
from operator import add

from lightning_fastdata.trace.record import Part

MOST_BUCKETS = 512


@dataclass(kw_only=True, slots=True)
class Bucket:
    """Some consecutive steps."""

    steps: int
    began_ns: int
    """When the first of them began, on the host's clock."""
    parts_ns: list[int] = field(default_factory=lambda: [0] * len(Part))


class Timeline:
    """Sums of steps in buckets of equally many; when there are too many, two become one."""

    def __init__(self) -> None:
        self.buckets: list[Bucket] = []
        self._steps_each = 1

    def add(self, began_ns: int, parts_ns: tuple[int, ...]) -> None:
        """Add one step."""
        buckets = self.buckets
        if not buckets or buckets[-1].steps >= self._steps_each:
            if len(buckets) >= MOST_BUCKETS:
                self._halve()
            if not buckets or buckets[-1].steps >= self._steps_each:
                buckets.append(Bucket(steps=0, began_ns=began_ns))
        last = buckets[-1]
        last.steps += 1
        last.parts_ns[:] = map(add, last.parts_ns, parts_ns)

    def _halve(self) -> None:
        self._steps_each *= 2
        pairs = [self.buckets[k : k + 2] for k in range(0, len(self.buckets), 2)]
        self.buckets[:] = [
            Bucket(
                steps=sum(one.steps for one in pair),
                began_ns=pair[0].began_ns,
                parts_ns=[
                    sum(parts) for parts in zip(*(one.parts_ns for one in pair), strict=True)
                ],
            )
            for pair in pairs
        ]
