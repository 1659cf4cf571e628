"""What is said of a choice of workers: one sentence, and what it rests on."""

from collections.abc import Callable, Sequence

from lightning_fastdata.plan import Candidate, LoaderPlan
from lightning_fastdata.report.plans import plan_as_arguments
from lightning_fastdata.report.units import percent, rate

CLOSE_FRACTION = 0.02  # of a step; the tuner itself takes no more workers for less


def chosen_of(plan: LoaderPlan) -> Candidate | None:
    """Return the candidate that the plan took; ``None`` where it weighed none like it."""
    alike = [each for each in plan.candidates if each.num_workers == plan.num_workers]
    # Of several that are alike in a part only, the one that is alike in most.
    return max(
        alike,
        key=lambda each: (
            each.engine == plan.engine,
            each.prefetch_batches == plan.prefetch_batches,
        ),
        default=None,
    )


def stall_of(candidate: Candidate) -> float | None:
    """Return the stall that is known best: measured, else predicted."""
    measured = candidate.measured_stall_fraction
    return candidate.predicted_stall_fraction if measured is None else measured


def batches_per_s_of(candidate: Candidate) -> float | None:
    """Return the rate that is known best: measured, else predicted."""
    measured = candidate.measured_batches_per_s
    return candidate.predicted_batches_per_s if measured is None else measured


def tuning_verdict(plan: LoaderPlan, max_stall_fraction: float) -> str:
    """Say in one sentence what to use, what it comes to, and what fewer would come to.

    Args:
        plan: What was chosen, with what was weighed.
        max_stall_fraction: The stall that was allowed, 0 to 1.
    """
    chosen = chosen_of(plan)
    use = f"Use {workers_words(plan.num_workers)}"
    if chosen is None:
        foreseen = plan.predicted_stall_fraction
        return f"{use}." if foreseen is None else f"{use}: {percent(foreseen)} stall predicted."
    stall = stall_of(chosen)
    untried = _untried(plan, chosen)
    if stall is None:
        rates = (chosen.predicted_batches_per_s, chosen.measured_batches_per_s)
        return f"{use}{_told(rate, 'batches/s', *rates)}{untried}{_fewer_rate(plan, chosen)}."
    over = _over_limit(plan, stall, max_stall_fraction)
    stalls = (chosen.predicted_stall_fraction, chosen.measured_stall_fraction)
    fewer = _fewer_stall(plan, chosen)
    return f"{use}{_told(percent, 'stall', *stalls)}{untried}{over}{fewer}."


def workers_words(num_workers: int) -> str:
    """Return a number of workers as people say it."""
    if num_workers == 0:
        return "no workers"
    return f"{num_workers} worker{'' if num_workers == 1 else 's'}"


def module_call(plan: LoaderPlan) -> str:
    """Return how the choice is written down, as a call of ``FastDataModule``."""
    arguments = plan_as_arguments(plan)
    kept = [
        f"{name}={arguments[name]!r}"
        for name in ("num_workers", "prefetch_factor")
        if name in arguments
    ]
    return f"FastDataModule(..., {', '.join(kept)})"


def _told(
    text_of: Callable[[float], str], unit: str, predicted: float | None, measured: float | None
) -> str:
    if predicted is None:
        return "" if measured is None else f": {text_of(measured)} {unit} measured"
    beside = "" if measured is None else f", {text_of(measured)} measured"
    return f": {text_of(predicted)} {unit} predicted{beside}"


def _untried(plan: LoaderPlan, chosen: Candidate) -> str:
    """Own up to a choice that was not tried where others were: time was up, mostly."""
    is_tried = chosen.measured_batches_per_s is not None
    is_tried = is_tried or chosen.measured_stall_fraction is not None
    others = any(each.measured_batches_per_s is not None for each in plan.candidates)
    return ", not tried" if others and not is_tried else ""


def _over_limit(plan: LoaderPlan, stall: float, limit: float) -> str:
    if round(stall, 3) <= round(limit, 3):  # to the digit that is shown beside it
        return ""
    told = f", over the {percent(limit)} asked for"
    known = [other for each in plan.candidates if (other := stall_of(each)) is not None]
    if min(known) < stall - CLOSE_FRACTION:
        return told
    return f"{told} (nothing that was weighed is clearly better)"


def _fewer(plan: LoaderPlan, chosen: Candidate) -> Sequence[Candidate]:
    """Return what was weighed with fewer workers, the most of them first."""
    fewer = [each for each in plan.candidates if each.num_workers < chosen.num_workers]
    return sorted(fewer, key=lambda each: -each.num_workers)


def _fewer_stall(plan: LoaderPlan, chosen: Candidate) -> str:
    for each in _fewer(plan, chosen):
        if (stall := stall_of(each)) is not None:
            done = _doing(each, "leave", is_measured=each.measured_stall_fraction is not None)
            return f"; {done} {percent(stall)}"
    return ""


def _fewer_rate(plan: LoaderPlan, chosen: Candidate) -> str:
    for each in _fewer(plan, chosen):
        if (per_s := batches_per_s_of(each)) is not None:
            done = _doing(each, "give", is_measured=each.measured_batches_per_s is not None)
            return f"; {done} {rate(per_s)}"
    return ""


def _doing(candidate: Candidate, verb: str, *, is_measured: bool) -> str:
    """Put workers before what they do: ``1 leaves``, ``2 leave``, ``none would leave``."""
    number = candidate.num_workers
    if not is_measured:
        return f"{number or 'none'} would {verb}"
    return f"{number or 'none'} {verb}{'s' if number <= 1 else ''}"
