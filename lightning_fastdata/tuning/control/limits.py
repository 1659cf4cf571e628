"""What a controller may do, as one value."""

from dataclasses import dataclass

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.plan import EngineName


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlLimits:
    """Within which numbers of workers a controller chooses, and what for.

    Raises:
        SettingsError: If a number is out of its range.
    """

    most_workers: int
    """The budget, which is never exceeded."""
    least_workers: int
    """0 where the training process makes batches now and workers could take over; 1 with workers.
    What has workers keeps at least one."""
    cores: float
    """That workers and training process share."""
    max_stall_fraction: float
    """The share of training time (0 to 1) that may be stall. Near 0: more workers."""
    is_cut: bool
    """Whether several workers may write one batch; ``False``: a ``collate_fn`` of its own."""
    engine: EngineName = "ring"
    """Whose workers there would be."""

    def __post_init__(self) -> None:
        if not 0 <= self.least_workers <= self.most_workers:
            raise SettingsError(
                f"least_workers is {self.least_workers} and most_workers {self.most_workers}, "
                "wanted is 0 <= least_workers <= most_workers. Swap them, or raise the budget."
            )
        if self.cores <= 0.0 or not 0.0 <= self.max_stall_fraction <= 1.0:
            raise SettingsError(
                f"cores is {self.cores} and max_stall_fraction {self.max_stall_fraction}, wanted "
                "are more than 0 cores and a share from 0 to 1. Pass what the machine has."
            )
