"""What one batch costs, found by making a few samples of it."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor

from lightning_fastdata.order import EpochKey, permute

MIN_SAMPLES, MAX_SAMPLES = 3, 24  # guess: the spread of JPEG sizes shows from about ten on
BUDGET_NS = 400_000_000  # of reading single samples; a slow disk is then seen with three
WHOLE_BATCH_NS = 100_000_000  # a batch expected to take less is measured whole


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeFacts:
    """What was measured on a few samples in the training process."""

    samples: int
    """How many samples were read; few on slow storage."""
    batch_wall_ns: int
    """Time one process needs for a batch. High: workers pay off."""
    batch_cpu_ns: int
    """CPU time in it. Far below the wall time: the samples wait for storage, not for a core."""
    batch_bytes: int
    """Memory of the tensors and arrays of one batch. High: handing it between processes costs."""


class LeftOutError(Exception):
    """Some of the samples cannot be made; the others may be tried.

    Args:
        left: These others.
    """

    def __init__(self, left: Sequence[int]) -> None:
        super().__init__(f"{len(left)} samples can be made")
        self.left = left


def probe_batches(
    make: Callable[[Sequence[int]], Any], *, length: int, batch_size: int, reads_whole: bool
) -> ProbeFacts | None:
    """Measure what a batch costs in this process.

    Args:
        make: Makes the batch of the given samples; raises ``LeftOutError`` where bad ones are to be
            left out.
        length: Samples in the dataset, 1 or more.
        batch_size: Samples a batch.
        reads_whole: Whether the dataset makes a batch at one go, so that only whole ones tell.

    Returns:
        Costs scaled to one batch; ``None`` if no sample could be made. The first call is left out:
        it pays for imports and caches.
    """
    order = EpochKey(seed=0, epoch=0)
    size = min(batch_size, length)
    drawn = permute(np.arange(min(length, 3 * size + MAX_SAMPLES)), length, order).tolist()
    if reads_whole:
        few = min(size, MIN_SAMPLES)
        _, again = (_cost(make, drawn[:few]) for _ in range(2))
        if again is not None and again[0] * size > BUDGET_NS * few:
            return _scaled([again], few, batch_size)
        return _scaled([_cost(make, drawn[:size]) for _ in range(2)], size, batch_size)
    spent_ns = 0.0
    costs: list[_Cost | None] = []
    for index in drawn[:MAX_SAMPLES]:
        cost = _cost(make, [index])
        if cost is None:
            continue
        costs.append(cost)
        spent_ns += cost[0]
        if spent_ns > BUDGET_NS and len(costs) >= MIN_SAMPLES:
            break
    facts = _scaled(costs[1:] or costs, 1, batch_size)
    if facts is None or facts.batch_wall_ns > WHOLE_BATCH_NS:
        return facts
    batches = [_cost(make, drawn[k * size : (k + 1) * size] or drawn[:size]) for k in range(3)]
    return _scaled(batches, size, batch_size)


_Cost = tuple[float, float, float]


def _cost(make: Callable[[Sequence[int]], Any], indices: Sequence[int]) -> _Cost | None:
    """Wall and CPU time and bytes of as many samples; ``None`` if none of them can be made."""
    wanted = len(indices)
    while indices:
        cpu_ns, wall_ns = time.process_time_ns(), time.perf_counter_ns()
        try:
            batch = make(indices)
        except LeftOutError as error:
            indices = error.left
            continue
        wall_ns, cpu_ns = time.perf_counter_ns() - wall_ns, time.process_time_ns() - cpu_ns
        scale = wanted / len(indices)
        return wall_ns * scale, cpu_ns * scale, count_bytes(batch) * scale
    return None


def _scaled(all_costs: Sequence[_Cost | None], size: int, batch_size: int) -> ProbeFacts | None:
    costs = [cost for cost in all_costs if cost is not None]
    if not costs:
        return None
    # A batch adds its samples up, so single samples are averaged; whole batches repeat each other,
    # and their median leaves out a moment when the machine was busy.
    middle = statistics.mean if size == 1 else statistics.median
    columns = zip(*costs, strict=True)
    wall_ns, cpu_ns, size_bytes = (middle(column) * batch_size / size for column in columns)
    return ProbeFacts(
        samples=len(costs) * size,
        batch_wall_ns=round(wall_ns),
        batch_cpu_ns=round(cpu_ns),
        batch_bytes=round(size_bytes),
    )


def count_bytes(batch: Any) -> int:
    """Bytes of all tensors, arrays and texts in a nested batch."""
    if isinstance(batch, Tensor):
        return batch.numel() * batch.element_size()
    if isinstance(batch, np.ndarray):
        return int(batch.nbytes)
    if isinstance(batch, (str, bytes)):
        return len(batch)
    if isinstance(batch, Mapping):
        return sum(count_bytes(value) for value in batch.values())
    if isinstance(batch, (list, tuple)):
        return sum(count_bytes(value) for value in batch)
    if is_dataclass(batch):
        return sum(count_bytes(getattr(batch, field.name)) for field in fields(batch))
    return 0
