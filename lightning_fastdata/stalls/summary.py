"""A trace becomes a ``StallSummary``: where the time of a training step went."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lightning_fastdata.stalls.detail import RunDetail
from lightning_fastdata.stalls.figures import (
    EpochFigures,
    LineShare,
    RankFigures,
    RunFacts,
    SlowSample,
    WorkerFigures,
)
from lightning_fastdata.stalls.finding import Finding, FollowedAdvice
from lightning_fastdata.stalls.notebook import summary_html
from lightning_fastdata.stalls.worker_changes import WorkerChange
from lightning_fastdata.trace import (
    WARMUP_STEPS,
    Clock,
    Part,
    StallTrace,
    StepTotals,
    WaitHistogram,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCHEMA_VERSION = 2
"""Of the JSON form. Raised when a field changes its meaning or goes away."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class StallSummary:
    """Where the time of a training run went, and how much of it was spent waiting for data.

    Sums are over the *steady* steps: not the first of each epoch, and not the warm-up (the next
    20) where at least as many steps follow it. To the nanosecond,
    ``exposed_stall_ns + transfer_ns + compute_ns + other_host_ns`` is ``wall_ns``. With several
    processes, each has its own summary.
    """

    steps: int
    """Steady steps that the sums are over. Below about 20, read the figures as a first hint."""
    steps_left_out: int
    """Steps outside the sums (edges, warm-up, unreadable). High beside ``steps``: a short run."""
    wall_ns: int
    """Wall time of the steady steps, validation left out."""
    stall_fraction: float | None
    """Share (0 to 1) of ``wall_ns`` lost to data. Low: the loader keeps up. High: training starves.
    ``None`` without a steady step."""
    exposed_stall_ns: int
    """Time the device stood still for want of a batch. High: what a better loader can win."""
    hidden_wait_ns: int | None
    """Time the host waited while the device still had work. High is harmless; low beside a high
    exposed stall: nothing is queued ahead. 0 on a CPU; ``None`` where the device is not watched."""
    transfer_ns: int
    """Time to bring batches to the device, between computing. High: unpinned, or large batches."""
    compute_ns: int
    """Forward, backward and optimiser. A high share is good: the model is the limit."""
    other_host_ns: int
    """Everything else in a step: callbacks, logging, checkpoints. High: look there, not at data."""
    validation_ns: int
    """Time between steady steps in which validation ran. Not part of ``wall_ns``."""
    first_batch_ns: int | None
    """From asking for the loader to the first batch in hand. High: workers or the dataset start
    slowly. ``None`` where it could not be measured."""
    epoch_start_ns: tuple[int, ...]
    """Time to the first batch of each later epoch (the newest 256). High: workers start again."""
    wait_p50_ns: int | None
    """Median time that the host waited for a batch. High: the loader is slow throughout."""
    wait_p95_ns: int | None
    """One wait in twenty is longer. High beside the median: now and then a batch is late."""
    wait_p99_ns: int | None
    """One wait in a hundred is longer. High beside the median: a few slow samples or files."""
    clock: Clock
    """``cuda``: times are the device's own. ``host``: the process's; each wait counts in full."""
    device: str
    """Kind of device that trained, such as ``cuda`` or ``cpu``."""
    samples_per_s: float | None
    """Samples this process trained a second of ``wall_ns``. High is fast. ``None``: not known."""
    checkpoint_ns: int = 0
    """The part of ``other_host_ns`` in which checkpoints were saved. High: save more rarely."""
    logging_ns: int = 0
    """The part of ``other_host_ns`` that loggers took. High: log more rarely, or elsewhere."""
    drained_fraction: float | None = None
    """Share of steps (0 to 1) at which the device had nothing left to do when the loop asked for
    the next batch. Near 1 with short waits: the loop itself waits for the device each step.
    ``None`` where the device is not watched."""
    worker_stage_fractions: Mapping[str, float] = field(default_factory=dict)
    """Share of the workers' time (0 to 1) by what they did: named stages, collating, the rest as
    ``samples``. High: that is what a cheaper step would save."""
    workers: WorkerFigures | None = None
    """What the loader's workers did; ``None`` where they could not be watched."""
    worker_lines: tuple[LineShare, ...] = ()
    """Lines of the dataset's code that took most of the workers' time."""
    host_lines: tuple[LineShare, ...] = ()
    """Lines outside forward and backward that took most of the training process's time."""
    slow_samples: tuple[SlowSample, ...] = ()
    """The slowest samples, the slowest first."""
    findings: tuple[Finding, ...] = ()
    """What to change, the most costly first. Empty: nothing was found."""
    followed: tuple[FollowedAdvice, ...] = ()
    """Advice of the earlier run in the same folder that this run followed."""
    epochs: tuple[EpochFigures, ...] = ()
    """The newest epochs one by one. A first one that is slow alone: the data was cold."""
    worker_changes: tuple[WorkerChange, ...] = ()
    """How the number of workers changed while training ran, the oldest first (the newest 256 of
    each loader). Many: something disturbs the run."""
    ranks: tuple[RankFigures, ...] = ()
    """Each process of a run of several; empty for one."""
    run: RunFacts | None = None
    """How the run was set up, and where it ran."""
    detail: RunDetail = field(default_factory=RunDetail)
    """What pictures are drawn from."""
    bad_samples: tuple[str, ...] = ()
    """Samples of the run's datasets that could not be made, each with its error. Many: look at the
    storage, or at how the files were written."""
    problem: str | None
    """What kept a part of the run from being measured; ``None`` is a whole measurement."""

    def to_json(self) -> str:
        """Return all fields, with the version of their meaning, as JSON text."""
        from lightning_fastdata.stalls.json_form import summary_to_json

        return summary_to_json(self)

    def plot(self) -> "Figure":
        """Draw where the time went, as a matplotlib figure to show or to save.

        Raises:
            MissingExtraError: matplotlib is not installed (the extra ``plot``).
        """
        from lightning_fastdata.stalls.plot import plot_summary

        return plot_summary(self)

    def __repr__(self) -> str:
        """Say the least that tells runs apart; ``to_json`` gives everything."""
        stall = self.stall_fraction
        first = repr(self.findings[0].cause) if self.findings else None
        return (
            f"StallSummary(steps={self.steps}, "
            f"stall_fraction={None if stall is None else f'{stall:.3f}'}, first_finding={first})"
        )

    def _repr_html_(self) -> str:
        return summary_html(self)


def summarise(trace: StallTrace) -> StallSummary:
    """Say where the time of the recorded steps went."""
    totals = _steady_totals(trace)
    wall_ns = _wall_ns(totals)
    exposed_ns = totals.parts_ns[Part.WAIT]
    knows_samples = totals.samples is not None and totals.steps and wall_ns
    return StallSummary(
        steps=totals.steps,
        steps_left_out=trace.steps_seen - totals.steps,
        wall_ns=wall_ns,
        stall_fraction=exposed_ns / wall_ns if wall_ns else None,
        exposed_stall_ns=exposed_ns,
        hidden_wait_ns=_hidden_wait_ns(trace, totals),
        transfer_ns=totals.parts_ns[Part.TRANSFER],
        compute_ns=totals.parts_ns[Part.COMPUTE],
        other_host_ns=sum(
            totals.parts_ns[part] for part in (Part.OTHER, Part.CHECKPOINT, Part.LOGGING)
        ),
        checkpoint_ns=totals.parts_ns[Part.CHECKPOINT],
        logging_ns=totals.parts_ns[Part.LOGGING],
        drained_fraction=totals.drained / totals.looked_at if totals.looked_at else None,
        validation_ns=totals.parts_ns[Part.VALIDATION],
        first_batch_ns=trace.first_batch_ns,
        epoch_start_ns=tuple(trace.epoch_start_ns),
        wait_p50_ns=totals.waits.quantile_ns(0.50),
        wait_p95_ns=totals.waits.quantile_ns(0.95),
        wait_p99_ns=totals.waits.quantile_ns(0.99),
        clock=trace.clock,
        device=trace.device_type,
        samples_per_s=(totals.samples or 0) / (wall_ns / 1e9) if knows_samples else None,
        problem=trace.problem,
    )


def _wall_ns(totals: StepTotals) -> int:
    return sum(totals.parts_ns) - totals.parts_ns[Part.VALIDATION]


def _steady_totals(trace: StallTrace) -> StepTotals:
    """Leave the warm-up out, unless that would leave fewer steps than it has itself."""
    warmup, steady = trace.warmup, trace.steady
    if steady.steps >= WARMUP_STEPS:
        return steady
    both = StepTotals(
        steps=warmup.steps + steady.steps,
        parts_ns=[sum(pair) for pair in zip(warmup.parts_ns, steady.parts_ns, strict=True)],
        hidden_wait_ns=warmup.hidden_wait_ns + steady.hidden_wait_ns,
        waits=WaitHistogram(),
        looked_at=warmup.looked_at + steady.looked_at,
        drained=warmup.drained + steady.drained,
    )
    if warmup.samples is None or steady.samples is None:
        both.samples = None
    else:
        both.samples = warmup.samples + steady.samples
    both.waits.counts = dict(Counter(warmup.waits.counts) + Counter(steady.waits.counts))
    return both


def _hidden_wait_ns(trace: StallTrace, totals: StepTotals) -> int | None:
    if trace.clock == "host" and trace.device_type != "cpu":
        return None
    return totals.hidden_wait_ns
