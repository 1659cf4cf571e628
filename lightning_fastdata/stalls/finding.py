"""What is wrong, as a value: a cause, its cost, the evidence, and one change."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Cause: TypeAlias = Literal[
    "too_few_workers",
    "too_many_workers",
    "cpu_saturated",
    "storage",
    "slow_samples",
    "ipc",
    "pinning",
    "transfer",
    "host_sync",
    "epoch_start",
    "host_other",
    "rank_straggler",
]
"""What training waits for."""

Setting: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingChange:
    """One argument to change."""

    name: str
    """As the loader, the data module or the Trainer calls it."""
    now: Setting
    then: Setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One cause of lost time. The most costly come first in ``StallSummary.findings``."""

    cause: Cause
    stall_fraction: float
    """Share (0 to 1) of the wall time that this cause costs. High: change this first."""
    evidence: tuple[str, ...]
    """Sentences with the figures that speak for it, the strongest first."""
    advice: str
    """One change to make."""
    changes: tuple[SettingChange, ...] = ()
    """The advice as arguments, where it is about arguments."""
    predicted_stall_fraction: float | None = None
    """The run's stall after that change, from a replay of what was recorded. Low: the change is
    worth it. ``None``: it cannot be predicted from this run."""
    samples: tuple[int | str, ...] = ()
    """Indices (or the text of keys) of the samples to blame, the slowest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowedAdvice:
    """Advice of an earlier run whose change this run has made."""

    cause: Cause
    changes: tuple[SettingChange, ...]
    before_stall_fraction: float
    """The earlier run's."""
    predicted_stall_fraction: float
    measured_stall_fraction: float
    """This run's. Near the prediction: the diagnosis was right."""
