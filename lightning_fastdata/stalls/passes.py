"""Batches as the passes that they belong to."""

from collections.abc import Iterable

from lightning_fastdata.trace import BatchTimes


def passes_of(batches: Iterable[BatchTimes]) -> list[list[BatchTimes]]:
    """Part batches where a new pass over the data begins. Each pass starts with empty queues."""
    passes: list[list[BatchTimes]] = []
    before: int | None = None
    for batch in batches:
        if before is None or batch.number <= before:
            passes.append([])
        passes[-1].append(batch)
        before = batch.number
    return passes
