"""One whole run as recorded: the steps, the loaders, the processes and the machine."""

from collections import Counter
from dataclasses import dataclass, field

from lightning_fastdata.trace.changes import PlanChange
from lightning_fastdata.trace.record import Part
from lightning_fastdata.trace.stall_trace import StallTrace
from lightning_fastdata.trace.work import Line, WorkTrace


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderSetup:
    """How a training loader was set up, whoever made it."""

    name: str
    """Where several loaders train together, which one; else empty."""
    is_ours: bool
    """Whether it is a ``FastDataLoader``."""
    engine: str
    """``inline``, ``ring`` or ``torch``."""
    num_workers: int
    prefetch_batches: int
    """Batches in flight at most."""
    batch_size: int | None
    pin_memory: bool
    persistent_workers: bool
    in_order: bool
    has_length: bool
    samples: int | None
    """Samples of the dataset; ``None`` where it does not say."""
    dataset: str
    """The class of the dataset."""
    start_method: str | None = None
    is_stream: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineFacts:
    """Where a run ran."""

    cores: float
    """Cores that this process and its workers may use."""
    local_ranks: int
    """Training processes on this machine, which share its cores."""
    memory_bytes: int | None
    cpu: str
    device: str
    """The accelerator's name, or ``cpu``."""
    versions: tuple[tuple[str, str], ...]
    """Package and version."""


@dataclass(kw_only=True, slots=True)
class LoaderRecord:
    """One training loader of a run."""

    setup: LoaderSetup
    work: WorkTrace
    paths: dict[str, str] = field(default_factory=dict)
    """``repr`` of a slow sample's index to its file, where the dataset knows it."""
    changes: tuple[PlanChange, ...] = ()
    """How its number of workers changed, the oldest first."""
    why_no_change: str | None = None
    """Why it stayed as it was though training waited in the last seconds; ``None`` otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankWindow:
    """What one rank measured in one interval of steps."""

    steps: int
    wall_ns: int
    stall_ns: int
    host_wait_ns: int


@dataclass(kw_only=True, slots=True)
class RunRecord:
    """Everything that was recorded of one run on this rank, and of the others in short."""

    stall: StallTrace
    loaders: list[LoaderRecord] = field(default_factory=list)
    machine: MachineFacts | None = None
    host_lines: dict[Part, Counter[Line]] = field(default_factory=dict)
    """How often a look at the training process's stack found it at a line, by what it was doing."""
    host_looks: Counter[Part] = field(default_factory=Counter)
    rank: int = 0
    ranks: list[list[RankWindow]] = field(default_factory=list)
    """By interval, then by rank; empty in a run of one process."""
    settings: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    """Of the trainer, where advice may change them: ``val_check_interval`` and so on."""
    host_cpu_cores: float | None = None
    """Cores that the training process itself kept busy while it trained, by its mean; ``None`` is
    not known."""
    started_at: str | None = None
    """When training began: date and time with its offset, by ISO 8601."""
    script: str | None = None
    """The file that was run, without its folder, or ``notebook``."""
