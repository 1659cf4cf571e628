"""How a ring is run, as one value that its processes are given at their start."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RingSettings:
    """What the nursery and its workers have to know besides the recipe."""

    num_workers: int
    """Workers to begin with, 1 or more."""
    worker_init_fn: Callable[[int], None] | None = None
    """Called with the worker's number in each worker before its first sample."""
    seed: int = 0
    """Of the generators that workers start with; samples of map-style datasets have their own."""
    chunk_samples: int | None = None
    """Rows that one worker writes at a time; ``None`` goes by how long a sample takes."""
    stream_batch_size: int | None = None
    """Samples a batch of an ``IterableDataset``; ``None`` gives single samples."""
    drop_last: bool = False
    """Whether a stream's last batch that is not full is left out."""
    sample_timeout_s: float | None = None
    """How long one sample may take before it counts as stuck; ``None`` is for ever."""
    timeout_follows: bool = False
    """Whether the limit grows with the longest sample seen, and is long until there is one."""
    finds_all_bad: bool = False
    """Whether the samples after a bad one are made too, to find all bad ones at one go."""
    worker_cores: tuple[int, ...] | None = None
    """The cores that workers run on, those near the accelerator; ``None`` is wherever the training
    process may run."""
    may_restart: bool = False
    """Whether, if nothing moves at the first batch, a fresh interpreter may be the remedy."""
