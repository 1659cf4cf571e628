"""What was decided, as values: how batches will be loaded, with the reason for each choice."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

EngineName = Literal["inline", "ring", "torch"]
StartMethod = Literal["fork", "forkserver", "spawn"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One way to load that was weighed for a plan, and what it was found to be worth."""

    engine: EngineName
    num_workers: int
    prefetch_batches: int
    predicted_stall_fraction: float | None
    """The share of a step that training would wait (0 to 1), by replay; ``None``: the step's time
    is not known."""
    predicted_batches_per_s: float | None
    """Batches that the loader would give, by replay. Much more than training takes: fewer workers
    do."""
    measured_stall_fraction: float | None = None
    """The same share, measured; ``None``: not tried."""
    measured_batches_per_s: float | None = None
    """Batches that it gave; ``None``: not tried."""
    memory_bytes: int | None = None
    """What batches in flight take; ``None`` is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderPlan:
    """How one loader makes its batches. A plan decides; the loader does what it says.

    ``reasons`` gives one sentence for each field that was chosen for the user; a field that the
    user fixed says so.
    """

    engine: EngineName
    """Who makes batches: ``inline`` (the training process), ``ring`` (workers that write them into
    shared memory) or ``torch`` (torch's own workers)."""
    num_workers: int
    """Worker processes; 0 with ``inline``. More than needed costs memory and slows training."""
    prefetch_batches: int
    """Batches made ahead at once, over all workers; 0 with ``inline``. Each costs memory."""
    pin_memory: bool
    """Whether batches are made in page-locked memory. True only when they go to a CUDA device."""
    persistent_workers: bool
    """Whether workers live on between epochs. False starts them again each epoch."""
    start_method: StartMethod | None
    """How workers are started; ``None`` is the platform's default (and always with ``inline``)."""
    sample_timeout_s: float | None = None
    """How long a worker may be at one sample before it counts as stuck; ``None`` is for ever."""
    sample_timeout_follows: bool = False
    """Whether that limit grows with the slowest sample that is seen (``"auto"``)."""
    predicted_stall_fraction: float | None = None
    """The share of a step that training is expected to wait (0 to 1); ``None`` is not predicted."""
    max_workers: int | None = None
    """The most workers that there may be once training shows how many it needs; ``None``: the
    number stays as it is."""
    cores: float | None = None
    """Cores that workers and training process of this rank share; ``None`` is not known."""
    worker_cores: tuple[int, ...] | None = None
    """The cores that workers run on, those near the accelerator; ``None``: wherever the training
    process may run."""
    shortage: str | None = None
    """What was too little for the plan that would have been made, and the remedy; ``None``: all
    was there."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Field name to the sentence that says why."""
    candidates: tuple[Candidate, ...] = ()
    """What was weighed, the fewest workers first; empty where a rule of thumb was enough."""
