"""What is wrong with a run: the causes of lost time, the most costly first."""

from collections.abc import Callable, Iterator

from lightning_fastdata.stalls.case import Case, LoaderCase
from lightning_fastdata.stalls.causes.device import exposed_transfer, waits_for_device
from lightning_fastdata.stalls.causes.edges import slow_starts
from lightning_fastdata.stalls.causes.handing import slow_handing
from lightning_fastdata.stalls.causes.host import other_work
from lightning_fastdata.stalls.causes.ranks import straggling_rank
from lightning_fastdata.stalls.causes.slow import slow_few
from lightning_fastdata.stalls.causes.storage import cold_data, cold_start, slow_storage
from lightning_fastdata.stalls.causes.workers import (
    crowded,
    not_enough,
    too_many,
    unknown_loader,
)
from lightning_fastdata.stalls.costs import Kept
from lightning_fastdata.stalls.finding import Finding
from lightning_fastdata.stalls.rank_figures import straggling
from lightning_fastdata.stalls.reading import reading
from lightning_fastdata.stalls.sharing import Measured
from lightning_fastdata.stalls.summary import StallSummary
from lightning_fastdata.stalls.thresholds import FindingThresholds
from lightning_fastdata.stalls.what_if import WhatIf
from lightning_fastdata.stalls.workload import workload_of
from lightning_fastdata.trace import LoaderRecord, RunRecord
from lightning_fastdata.tuning.choose import HANDOVER_NS

NAMED = ("handing", "slow", "storage")
MOST_LOADERS = 4  # guess: of several that train together, those that are waited for most


def diagnose(
    record: RunRecord, summary: StallSummary, thresholds: FindingThresholds | None = None
) -> tuple[Finding, ...]:
    """Find the causes of lost time, the most costly first.

    The measured stall is parted among its causes: what a replay no longer loses once slow samples
    take the usual time belongs to them, and so on, one cause after the other. The rest is the
    workers'. So the shares of these causes add up to the stall and no more.

    Args:
        record: Everything that was recorded.
        summary: Its sums.
        thresholds: What is worth a finding; ``None`` takes the usual limits.

    Returns:
        What to change. Advice that saves memory rather than time comes last, with a share of 0.
    """
    limits = thresholds or FindingThresholds()
    ranks = straggling(record.ranks, limits.straggle_margin_fraction)
    case = Case(record=record, summary=summary, limits=limits, straggling=ranks)
    findings = [*_all(case)]
    findings.sort(key=lambda finding: -finding.stall_fraction)  # stable: the order of asking
    return tuple(findings)


def _all(case: Case) -> Iterator[Finding]:
    stall = case.summary.stall_fraction or 0.0
    straggler = straggling_rank(case)
    if straggler is not None:
        yield straggler
        if case.straggling.worst == case.record.rank:
            stall = max(0.0, stall - straggler.stall_fraction)
    cold = cold_start(case) if stall >= case.limits.stall_fraction else None
    if cold is not None:
        share = min(stall, cold.cost_fraction)
        yield cold_data(case, cold, share)
        stall -= share
    loaders = _loader_cases(case, stall, 0 if cold is None else 1)
    found: list[Finding] = []
    if stall >= case.limits.stall_fraction:
        found = [*_of_loaders(case, loaders, stall)]
        yield from found
    for finding in (exposed_transfer(case), waits_for_device(case), slow_starts(case)):
        if finding is not None:
            yield finding
    yield from other_work(case, loaders[0].what_if if loaders else None)
    if case.summary.stall_fraction is not None:
        if not any(each.cause in ("cpu_saturated", "too_few_workers") for each in found):
            # What others are blamed for is no stall of this cause as well.
            shares = (0.0 if found else each.stall_fraction for each in loaders)
            yield from filter(None, map(crowded, loaders, shares))
        yield from filter(None, map(too_many, loaders))


def _of_loaders(case: Case, loaders: list[LoaderCase], stall: float) -> Iterator[Finding]:
    if not loaders:
        yield unknown_loader(case, stall)
    for about in loaders:
        if about.stall_fraction >= case.limits.stall_fraction or len(loaders) == 1:
            yield from _of_one(about)


def _loader_cases(case: Case, stall: float, passes_left_out: int) -> list[LoaderCase]:
    """Part the stall among loaders by how long each was waited for."""
    summary, cases = case.summary, []
    waits = {id(loader): _waited_ns(loader) for loader in case.record.loaders}
    whole_ns = sum(waits.values())
    loaders = sorted(case.record.loaders, key=lambda loader: -waits[id(loader)])[:MOST_LOADERS]
    steps = max(1, summary.steps)
    for loader in loaders:
        part = waits[id(loader)] / whole_ns if whole_ns else 1 / len(case.record.loaders)
        workload = workload_of(
            loader,
            case.record.stall,
            is_drained=case.waits_for_device,
            passes_left_out=passes_left_out,
        )
        what_if = None
        if workload is not None:
            lost_ns = stall * summary.wall_ns / steps
            measured = Measured(
                stall_ns=lost_ns * part,
                seen_ns=workload.lost_ns,
                other_stall_ns=max(0.0, summary.exposed_stall_ns / steps - lost_ns * part),
                busy_ns=(summary.wall_ns - summary.exposed_stall_ns) / steps,
                cores=case.cores,
                host_cores=_host_cores(case, loader),
                is_scarce_from=case.limits.core_wait_fraction,
                host_trains=summary.device == "cpu",
            )
            what_if = WhatIf(workload, measured)
        cases.append(
            LoaderCase(case=case, loader=loader, stall_fraction=stall * part, what_if=what_if)
        )
    return cases


def _of_one(about: LoaderCase) -> Iterator[Finding]:
    """Take one cause away after the other, and blame it for the stall that goes with it."""
    what_if, limits = about.what_if, about.case.limits
    if what_if is None or (what_if.as_it_was_ns <= 0 and not _was_handed(what_if)):
        yield not_enough(about, about.stall_fraction, 0.0)
        return
    found = reading(about.loader.work.totals, limits)
    shares = _shares(what_if, about.stall_fraction, limits, is_storage=bool(found.evidence))
    named: list[Finding | None] = []
    if _is_large(what_if, limits):
        named.append(_if_enough(slow_handing, about, shares, "handing"))
    else:
        shares["core_wait"] += shares.pop("handing")
    named.append(_if_enough(slow_few, about, shares, "slow"))
    if shares["storage"] >= limits.share_fraction:
        named.append(slow_storage(about, shares.pop("storage"), found))
    yield from filter(None, named)
    rest = shares["core_wait"] + sum(shares.get(name, 0.0) for name in ("rest", *NAMED))
    if rest >= limits.share_fraction:
        yield not_enough(about, rest, shares["core_wait"])


def _if_enough(
    judge: Callable[[LoaderCase, float], Finding | None],
    about: LoaderCase,
    shares: dict[str, float],
    name: str,
) -> Finding | None:
    """Take a share away if it is worth a finding and there is somebody to blame."""
    if shares[name] < about.case.limits.share_fraction:
        return None
    finding = judge(about, shares[name])
    if finding is not None:
        del shares[name]
    return finding


def _is_large(what_if: WhatIf, limits: FindingThresholds) -> bool:
    """Whether batches are late for their size: small ones only where cores are free."""
    sizes = [batch.size_bytes for batch in what_if.workload.steady if batch.size_bytes is not None]
    is_scarce = what_if.core_wait_fraction >= limits.core_wait_fraction
    return not (is_scarce and sizes and max(sizes) < limits.large_bytes)


def _shares(
    what_if: WhatIf, stall: float, limits: FindingThresholds, *, is_storage: bool
) -> dict[str, float]:
    """Part a loader's stall; the parts add up to it."""
    base_ns = what_if.as_it_was_ns
    core_wait = what_if.core_wait_fraction >= limits.core_wait_fraction
    slow_from = None
    if what_if.workload.slow_fraction(what_if.slow_from(limits.slow_times)) <= limits.few_fraction:
        slow_from = what_if.slow_from(limits.slow_times)
    stages = [
        ("handing", Kept(), what_if.workload.next_ns + what_if.workload.transit_ns > HANDOVER_NS),
        ("slow", Kept(slow_from=slow_from), slow_from is not None),
        ("storage", Kept(slow_from=slow_from, blocked=not is_storage), is_storage),
        (
            "core_wait",
            Kept(slow_from=slow_from, blocked=not is_storage, core_wait=not core_wait),
            core_wait,
        ),
    ]
    shares: dict[str, float] = {}
    left_ns = base_ns
    # What a replay cannot explain went by while batches came over, if most of the waiting did.
    unexplained_ns = max(0.0, what_if.measured.seen_ns - base_ns)
    is_handed = True
    for name, kept, is_asked in stages:
        shares[name] = 0.0
        if is_asked:
            is_handed = is_handed and name != "handing"
            now_ns = min(left_ns, what_if.lost_ns(kept, is_handed=is_handed))
            shares[name] = left_ns - now_ns
            left_ns = now_ns
    shares["rest"] = left_ns
    if _was_handed(what_if):
        handed_ns = what_if.measured.seen_ns * what_if.workload.handed_fraction
        shares["handing"] += min(unexplained_ns, handed_ns)
        shares["rest"] += max(0.0, unexplained_ns - handed_ns)
    whole_ns = sum(shares.values())
    return {name: stall * share / whole_ns for name, share in shares.items()}


def _was_handed(what_if: WhatIf) -> bool:
    """Whether most of the waiting was for batches that workers had made already."""
    return what_if.measured.seen_ns > 0 and what_if.workload.handed_fraction >= 0.5


def _host_cores(case: Case, loader: LoaderRecord) -> float:
    """Cores that the training process keeps busy while it does not wait; 1 where not known."""
    used, summary = case.record.host_cpu_cores, case.summary
    busy_ns = summary.wall_ns - summary.exposed_stall_ns
    if used is None or busy_ns <= 0:
        return 1.0
    cpu_ns = used * summary.wall_ns
    totals = loader.work.totals
    if loader.setup.num_workers == 0 and totals.batches:  # what workers would do instead
        cpu_ns -= totals.cpu_ns / totals.batches * summary.steps
    return min(max(0.0, cpu_ns / busy_ns), case.cores or 1.0)


def _waited_ns(loader: LoaderRecord) -> int:
    return sum(max(0, batch.taken_ns - batch.wanted_ns) for batch in loader.work.recent)
