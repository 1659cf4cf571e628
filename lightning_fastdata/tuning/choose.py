"""The rule: from wishes and facts to a plan, with a reason for each choice. It measures nothing."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.plan import EngineName, LoaderPlan, StartMethod
from lightning_fastdata.tuning.fit import Draft, Room, fit
from lightning_fastdata.tuning.forecast import usual_prefetch
from lightning_fastdata.tuning.probe import ProbeFacts
from lightning_fastdata.tuning.remembered import Remembered

HANDOVER_NS = 300_000  # of a small batch from torch's workers; two Xeon cores, torch 2.14
HANDOVER_BYTES_PER_S = 2.4e9  # 3,891 samples/s of 602 kB from torch's workers, the same machine
RING_HANDOVER_NS = 200_000  # CPU time of taking any batch (64 / 319,299 s; bench_feed, two cores)
HEADROOM = 1.25  # workers beyond the mean need, for batches that take longer; guess until replayed
LEAST_TIMEOUT_S, TIMEOUT_SAMPLES = 60.0, 100  # guess: no sample takes a hundred times the usual


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
    remembered: Remembered | None = None
    """What an earlier run came to, for the same dataset on the same kind of machine."""


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
    _choose_workers(draft, wishes, situation, facts)
    engine = _worker_engine(wishes, situation)
    usual = usual_prefetch(engine, draft.num_workers)
    draft.prefetch_factor = wishes.prefetch_factor or usual
    if draft.num_workers:
        room = Room(
            memory_bytes=situation.memory_available_bytes,
            shm_bytes=situation.shm_free_bytes,
            files=situation.files_free,
            batch_bytes=None if facts is None else facts.batch_bytes,
        )
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
        shortage=draft.shortage,
        reasons=draft.reasons,
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
    draft: Draft, wishes: Wishes, situation: Situation, facts: ProbeFacts | None
) -> None:
    spare = max(1, math.floor(situation.cores) - 1)
    if wishes.num_workers != "auto":
        draft.num_workers, why = wishes.num_workers, "fixed by the user"
    elif wishes.engine == "inline":
        why = 'engine="inline" was asked for'
    elif situation.cores < 2 and wishes.engine == "auto":
        why = f"{situation.cores:g} core for this process: none to spare for a worker"
    elif situation.is_gather and wishes.engine == "auto":
        why = "rows of tensors in memory are picked by one copy, which handing over would repeat"
    elif situation.is_stream:
        draft.num_workers, why = 1, "an IterableDataset gives its data once only to one worker"
    elif facts is None:
        draft.num_workers = spare
        cores = f"{situation.cores:g} ({situation.cores_reason})"
        why = f"one a spare core of {cores}; no sample was measured"
    else:
        draft.num_workers, why = _workers_for(facts, wishes, situation, spare)
        if wishes.engine != "auto" and not draft.num_workers:
            draft.num_workers, why = 1, f'engine="{wishes.engine}" was asked for, though {why}'
    draft.reasons["num_workers"] = why
    draft.reasons["engine"] = f"no workers: {why}"


def _worker_engine(wishes: Wishes, situation: Situation) -> EngineName:
    return "torch" if wishes.engine == "torch" or situation.ring_problem else "ring"


def _why_engine(engine: EngineName, wishes: Wishes, situation: Situation) -> str:
    if wishes.engine != "auto":
        return f'engine="{engine}" was asked for'
    if engine == "torch":
        return f"torch's own workers, because {situation.ring_problem}"
    return "workers write batches into shared memory, where nothing has to copy them again"


def _workers_for(
    facts: ProbeFacts, wishes: Wishes, situation: Situation, spare: int
) -> tuple[int, str]:
    handover_ns: float = RING_HANDOVER_NS
    if _worker_engine(wishes, situation) == "torch":
        handover_ns = HANDOVER_NS + facts.batch_bytes / HANDOVER_BYTES_PER_S * 1e9
    batch = f"a batch of {facts.batch_bytes / 1e6:.3g} MB takes {_ms(facts.batch_wall_ns)} to make"
    if facts.batch_wall_ns <= handover_ns:
        return 0, f"{batch}, and handing it over from a worker would cost {_ms(handover_ns)}"
    if situation.step_time_s:
        step_ns = situation.step_time_s * 1e9
        if facts.batch_wall_ns <= situation.max_stall_fraction * step_ns:
            return (
                0,
                f"{batch}, under {situation.max_stall_fraction:.0%} of a step of {_ms(step_ns)}",
            )
        needed = math.ceil(HEADROOM * facts.batch_wall_ns / step_ns)
        why = f"{batch}, a step takes {_ms(step_ns)}, so {needed} keep up"
    else:
        needed = math.ceil(facts.batch_wall_ns / handover_ns)
        why = f"{batch}; the step's time is not known yet"
    if needed > spare:
        return spare, f"{why}; {spare} can be spared of {situation.cores:g} cores"
    return needed, why


def _ms(time_ns: float) -> str:
    return f"{time_ns / 1e6:.3g} ms"
