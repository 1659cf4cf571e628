"""Runs that never took place: a plain loop over torch's round robin, on a clock of its own."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from lightning_fastdata.trace import (
    BatchTimes,
    ChunkTimes,
    Clock,
    EpochTotals,
    Line,
    LoaderRecord,
    LoaderSetup,
    MachineFacts,
    Part,
    RunRecord,
    StallTrace,
    StepTimes,
    WorkTrace,
)

MS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is done in a run. Times are of one worker that is not disturbed."""

    num_workers: int = 4
    prefetch_factor: int = 2
    epochs: int = 1
    batches: int = 200
    batch_size: int = 8
    step_ns: int = 20 * MS
    sample_ns: Callable[[int, int], int] = field(default=lambda epoch, index: 2 * MS)
    cpu_fraction: float = 1.0
    stretch: float = 1.0
    """By how much computing takes longer because cores are missing."""
    next_ns: int = 0
    next_every: int = 1
    """Of so many batches one takes ``next_ns``, the others nothing."""
    transit_ns: int = 0
    epoch_start_ns: int = 5 * MS
    logging_ns: int = 0
    other_ns: int = 0
    checkpoint_ns: int = 0
    validation_ns: int = 0
    validation_every: int = 5
    read_bytes: int = 0
    """A sample."""
    major_faults: int = 0
    """A batch."""
    line: Line | None = None
    transform_fraction: float = 0.0
    batch_bytes: int | None = None
    cores: float = 8.0
    host_cpu_cores: float | None = None
    is_ours: bool = False
    is_watched: bool = True
    persistent_workers: bool = True
    pin_memory: bool = False
    clock: Clock = "host"
    device: str = "cpu"
    transfer_ns: int = 0
    is_drained: bool | None = None
    settings: dict[str, str | int | float | bool | None] = field(default_factory=dict)


def setup_of(run: Run, name: str = "") -> LoaderSetup:
    return LoaderSetup(
        name=name,
        is_ours=run.is_ours,
        engine="torch" if run.num_workers else "inline",
        num_workers=run.num_workers,
        prefetch_batches=run.num_workers * run.prefetch_factor,
        batch_size=run.batch_size,
        pin_memory=run.pin_memory,
        persistent_workers=run.persistent_workers,
        in_order=True,
        has_length=True,
        samples=run.batches * run.batch_size,
        dataset="Pictures",
    )


def machine_with(cores: float) -> MachineFacts:
    return MachineFacts(
        cores=cores, local_ranks=1, memory_bytes=None, cpu="a", device="cpu", versions=()
    )


def recorded(run: Run) -> RunRecord:
    """Run it, and return what would have been recorded."""
    stall = StallTrace(clock=run.clock, device_type=run.device)
    work = WorkTrace()
    now_ns = 1_000 * MS
    for epoch in range(run.epochs):
        now_ns = _epoch(run, epoch, now_ns, stall, work)
    loader = LoaderRecord(setup=setup_of(run), work=work)
    return RunRecord(
        stall=stall,
        loaders=[loader],
        machine=machine_with(run.cores),
        settings=dict(run.settings),
        host_cpu_cores=run.host_cpu_cores,
    )


def stall_after(run: Run, **changes: object) -> float:
    """The stall that the same loop has with other settings."""
    totals = recorded(replace(run, **changes)).stall  # type: ignore[arg-type]
    parts = [sum(pair) for pair in zip(totals.warmup.parts_ns, totals.steady.parts_ns, strict=True)]
    return parts[Part.WAIT] / (sum(parts) - parts[Part.VALIDATION])


def _epoch(run: Run, epoch: int, now_ns: int, stall: StallTrace, work: WorkTrace) -> int:
    asked_ns = now_ns
    workers = run.num_workers
    free_ns = [now_ns + run.epoch_start_ns] * max(1, workers)
    taken_at: list[int] = []
    now_ns += run.epoch_start_ns if epoch else 0
    ended_ns = now_ns
    for number in range(run.batches):
        wanted_ns = ended_ns + _pause_ns(run, number)
        flight = workers * run.prefetch_factor
        sent_ns = asked_ns if number < flight else taken_at[number - flight] if flight else None
        began_ns = wanted_ns
        if sent_ns is not None:
            began_ns = max(sent_ns, free_ns[number % workers])
        chunk = _chunk(run, epoch, number, began_ns)
        if workers:
            free_ns[number % workers] = chunk.ended_ns
        arrived_ns = chunk.ended_ns + (run.transit_ns if workers else 0)
        next_ns = run.next_ns if workers and number % run.next_every == 0 else 0
        taken_ns = max(wanted_ns, arrived_ns) + next_ns
        taken_at.append(taken_ns)
        work.add(
            BatchTimes(
                number=number,
                asked_ns=wanted_ns if sent_ns is None else sent_ns,
                sent_ns=sent_ns,
                arrived_ns=arrived_ns if workers else None,
                wanted_ns=wanted_ns,
                taken_ns=taken_ns,
                size_bytes=run.batch_bytes,
                chunks=(chunk,) if run.is_watched else (),
            )
        )
        stall.steps_seen += 1
        if number == 0:
            start_ns = taken_ns - asked_ns if epoch else None
            stall.epochs.append(EpochTotals(epoch=epoch, start_ns=start_ns))
        else:
            stall.add(_step(run, ended_ns, wanted_ns, taken_ns))
        ended_ns = taken_ns + run.transfer_ns + run.step_ns
    return ended_ns


def _pause_ns(run: Run, number: int) -> int:
    validation_ns = run.validation_ns if number % run.validation_every == 0 else 0
    if number == 0:
        return 0
    return run.other_ns + run.logging_ns + run.checkpoint_ns + validation_ns


def _chunk(run: Run, epoch: int, number: int, began_ns: int) -> ChunkTimes:
    first = number * run.batch_size
    alone_ns = [run.sample_ns(epoch, index) for index in range(first, first + run.batch_size)]
    slower = 1 + run.cpu_fraction * (run.stretch - 1)
    samples_ns = [round(each * slower) for each in alone_ns]
    cpu_ns = round(sum(alone_ns) * run.cpu_fraction)
    slowest = sorted(enumerate(samples_ns), key=lambda entry: -entry[1])[:3]
    wall_ns = sum(samples_ns)
    return ChunkTimes(
        worker=number % run.num_workers if run.num_workers else None,
        samples=run.batch_size,
        began_ns=began_ns,
        ended_ns=began_ns + wall_ns,
        cpu_ns=cpu_ns,
        page_faults=0,
        read_bytes=run.read_bytes * run.batch_size,
        major_faults=run.major_faults,
        core_wait_ns=round(cpu_ns * (run.stretch - 1)),
        transform_ns=round(wall_ns * run.transform_fraction),
        slowest=tuple((row, first + row, ns) for row, ns in slowest),
        lines=() if run.line is None else ((run.line, 6),),
        looks=10,
    )


def _step(run: Run, began_ns: int, wanted_ns: int, taken_ns: int) -> StepTimes:
    parts_ns = [0] * len(Part)
    spans: list[tuple[Part, int, int]] = []
    at_ns = began_ns
    left_ns = wanted_ns - began_ns
    validation_ns = left_ns - run.other_ns - run.logging_ns - run.checkpoint_ns
    for part, part_ns in (
        (Part.LOGGING, run.logging_ns),
        (Part.CHECKPOINT, run.checkpoint_ns),
        (Part.OTHER, run.other_ns),
        (Part.VALIDATION, validation_ns),
        (Part.WAIT, taken_ns - wanted_ns),
        (Part.TRANSFER, run.transfer_ns),
        (Part.COMPUTE, run.step_ns),
    ):
        if part_ns:
            spans.append((part, at_ns, at_ns + part_ns))
        parts_ns[part] += part_ns
        at_ns += part_ns
    return StepTimes(
        parts_ns=tuple(parts_ns),
        host_wait_ns=taken_ns - wanted_ns,
        samples=run.batch_size,
        spans=tuple(spans),
        was_drained=run.is_drained,
    )


def line_counts(*lines: tuple[Line, int]) -> Counter[Line]:
    return Counter(dict(lines))
