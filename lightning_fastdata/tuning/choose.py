"""The rule: from wishes and facts to a plan, with a reason for each choice. It measures nothing."""

import math
from dataclasses import replace
from typing import Any

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.machine import worker_budget
from lightning_fastdata.plan import Candidate, EngineName, LoaderPlan
from lightning_fastdata.tuning.fit import Draft, Room, fit, most_that_fit
from lightning_fastdata.tuning.forecast import Demand, Supply, forecast, usual_prefetch
from lightning_fastdata.tuning.probe import ProbeFacts
from lightning_fastdata.tuning.remembered import Remembered
from lightning_fastdata.tuning.replay import Steps
from lightning_fastdata.tuning.supply import expected_wall_ns, supply_of
from lightning_fastdata.tuning.weigh import most_workers, weigh
from lightning_fastdata.tuning.wishes import Situation, Wishes
from lightning_fastdata.tuning.wording import size_words, time_words

__all__ = ["HANDOVER_BYTES_PER_S", "HANDOVER_NS", "Situation", "Wishes", "choose_plan"]

HANDOVER_NS = 300_000  # of a small batch from torch's workers; two Xeon cores, torch 2.14
HANDOVER_BYTES_PER_S = 2.4e9  # 3,891 samples/s of 602 kB from torch's workers, the same machine
LEAST_TIMEOUT_S, TIMEOUT_SAMPLES = 60.0, 100  # guess: no sample takes a hundred times the usual
EARLIER = {
    "run": "an earlier run on this kind of machine came to it",
    "tune": "tune came to it on this kind of machine",
    "checkpoint": "the run that is resumed came to it",
    "loader": "the loader before this one came to it",
}


def choose_plan(wishes: Wishes, situation: Situation, facts: ProbeFacts | None) -> LoaderPlan:
    """Choose how to load.

    Args:
        wishes: What is fixed; kept as it is.
        situation: Cores, memory, batch size, step time.
        facts: What a batch costs, or ``None`` where it was not measured.

    Returns:
        The plan with the fewest workers that should keep training fed, within cores and memory.

    Raises:
        SettingsError: If the ring is asked for where it cannot serve.
    """
    if wishes.engine == "ring" and situation.ring_problem is not None:
        raise SettingsError(
            f'engine="ring", but {situation.ring_problem}. Leave engine out: "auto" takes the best '
            "that serves here."
        )
    draft = Draft(num_workers=0)
    engine = _worker_engine(wishes, situation)
    supply = None if facts is None else _supply(facts, situation, engine)
    candidates = _choose_workers(draft, wishes, situation, facts, supply)
    usual = usual_prefetch(engine, draft.num_workers)
    draft.prefetch_factor = wishes.prefetch_factor or usual
    room = _room(situation, facts)
    if draft.num_workers:
        fit(draft, engine, room, prefetch_is_fixed=wishes.prefetch_factor is not None)
    has_workers = draft.num_workers > 0
    if has_workers:
        draft.reasons["engine"] = _why_engine(engine, wishes, situation)
        draft.reasons.setdefault(
            "prefetch_batches",
            "fixed by prefetch_factor" if wishes.prefetch_factor else f"{usual} a worker",
        )
        draft.reasons["persistent_workers"] = (
            "starting workers anew each epoch costs time"
            if wishes.persistent_workers == "auto"
            else "fixed by the user"
        )
    draft.reasons["pin_memory"] = (
        "asked for, or batches go to a CUDA device"
        if wishes.pin_memory
        else "batches stay on the host"
    )
    return LoaderPlan(
        engine=engine if has_workers else "inline",
        num_workers=draft.num_workers,
        prefetch_batches=draft.num_workers * draft.prefetch_factor,
        pin_memory=wishes.pin_memory,
        persistent_workers=has_workers and wishes.persistent_workers is not False,
        start_method=wishes.start_method if has_workers else None,
        **_timeout(draft, wishes, situation, facts, is_watched=has_workers and engine == "ring"),
        predicted_stall_fraction=_predicted(draft, situation, supply, engine),
        cores=situation.cores,
        max_workers=_budget(draft, wishes, situation, facts, room),
        shortage=draft.shortage,
        reasons=draft.reasons,
        candidates=candidates,
    )


def _timeout(
    draft: Draft,
    wishes: Wishes,
    situation: Situation,
    facts: ProbeFacts | None,
    *,
    is_watched: bool,
) -> dict[str, Any]:
    """How long a sample may take: far more than those that were measured, and never too little."""
    limit_s, is_stream = wishes.sample_timeout_s, situation.is_stream
    if not is_watched or limit_s is None or (limit_s == "auto" and is_stream):
        if is_watched and limit_s is not None:
            why = "a stream may fill a buffer before it gives its first sample"
        else:
            why = "fixed by the user" if limit_s is None else "only the ring's workers are watched"
        draft.reasons["sample_timeout_s"] = why
        return {"sample_timeout_s": None}
    if limit_s != "auto":
        draft.reasons["sample_timeout_s"] = "fixed by the user"
        return {"sample_timeout_s": float(limit_s)}
    measured_s = 0.0 if facts is None else facts.batch_wall_ns / situation.batch_size / 1e9
    draft.reasons["sample_timeout_s"] = (
        f"{LEAST_TIMEOUT_S:g} s, or {TIMEOUT_SAMPLES} times the slowest sample seen if that is more"
    )
    return {
        "sample_timeout_s": max(LEAST_TIMEOUT_S, TIMEOUT_SAMPLES * measured_s),
        "sample_timeout_follows": True,
    }


def _choose_workers(
    draft: Draft,
    wishes: Wishes,
    situation: Situation,
    facts: ProbeFacts | None,
    supply: Supply | None,
) -> tuple[Candidate, ...]:
    """Write the number and why into the draft; say what was weighed for it."""
    candidates: tuple[Candidate, ...] = ()
    may_choose = wishes.engine == "auto"
    if wishes.num_workers != "auto":
        draft.num_workers, why = wishes.num_workers, "fixed by the user"
    elif wishes.engine == "inline":
        why = 'engine="inline" was asked for'
    elif situation.cores < 2 and may_choose:
        why = f"{situation.cores:g} core for this process: none to spare for a worker"
    elif situation.is_gather and may_choose:
        why = "rows of tensors in memory are picked by one copy, which handing over would repeat"
    elif situation.is_stream:
        draft.num_workers, why = 1, "an IterableDataset gives its data once only to one worker"
    elif situation.remembered is not None:
        draft.num_workers, why = _as_before(situation.remembered, _most(situation, facts))
    elif facts is None or supply is None:
        draft.num_workers = max(1, math.floor(situation.cores) - 1)
        cores = f"{situation.cores:g} ({situation.cores_reason})"
        why = f"one a spare core of {cores}; no sample was measured"
    else:
        draft.num_workers, why, candidates = _weighed(wishes, situation, facts, supply)
    if wishes.engine in ("ring", "torch") and not draft.num_workers:
        draft.num_workers, why = 1, f'engine="{wishes.engine}" was asked for, though {why}'
    draft.reasons["num_workers"] = why
    draft.reasons["engine"] = f"no workers: {why}"
    return candidates


def _as_before(remembered: Remembered, most: int) -> tuple[int, str]:
    measured = remembered.stall_fraction
    stall = "" if measured is None else f", stall {measured:.1%}"
    why = f"{EARLIER[remembered.source]} ({remembered.saved_on}{stall})"
    if remembered.source in ("run", "tune"):
        why += "; lightning-fastdata tune --forget starts anew"
    if remembered.num_workers > most:
        return most, f"{why}; of {remembered.num_workers} workers {most} are within the budget"
    return remembered.num_workers, why


def _weighed(
    wishes: Wishes, situation: Situation, facts: ProbeFacts, supply: Supply
) -> tuple[int, str, tuple[Candidate, ...]]:
    """The number of workers by replay, why, and what else was replayed."""
    engine = _worker_engine(wishes, situation)
    work_ns = expected_wall_ns(
        facts, facts.stays_in(situation.memory_available_bytes, situation.batch_size)
    )
    batch = f"a batch of {size_words(facts.batch_bytes)} takes {time_words(work_ns)} to make"
    if work_ns < facts.batch_wall_ns:
        batch += f" once its files are in memory ({time_words(facts.batch_wall_ns)} before)"
    elif facts.is_cold:
        batch += " while its files come from storage"
    handover_ns = supply.next_ns
    if work_ns <= handover_ns and (wishes.engine == "auto" or not situation.step_time_s):
        handover = time_words(handover_ns)
        return 0, f"{batch}, and handing it over from a worker would cost {handover}", ()
    step_ns = None if not situation.step_time_s else round(situation.step_time_s * 1e9)
    weighed = weigh(
        supply,
        engine=engine,
        cores=situation.cores,
        most=_most(situation, facts),
        step_ns=step_ns,
        host_cores=situation.host_cores,
        max_stall_fraction=situation.max_stall_fraction,
    )
    step = "" if step_ns is None else f", a step takes {time_words(step_ns)}"
    return weighed.num_workers, f"{batch}{step}: {weighed.finding}", weighed.candidates


def _predicted(
    draft: Draft, situation: Situation, supply: Supply | None, engine: EngineName
) -> float | None:
    """What training is expected to wait with what came of it all."""
    if supply is None or not situation.step_time_s:
        return None
    steps = Steps(host_ns=[max(1, round(situation.step_time_s * 1e9))])
    return forecast(
        supply,
        Demand(steps=steps, host_cores=situation.host_cores),
        engine=engine,
        num_workers=draft.num_workers,
        cores=situation.cores,
        prefetch_batches=draft.num_workers * draft.prefetch_factor,
    ).stall_fraction


def _budget(
    draft: Draft, wishes: Wishes, situation: Situation, facts: ProbeFacts | None, room: Room
) -> int | None:
    """The most workers that training may come to; ``None`` where their number is not its to say."""
    is_open = wishes.num_workers == "auto" and wishes.engine in ("auto", "ring")
    if not is_open or situation.ring_problem is not None or situation.cores < 2:
        return None
    if situation.is_gather or situation.is_stream:
        return None
    most = _most(situation, facts)
    each = wishes.prefetch_factor or draft.prefetch_factor
    fits = max(draft.num_workers, min(most, most_that_fit("ring", room) // each))
    budget, why = worker_budget(situation.cores, situation.cores_reason)
    tighter = "" if fits == budget else f"; {fits} where samples compute, or memory is short"
    draft.reasons["max_workers"] = f"{why.rstrip('.')}{tighter}"
    return fits or None


def _most(situation: Situation, facts: ProbeFacts | None) -> int:
    return most_workers(situation.cores, 0.0 if facts is None else 1.0 - facts.blocked_fraction)


def _supply(facts: ProbeFacts, situation: Situation, engine: EngineName) -> Supply:
    supply = supply_of(
        facts,
        situation.batch_size,
        facts.is_cut,
        facts.stays_in(situation.memory_available_bytes, situation.batch_size),
    )
    if engine == "ring":
        return supply
    handover_ns = HANDOVER_NS + facts.batch_bytes / HANDOVER_BYTES_PER_S * 1e9
    return replace(supply, next_ns=round(handover_ns))


def _room(situation: Situation, facts: ProbeFacts | None) -> Room:
    remembered = situation.remembered
    known = None if remembered is None else remembered.batch_bytes
    return Room(
        memory_bytes=situation.memory_available_bytes,
        shm_bytes=situation.shm_free_bytes,
        files=situation.files_free,
        batch_bytes=known if facts is None else facts.batch_bytes,
    )


def _worker_engine(wishes: Wishes, situation: Situation) -> EngineName:
    return "torch" if wishes.engine == "torch" or situation.ring_problem else "ring"


def _why_engine(engine: EngineName, wishes: Wishes, situation: Situation) -> str:
    if wishes.engine != "auto":
        return f'engine="{engine}" was asked for'
    if engine == "torch":
        return f"torch's own workers, because {situation.ring_problem}"
    return "workers write batches into shared memory, where nothing has to copy them again"
