"""What pictures of a run are drawn from, taken out of its record."""

from collections.abc import Iterator

from lightning_fastdata.stalls.detail import DepthPoint, LaneSpan, RunDetail, TimelineBucket
from lightning_fastdata.stalls.figures import PART_NAMES
from lightning_fastdata.stalls.work_figures import made_ns
from lightning_fastdata.trace import BatchTimes, Part, RunRecord, StepTimes

MOST_SPANS = 1_500
MOST_POINTS = 512
MOST_STEPS = 200  # guess: more are thinner than a line of the picture
HOST, DEVICE = "training process", "device"


def picture(record: RunRecord) -> RunDetail:
    """Return the whole run in buckets, and its newest steps in full."""
    steps = [step for step in record.stall.recent if step.spans][-MOST_STEPS:]
    batches = [batch for loader in record.loaders for batch in loader.work.recent]
    steps, spans = _newest_that_fit(steps, batches)
    if not steps:
        return RunDetail(timeline=_timeline(record))
    began_ns, ended_ns = _bounds(steps)
    return RunDetail(
        timeline=_timeline(record),
        spans=tuple(spans),
        depth=_depth(batches, began_ns, ended_ns),
        piece_ns=ended_ns - began_ns,
    )


def _timeline(record: RunRecord) -> tuple[TimelineBucket, ...]:
    buckets = record.stall.timeline.buckets
    first_ns = buckets[0].began_ns if buckets else 0
    return tuple(
        TimelineBucket(
            steps=bucket.steps,
            began_ns=max(0, bucket.began_ns - first_ns),
            wait_ns=bucket.parts_ns[Part.WAIT],
            transfer_ns=bucket.parts_ns[Part.TRANSFER],
            compute_ns=bucket.parts_ns[Part.COMPUTE],
            other_ns=bucket.parts_ns[Part.OTHER],
            validation_ns=bucket.parts_ns[Part.VALIDATION],
            checkpoint_ns=bucket.parts_ns[Part.CHECKPOINT],
            logging_ns=bucket.parts_ns[Part.LOGGING],
        )
        for bucket in buckets
    )


def _newest_that_fit(
    steps: list[StepTimes], batches: list[BatchTimes]
) -> tuple[list[StepTimes], list[LaneSpan]]:
    """Shorten the piece until all of its lanes can be drawn."""
    while steps:
        began_ns, ended_ns = _bounds(steps)
        spans = [
            *_step_spans(steps, began_ns),
            *_chunk_spans(batches, began_ns, ended_ns),
        ]
        if len(spans) <= MOST_SPANS:
            return steps, spans
        steps = steps[max(1, len(steps) // 4) :]
    return [], []


def _bounds(steps: list[StepTimes]) -> tuple[int, int]:
    return steps[0].spans[0][1], max(step.spans[-1][2] for step in steps)


def _step_spans(steps: list[StepTimes], piece_ns: int) -> Iterator[LaneSpan]:
    device_ns = 0
    for step in steps:
        # The device may be behind the host by work that was queued, never ahead of it.
        device_ns = max(device_ns, step.spans[0][1] - piece_ns)
        for place, (part, began_ns, ended_ns) in enumerate(step.spans):
            if ended_ns > began_ns:
                yield LaneSpan(
                    lane=HOST,
                    kind="host",
                    name=PART_NAMES[part],
                    began_ns=max(0, began_ns - piece_ns),
                    ended_ns=max(0, ended_ns - piece_ns),
                )
            if place < len(step.device_spans_ns) and step.device_spans_ns[place] > 0:
                until_ns = device_ns + step.device_spans_ns[place]
                yield LaneSpan(
                    lane=DEVICE,
                    kind="device",
                    name=PART_NAMES[part],
                    began_ns=device_ns,
                    ended_ns=until_ns,
                )
                device_ns = until_ns


def _chunk_spans(batches: list[BatchTimes], began_ns: int, ended_ns: int) -> Iterator[LaneSpan]:
    for batch in batches:
        for chunk in batch.chunks:
            if chunk.worker is None or chunk.ended_ns <= began_ns or chunk.began_ns >= ended_ns:
                continue
            yield LaneSpan(
                lane=f"worker {chunk.worker}",
                kind="worker",
                name=f"batch {batch.number}",
                began_ns=max(chunk.began_ns, began_ns) - began_ns,
                ended_ns=max(chunk.began_ns, min(chunk.ended_ns, ended_ns)) - began_ns,
            )


def _depth(batches: list[BatchTimes], began_ns: int, ended_ns: int) -> tuple[DepthPoint, ...]:
    changes: list[tuple[int, int]] = []
    for batch in batches:
        ready_ns = batch.arrived_ns
        if ready_ns is None and batch.chunks:
            ready_ns = made_ns(batch)
        if ready_ns is not None:
            changes.append((min(ready_ns, batch.taken_ns), 1))
            changes.append((batch.taken_ns, -1))
    changes.sort()  # a batch taken and one made in the same moment: first it leaves, then it comes
    ready, points = 0, [(0, 0)]
    for at_ns, change in changes:
        ready += change
        if at_ns > ended_ns:
            break
        points.append((max(0, at_ns - began_ns), max(0, ready)))
    latest: dict[int, int] = dict(points)  # of several in one moment, the last
    every = -(-len(latest) // MOST_POINTS)
    return tuple(DepthPoint(at_ns=at, ready=depth) for at, depth in list(latest.items())[::every])
