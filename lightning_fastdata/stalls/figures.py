"""The parts of a summary: plain values that JSON holds."""

from dataclasses import dataclass

from lightning_fastdata.trace import LoaderSetup, MachineFacts, Part


@dataclass(frozen=True, kw_only=True, slots=True)
class LineShare:
    """A line of code and its share of the time."""

    file: str
    line: int
    function: str
    text: str
    """What stands in that line; empty where the file cannot be read."""
    fraction: float
    """Share (0 to 1) of the looks at a stack that found it there."""
    part: str = ""
    """Of the training process: what it was doing, by the name of the part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SlowSample:
    """A sample that took long to make."""

    index: int | str
    """Its index, or the text of its key."""
    path: str | None
    """Its file, where the dataset knows it."""
    time_ns: int
    times_the_median: float
    """How many times the median sample's time. High beside others: look at this file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerFigures:
    """What a loader's workers did."""

    num_workers: int
    batches: int
    samples: int
    busy_fraction: float | None
    """Share of their time (0 to 1) that they were at work. Near 1: they are the limit. Low: there
    are more than are needed."""
    cpu_fraction: float
    """Share of their work that was computing. Low: they wait, for storage or for each other."""
    core_wait_fraction: float | None
    """Share of their work that they waited for a core. High: more processes than cores."""
    sample_p50_ns: int | None
    """Time to make the median sample."""
    sample_p99_ns: int | None
    """One sample in a hundred takes longer (means of the chunks in which they were made)."""
    read_bytes: int
    """From storage."""
    cached_bytes: int | None
    """From the page cache. High beside ``read_bytes``: the data lies in memory."""
    major_faults: int
    """Pages of memory maps read from storage."""
    slot_wait_fraction: float
    """Share of the run's wall time that batches waited for a free slot. High is harmless unless
    batches are kept."""
    transit_p50_ns: int | None
    """From a batch's end in the worker to its arrival. High: large batches between processes."""
    batch_bytes: int | None
    """Of a batch's tensors, the median."""
    ready_fraction: float | None
    """Share of batches that lay ready when they were wanted. Near 1: the loader keeps up."""
    why_no_change: str | None = None
    """Why their number stayed as it was though training waited in the last seconds; ``None``: it
    hardly waited, a change was being tried, or the number was not the loader's to change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochFigures:
    """One epoch, without its first step."""

    epoch: int
    steps: int
    stall_fraction: float | None
    start_ns: int | None
    """To its first batch."""
    wall_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RankFigures:
    """One process of several."""

    rank: int
    stall_fraction: float | None
    host_wait_ns: int
    straggled_fraction: float
    """Share of the intervals (0 to 1) in which this rank waited longest for data, by a margin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """How a run was set up, and where it ran."""

    loaders: tuple[LoaderSetup, ...] = ()
    machine: MachineFacts | None = None
    settings: tuple[tuple[str, str | int | float | bool | None], ...] = ()
    """Of the Trainer."""
    started_at: str | None = None
    """When training began: date and time with its offset, by ISO 8601."""
    script: str | None = None
    """The file that was run, without its folder, or ``notebook``."""


PART_NAMES = {
    Part.WAIT: "wait",
    Part.TRANSFER: "transfer",
    Part.COMPUTE: "compute",
    Part.OTHER: "other",
    Part.VALIDATION: "validation",
    Part.CHECKPOINT: "checkpoint",
    Part.LOGGING: "logging",
}
