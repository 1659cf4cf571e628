"""What a search for the number of workers has come to know."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean

from lightning_fastdata.trials.subject import Subject
from lightning_fastdata.trials.trial import Trial
from lightning_fastdata.tuning.fingerprint import PlanKey
from lightning_fastdata.tuning.forecast import Forecast
from lightning_fastdata.tuning.probe import ProbeFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTime:
    """What training does between two batches."""

    step_ns: int
    """Without its wait for data, 1 or more."""
    host_cores: float = 0.0
    """Cores' worth that the training process computes meanwhile."""
    computes_on_host: bool = False
    """Whether there is no device that computes beside the training process."""
    is_on_cuda: bool = False
    """Whether batches go to a CUDA device."""
    source: str = "given"
    """Where it comes from, for people."""


@dataclass(kw_only=True, slots=True)
class Findings:
    """All that a search came to know."""

    subject: Subject
    key: PlanKey
    """What the choice is remembered by, taken before a sample was read: a dataset may count reads.
    """
    step: StepTime | None
    """``None``: the most batches a second are looked for."""
    max_stall_fraction: float
    cores: float
    facts: ProbeFacts | None
    """``None``: no sample could be measured by itself."""
    forecasts: dict[int, Forecast] = field(default_factory=dict)
    """By the number of workers, from what the last trial showed."""
    foreseen: dict[int, Forecast] = field(default_factory=dict)
    """The same before any trial of that number."""
    cores_of_trials: int | None = None
    """On which trials ran alone, where they stood for one of several ranks; ``None``: on all."""
    trials: list[Trial] = field(default_factory=list)
    """In the order in which they were made."""
    chosen: int = 0
    """Workers to take."""
    has_headroom: bool = False
    """Whether that is one more than are enough while batches cost what they did in the trials."""
    is_settled: bool = False
    """Whether the choice needed no more trials; else the time was up."""
    spent_ns: int = 0
    """Of the whole search."""

    def measured_stalls(self) -> dict[int, list[float]]:
        """The stall of each trial (0 to 1), by the number of workers."""
        return self._by_number(lambda trial: trial.stall_fraction)

    def measured_rates(self) -> dict[int, float]:
        """Batches a second of each number that was tried, by their mean."""
        rates = self._by_number(lambda trial: trial.batches_per_s)
        return {number: mean(each) for number, each in rates.items()}

    def floors(self) -> dict[int, float]:
        """What the stall would have been, had each batch lain ready (0 to 1), by their mean."""
        shares = self._by_number(lambda trial: trial.floor_fraction)
        return {number: mean(each) for number, each in shares.items()}

    def _by_number(self, figure: Callable[[Trial], float]) -> dict[int, list[float]]:
        found: defaultdict[int, list[float]] = defaultdict(list)
        for trial in self.trials:
            found[trial.num_workers].append(figure(trial))
        return dict(found)
