"""Everything that findings are judged by, in one value."""

from dataclasses import dataclass

from lightning_fastdata.stalls.finding import Cause, Finding, SettingChange
from lightning_fastdata.stalls.rank_figures import Straggling
from lightning_fastdata.stalls.summary import StallSummary
from lightning_fastdata.stalls.thresholds import FindingThresholds
from lightning_fastdata.stalls.what_if import WhatIf
from lightning_fastdata.trace import LoaderRecord, RunRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A run, what was summed up of it, and what counts as much."""

    record: RunRecord
    summary: StallSummary
    limits: FindingThresholds
    straggling: Straggling

    @property
    def cores(self) -> float | None:
        """That this process and its workers may use."""
        machine = self.record.machine
        return None if machine is None or machine.cores <= 0 else machine.cores

    @property
    def is_cuda(self) -> bool:
        """Whether the run trained on a CUDA device."""
        return self.summary.device == "cuda"

    @property
    def has_device(self) -> bool:
        """Whether the run trained on an accelerator, which could do some of the workers' work."""
        return self.summary.device != "cpu"

    @property
    def waits_for_device(self) -> bool:
        """Whether the device had nothing left to do at nearly each fetch."""
        drained = self.summary.drained_fraction
        return drained is not None and drained >= self.limits.drained_fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderCase:
    """One loader of a run that lost time to it."""

    case: Case
    loader: LoaderRecord
    stall_fraction: float
    """Share of the run's wall time that this loader costs, and that is not blamed on others."""
    what_if: WhatIf | None
    """``None`` where too little is known to replay it."""

    @property
    def name(self) -> str:
        """How sentences call it."""
        return f'loader "{self.loader.setup.name}"' if self.loader.setup.name else "the loader"

    def finding(
        self,
        cause: Cause,
        stall_fraction: float,
        evidence: list[str],
        advice: str,
        *,
        changes: tuple[SettingChange, ...] = (),
        predicted: float | None = None,
        samples: tuple[int | str, ...] = (),
    ) -> Finding:
        """Say what this loader costs, by name where there are several."""
        if self.loader.setup.name:
            evidence = [f'About the loader "{self.loader.setup.name}".', *evidence]
        return Finding(
            cause=cause,
            stall_fraction=min(1.0, max(0.0, stall_fraction)),
            evidence=tuple(evidence),
            advice=advice,
            changes=changes,
            predicted_stall_fraction=predicted,
            samples=samples,
        )
