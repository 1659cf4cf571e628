"""What the user fixed, and where the loader runs: what the rule goes by."""

import math
from dataclasses import dataclass
from typing import Literal

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.plan import EngineName, StartMethod
from lightning_fastdata.tuning.remembered import Remembered


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What the user fixed; ``"auto"`` and ``None`` leave the choice open."""

    engine: EngineName | Literal["auto"] = "auto"
    num_workers: int | Literal["auto"] = "auto"
    prefetch_factor: int | None = None
    pin_memory: bool = False
    persistent_workers: bool | Literal["auto"] = "auto"
    start_method: StartMethod | None = None
    sample_timeout_s: float | Literal["auto"] | None = "auto"

    def __post_init__(self) -> None:
        workers, engine = self.num_workers, self.engine
        self._check_timeout()
        if engine not in ("auto", "inline", "ring", "torch"):
            raise SettingsError(
                f'engine={engine!r}, wanted "auto", "inline", "ring" or "torch". Leave it out for '
                '"auto".'
            )
        if workers != "auto" and (not isinstance(workers, int) or workers < 0):
            raise SettingsError(
                f'num_workers={workers!r}, wanted 0 or more, or "auto". 0 loads in the training '
                'process; "auto" measures.'
            )
        if engine == "inline" and workers not in ("auto", 0):
            raise SettingsError(
                f'engine="inline" with num_workers={workers}, wanted 0 workers: inline makes '
                'batches in the training process. Leave num_workers out, or pass engine="ring".'
            )
        if engine in ("ring", "torch") and workers == 0:
            raise SettingsError(
                f'engine="{engine}" with num_workers=0, wanted 1 worker or more. Leave engine out '
                "to load in the training process."
            )
        if self.prefetch_factor is not None and (self.prefetch_factor < 1 or workers == 0):
            raise SettingsError(
                f"prefetch_factor={self.prefetch_factor} with num_workers={workers}, wanted 1 or "
                "more batches a worker and a worker to prefetch them. Leave prefetch_factor out."
            )

    def _check_timeout(self) -> None:
        timeout_s = self.sample_timeout_s
        if timeout_s is None or timeout_s == "auto":
            return
        is_number = isinstance(timeout_s, (int, float)) and not isinstance(timeout_s, bool)
        if not is_number or not 0 < timeout_s < math.inf:
            raise SettingsError(
                f"sample_timeout_s={timeout_s!r}, wanted seconds above 0, None for no limit, or "
                '"auto". Leave it out for "auto".'
            )
        if self.num_workers == 0 or self.engine in ("inline", "torch"):
            raise SettingsError(
                f"sample_timeout_s={timeout_s!r} with num_workers={self.num_workers} and "
                f'engine="{self.engine}", wanted workers of the ring, which alone are watched. '
                "Leave sample_timeout_s out, or the others."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """Where the loader runs and what it is for."""

    cores: float
    """Cores this rank may use."""
    cores_reason: str = "this process may use them"
    memory_available_bytes: int | None = None
    shm_free_bytes: int | None = None
    files_free: int | None = None
    """Files that this process may still open."""
    batch_size: int = 1
    is_gather: bool = False
    """Whether batches are rows picked out of tensors in memory."""
    is_stream: bool = False
    """Whether the dataset is an ``IterableDataset``."""
    step_time_s: float | None = None
    """Time of one training step without waiting, where it is known."""
    max_stall_fraction: float = 0.02
    ring_problem: str | None = None
    """Why the ring cannot serve here; ``None`` where it can."""
    host_cores: float = 0.0
    """Cores' worth that training computes by itself. Near 0 with a GPU that does the work."""
    remembered: Remembered | None = None
    """What an earlier run came to, for the same dataset on the same kind of machine."""
