"""From what a search found to a plan: the candidates with their figures, and the reasons."""

import warnings
from dataclasses import replace
from statistics import mean

from lightning_fastdata.errors import ShortageWarning
from lightning_fastdata.plan import Candidate, LoaderPlan
from lightning_fastdata.trials.findings import Findings
from lightning_fastdata.trials.search import HEADROOM, TOLERATED_SHORTFALL
from lightning_fastdata.trials.subject import plan_with
from lightning_fastdata.tuning.wording import size_words, time_words


def plan_of(findings: Findings) -> LoaderPlan:
    """Make the plan that a search came to, ready to be given to a loader."""
    number = findings.chosen
    plan = plan_with(findings.subject, number, findings.facts)
    if plan.shortage is not None:
        warnings.warn(plan.shortage, ShortageWarning, stacklevel=2)
    candidates = tuple(
        _candidate(findings, each)
        for each in sorted({*findings.forecasts, *findings.measured_stalls()})
    )
    chosen = next((each for each in candidates if each.num_workers == number), None)
    reasons = dict(plan.reasons) | _reasons(findings, candidates)
    return replace(
        plan,
        predicted_stall_fraction=None if chosen is None else chosen.predicted_stall_fraction,
        max_workers=None,
        candidates=candidates,
        reasons=reasons,
    )


def _candidate(findings: Findings, number: int) -> Candidate:
    """One number: as it was foreseen before its trial, and as it was measured."""
    plan = plan_with(findings.subject, number, findings.facts)
    foreseen = findings.foreseen.get(number)
    stalls = findings.measured_stalls().get(number)
    has_step = findings.step is not None
    return Candidate(
        engine=plan.engine,
        num_workers=number,
        prefetch_batches=plan.prefetch_batches,
        predicted_stall_fraction=(
            foreseen.stall_fraction if foreseen is not None and has_step else None
        ),
        predicted_batches_per_s=None if foreseen is None else foreseen.batches_per_s,
        measured_stall_fraction=mean(stalls) if stalls and has_step else None,
        measured_batches_per_s=findings.measured_rates().get(number),
        memory_bytes=None if foreseen is None else foreseen.memory_bytes,
    )


def _reasons(findings: Findings, candidates: tuple[Candidate, ...]) -> dict[str, str]:
    reasons = dict(findings.subject.notes)
    reasons["num_workers"] = _why_number(findings, candidates)
    if findings.step is None:
        reasons["step_time"] = (
            "not known, so these are the fewest workers within "
            f"{TOLERATED_SHORTFALL:.0%} of the most batches a second; pass step_time_s or model"
        )
    else:
        step = findings.step
        reasons["step_time"] = f"{time_words(step.step_ns)}, {step.source}"
        if step.host_cores:
            reasons["step_time"] += f"; it keeps {step.host_cores:.2g} cores busy"
    asked = findings.subject.engine
    if not findings.chosen and asked in ("ring", "torch"):
        reasons["engine"] = (
            f'no workers are needed, and engine="{asked}" needs some: leave engine out of your '
            "loader to have none"
        )
    reasons["probe"] = _what_a_batch_costs(findings)
    tried = len(findings.trials)
    took = f"{tried} in {findings.spent_ns / 1e9:.1f} s"
    if not findings.is_settled:
        took += "; one more would not have ended in time"
    ranks = findings.subject.local_world_size or 1
    if ranks > 1 and tried:
        cores = findings.cores_of_trials
        where = "all cores" if cores is None else f"{cores} of the cores"
        took += f"; on {where}, as one of {ranks} ranks"
    reasons["trials"] = took
    return reasons


def _why_number(findings: Findings, candidates: tuple[Candidate, ...]) -> str:
    by_number = {each.num_workers: each for each in candidates}
    chosen = by_number.get(findings.chosen)
    if chosen is None:
        return "nothing could be measured"
    fewer = by_number.get(findings.chosen - 1)
    unit = _rate if findings.step is None else _stall
    text = unit(chosen)
    if fewer is not None:
        text += f"; with {fewer.num_workers}: {unit(fewer)}"
        if findings.has_headroom:
            text += f", but more if batches took {HEADROOM:g} times as long"
    if findings.step is None:
        return text
    limit = findings.max_stall_fraction
    if _known_stall(chosen) <= limit:
        return f"{text}; the limit is {limit:.1%}"
    more = [each for each in candidates if each.num_workers > findings.chosen]
    if any(_known_stall(each) <= limit for each in more):
        # Predicted so, and what was tried came out worse than predicted.
        return f"{text}; by what was tried, more would not come to {limit:.1%} either"
    return f"{text}; more do not come to {limit:.1%} on {findings.cores:g} cores"


def _known_stall(candidate: Candidate) -> float:
    measured = candidate.measured_stall_fraction
    return (candidate.predicted_stall_fraction or 0.0) if measured is None else measured


def _stall(candidate: Candidate) -> str:
    figures = []
    if candidate.measured_stall_fraction is not None:
        figures.append(f"{candidate.measured_stall_fraction:.1%} stall measured")
    if candidate.predicted_stall_fraction is not None:
        figures.append(f"{candidate.predicted_stall_fraction:.1%} predicted")
    return ", ".join(figures) or "not measured"


def _rate(candidate: Candidate) -> str:
    figures = []
    if candidate.measured_batches_per_s is not None:
        figures.append(f"{candidate.measured_batches_per_s:.3g} batches/s measured")
    if candidate.predicted_batches_per_s is not None:
        figures.append(f"{candidate.predicted_batches_per_s:.3g} predicted")
    return ", ".join(figures) or "not measured"


def _what_a_batch_costs(findings: Findings) -> str:
    facts = findings.facts
    if facts is None:
        return "no sample was measured by itself; the first trial told what a batch costs"
    text = (
        f"a batch of {findings.subject.samples_a_batch} takes {time_words(facts.batch_wall_ns)}, "
        f"{1.0 - facts.blocked_fraction:.0%} of it on a core, and is "
        f"{size_words(facts.batch_bytes)}"
    )
    if facts.warm_batch_wall_ns is not None:
        warm = time_words(facts.warm_batch_wall_ns)
        text += f"; cold files: from memory {warm}" if facts.is_cold else "; files were in memory"
    return text
