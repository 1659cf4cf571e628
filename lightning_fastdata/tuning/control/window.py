"""What a stretch of training showed of a loader, as one value."""

from dataclasses import dataclass

from lightning_fastdata.tuning.replay import BatchCost


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Some seconds of training with one number of workers."""

    began_ns: int
    """By ``time.perf_counter_ns``."""
    ended_ns: int
    num_workers: int
    """0 is the training process itself."""
    batches: int
    """That training got, 1 or more."""
    busy_ns: int
    """Of training: all that was no stall, and no pause (validation, saving)."""
    stall_ns: int
    """In which training stood still for a batch."""
    ready_fraction: float
    """Share of the batches (0 to 1) that lay ready when they were wanted. Near 1: the loader keeps
    up."""
    costs: tuple[BatchCost, ...]
    """Of the newest batches, as they were with this number of workers; empty where not known."""
    work_ns: int
    """Workers' time on all batches, together."""
    cpu_ns: int
    """Of it, on a core."""
    core_wait_ns: int | None
    """Of it, ready to run without a free core; ``None`` where the kernel does not say."""
    host_cores: float = 0.0
    """Cores' worth that the training process computed, by its mean over ``busy_ns + stall_ns``; not
    counted are batches that it made itself."""
    is_new_pass: bool = False
    """Whether a pass began in it, with empty queues."""

    @property
    def stall_fraction(self) -> float:
        """Share of the training time (0 to 1) that was stall."""
        whole_ns = self.busy_ns + self.stall_ns
        return self.stall_ns / whole_ns if whole_ns else 0.0

    @property
    def step_ns(self) -> int:
        """The mean step without its stall."""
        return self.busy_ns // max(1, self.batches)
