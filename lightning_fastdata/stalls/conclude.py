"""From the record of a run to everything that is said about it."""

from dataclasses import replace

from lightning_fastdata.stalls.figures import EpochFigures, RunFacts
from lightning_fastdata.stalls.followed import followed_advice
from lightning_fastdata.stalls.judge import diagnose
from lightning_fastdata.stalls.pictures import picture
from lightning_fastdata.stalls.rank_figures import rank_figures, straggling
from lightning_fastdata.stalls.summary import StallSummary, summarise
from lightning_fastdata.stalls.thresholds import FindingThresholds
from lightning_fastdata.stalls.work_figures import (
    host_lines,
    slow_samples,
    stage_fractions,
    worker_figures,
    worker_lines,
)
from lightning_fastdata.stalls.worker_changes import worker_changes
from lightning_fastdata.trace import LoaderRecord, RunRecord


def conclude(
    record: RunRecord,
    *,
    before: StallSummary | None = None,
    thresholds: FindingThresholds | None = None,
) -> StallSummary:
    """Say where the time of a run went, why, and what to change.

    Args:
        record: Everything that was recorded; parts of it may be missing.
        before: What was said of an earlier run, to see whether its advice was followed.
        thresholds: What is worth a finding; ``None`` takes the usual limits.
    """
    limits = thresholds or FindingThresholds()
    summary = summarise(record.stall)
    loader = _most_waited_for(record)
    if loader is not None:
        summary = replace(
            summary,
            workers=worker_figures(loader),
            worker_stage_fractions=stage_fractions(loader.work.totals),
            worker_lines=worker_lines(loader.work.totals),
        )
    summary = replace(
        summary,
        host_lines=host_lines(record),
        slow_samples=slow_samples(record.loaders, limits.slow_times),
        epochs=_epochs(record),
        worker_changes=worker_changes(record),
        ranks=rank_figures(record.ranks, straggling(record.ranks, limits.straggle_margin_fraction)),
        run=RunFacts(
            loaders=tuple(each.setup for each in record.loaders),
            machine=record.machine,
            settings=tuple(record.settings.items()),
            started_at=record.started_at,
            script=record.script,
        ),
        detail=picture(record),
        findings=diagnose(record, summary, limits),
    )
    return replace(summary, followed=followed_advice(before, summary))


def _most_waited_for(record: RunRecord) -> LoaderRecord | None:
    """Of several loaders, the one that is worth its figures."""

    def waited_ns(loader: LoaderRecord) -> int:
        return sum(batch.taken_ns - batch.wanted_ns for batch in loader.work.recent)

    return max(record.loaders, key=waited_ns, default=None)


def _epochs(record: RunRecord) -> tuple[EpochFigures, ...]:
    return tuple(
        EpochFigures(
            epoch=each.epoch,
            steps=each.steps,
            stall_fraction=each.stall_ns / each.wall_ns if each.wall_ns > 0 else None,
            start_ns=each.start_ns,
            wall_ns=each.wall_ns,
        )
        for each in record.stall.epochs
    )
