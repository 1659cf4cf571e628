"""What training does besides training: validation, checkpoints, logging, callbacks."""

import math
from collections.abc import Iterator

from lightning_fastdata.stalls.case import Case
from lightning_fastdata.stalls.finding import Finding, SettingChange
from lightning_fastdata.stalls.thresholds import percent, spent
from lightning_fastdata.stalls.what_if import WhatIf
from lightning_fastdata.stalls.work_figures import lines_of_part
from lightning_fastdata.trace import Part

AIMED_FRACTION = 0.02  # of the wall time, for logging that is done more rarely
AIMED_VALIDATION_FRACTION = 0.1


def other_work(case: Case, what_if: WhatIf | None) -> Iterator[Finding]:
    """Blame each kind of work that takes more than its limit.

    Args:
        case: The run.
        what_if: Replays of the loader that is waited for most, which gets ahead meanwhile.
    """
    summary, limits = case.summary, case.limits
    wall_ns = summary.wall_ns
    if not wall_ns or not summary.steps:
        return
    if summary.logging_ns >= limits.logging_fraction * wall_ns:
        yield _logging(case, what_if)
    if summary.checkpoint_ns >= limits.checkpoint_fraction * wall_ns:
        share = percent(summary.checkpoint_ns / wall_ns)
        yield _finding(
            case,
            Part.CHECKPOINT,
            summary.checkpoint_ns / wall_ns,
            [f"Saving checkpoints took {share} of the time."],
            "Save checkpoints more rarely (every_n_train_steps, every_n_epochs), or in the "
            "background (AsyncCheckpointIO).",
        )
    other_ns = summary.other_host_ns - summary.checkpoint_ns - summary.logging_ns
    is_much = other_ns >= limits.other_fraction * wall_ns
    if is_much and other_ns >= limits.other_ns_a_step * summary.steps:
        each = spent(other_ns / summary.steps)
        yield _finding(
            case,
            Part.OTHER,
            other_ns / wall_ns,
            [
                f"Between steps, {each} a step went to other than data and model, "
                f"{percent(other_ns / wall_ns)} of the time."
            ],
            "Look at callbacks and hooks that run each batch: do their work every 50 steps.",
        )
    if summary.validation_ns >= limits.validation_fraction * (wall_ns + summary.validation_ns):
        yield _validation(case, what_if)


def _logging(case: Case, what_if: WhatIf | None) -> Finding:
    summary, settings = case.summary, case.record.settings
    share = summary.logging_ns / summary.wall_ns
    now = settings.get("log_every_n_steps")
    changes: tuple[SettingChange, ...] = ()
    advice = "Log more rarely, or from a thread of the logger's own."
    saved_ns = 0.0
    if type(now) is int and now > 0:
        then = max(50, now * 2) if now < 50 else now * 2
        while share * now / then > AIMED_FRACTION:
            then *= 2
        changes = (SettingChange(name="log_every_n_steps", now=now, then=then),)
        advice = f"log_every_n_steps {now} -> {then}."
        saved_ns = summary.logging_ns * (1 - now / then)
    return _finding(
        case,
        Part.LOGGING,
        share,
        [
            f"Loggers took {percent(share)} of the time, "
            f"{spent(summary.logging_ns / summary.steps)} a step."
        ],
        advice,
        changes=changes,
        predicted=_with_less(case, what_if, saved_ns) if changes else None,
    )


def _validation(case: Case, what_if: WhatIf | None) -> Finding:
    summary = case.summary
    share = summary.validation_ns / (summary.wall_ns + summary.validation_ns)
    # So many times as rarely that AIMED_VALIDATION_FRACTION of the whole is left.
    left_ns = summary.wall_ns * AIMED_VALIDATION_FRACTION / (1 - AIMED_VALIDATION_FRACTION)
    times = max(2, math.ceil(summary.validation_ns / left_ns))
    change = _rarer(case, times)
    if change is None:
        advice = f"Validate {times} times as rarely (val_check_interval, limit_val_batches)."
    else:
        advice = f"{change.name} {change.now} -> {change.then}."
    return _finding(
        case,
        Part.VALIDATION,
        share,
        [
            f"Validation took {percent(share)} of training and validation together, "
            f"{spent(summary.validation_ns)}."
        ],
        advice,
        changes=() if change is None else (change,),
        predicted=None if change is None else _with_rarer_validation(case, what_if, times),
    )


def _rarer(case: Case, times: int) -> SettingChange | None:
    """Which argument makes validation come so many times as rarely."""
    settings = case.record.settings
    interval, every = settings.get("val_check_interval"), settings.get("check_val_every_n_epoch")
    if type(interval) is int and interval > 0:
        return SettingChange(name="val_check_interval", now=interval, then=interval * times)
    if isinstance(interval, float) and 0 < interval < 1:
        then = min(1.0, interval * times)
        return SettingChange(name="val_check_interval", now=interval, then=then)
    if type(every) is int and every > 0:
        return SettingChange(name="check_val_every_n_epoch", now=every, then=every * times)
    return None


def _finding(
    case: Case,
    part: Part,
    share: float,
    evidence: list[str],
    advice: str,
    *,
    changes: tuple[SettingChange, ...] = (),
    predicted: float | None = None,
) -> Finding:
    lines = lines_of_part(case.record, part)
    if lines:
        line = lines[0]
        text = f" `{line.text}`" if line.text else ""
        evidence.append(f"{percent(line.fraction)} of it in {line.file}:{line.line}{text}.")
    return Finding(
        cause="host_other",
        stall_fraction=min(1.0, share),
        evidence=tuple(evidence),
        advice=advice,
        changes=changes,
        predicted_stall_fraction=predicted,
    )


def _with_less(case: Case, what_if: WhatIf | None, saved_ns: float) -> float | None:
    """The stall if so much of the whole run were saved between steps."""
    summary = case.summary
    each_ns = saved_ns / summary.steps
    if what_if is None:
        left_ns = summary.wall_ns - saved_ns
        return min(1.0, summary.exposed_stall_ns / left_ns) if left_ns > 0 else None
    gaps = [
        [max(0, round(gap_ns - each_ns)) for gap_ns in each.gaps_ns]
        for each in what_if.workload.passes
    ]
    return what_if.predicted(what_if.lost_ns(gaps=gaps), saved_ns=each_ns)


def _with_rarer_validation(case: Case, what_if: WhatIf | None, times: int) -> float | None:
    """The stall if of so many validations one were left, in which the loader gets ahead."""
    if what_if is None:
        return case.summary.stall_fraction
    gaps, seen = [], 0
    for each in what_if.workload.passes:
        left = []
        for gap_ns, validation_ns in zip(each.gaps_ns, each.validation_ns, strict=True):
            seen += validation_ns > 0
            is_left = not validation_ns or seen % times == 0
            left.append(gap_ns if is_left else max(0, gap_ns - validation_ns))
        gaps.append(left)
    return what_if.predicted(what_if.lost_ns(gaps=gaps))
