"""The plan of a loader whose number of workers changes, and who may not change it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch.utils.data import IterableDataset

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.loader.check import check_workers
from lightning_fastdata.loader.hazards.handles import describe_handles, find_all_handles
from lightning_fastdata.loader.hazards.pickling import explain_unpicklable, find_unpicklable
from lightning_fastdata.loader.serves import ring_problem
from lightning_fastdata.plan import EngineName, LoaderPlan, StartMethod
from lightning_fastdata.tuning.choose import LEAST_TIMEOUT_S
from lightning_fastdata.tuning.forecast import usual_prefetch


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerWishes:
    """What was asked for of workers, whether there are any now or not."""

    engine: EngineName | Literal["auto"]
    persistent_workers: bool
    prefetch_factor: int | None
    """Batches in flight a worker; ``None`` goes by their number."""
    sample_timeout_s: float | Literal["auto"] | None
    start_method: StartMethod | None


def prefetch_wish(plan: LoaderPlan, wish: int | None) -> int | None:
    """Batches in flight a worker that stay so many; ``None`` where they go by the workers' number.

    Args:
        plan: What the loader begins with.
        wish: What the user fixed, where that is known.
    """
    workers = plan.num_workers
    if wish is not None or not workers:
        return wish
    each = plan.prefetch_batches // workers
    return None if each == usual_prefetch(plan.engine, workers) else max(1, each)


def check_resize(num_workers: Any, wishes: WorkerWishes, dataset: Any) -> None:
    """Refuse what cannot be.

    Raises:
        SettingsError: If it is no number of workers that this loader can have.
    """
    if num_workers == "auto":
        raise SettingsError(
            'resize("auto"), wanted 0 workers or more. A loader with num_workers="auto" finds the '
            "number by itself while training runs."
        )
    check_workers(num_workers)
    if isinstance(dataset, IterableDataset):
        raise SettingsError(
            f"resize({num_workers}) of a loader of an IterableDataset, wanted a map-style dataset: "
            "each worker of a stream gives its part of the data, and one more would give some of "
            "it twice. Pass num_workers to a new loader."
        )
    if wishes.engine == "inline" and num_workers:
        raise SettingsError(
            f'resize({num_workers}) of a loader with engine="inline", wanted 0 workers: inline '
            'makes batches in the training process. Pass engine="auto" to the loader.'
        )
    if wishes.engine in ("ring", "torch") and not num_workers:
        raise SettingsError(
            f'resize(0) of a loader with engine="{wishes.engine}", wanted 1 worker or more. Pass '
            'engine="auto" to the loader.'
        )


def check_handover(num_workers: int, parts: Mapping[str, Any], start_method: StartMethod) -> None:
    """Refuse to go on with workers where these could not have what this process has opened.

    Even a dataset that opens its files late, as it is advised to, has opened them here by now.

    Args:
        num_workers: That would take over.
        parts: What they need of the user's, by name.
        start_method: How they would be started.

    Raises:
        SettingsError: Naming the part.
    """
    found = None
    if start_method == "fork":
        handles = find_all_handles(parts)
        found = describe_handles(handles) if handles else None
    else:
        culprits = (find_unpicklable(part, name) for name, part in parts.items())
        culprit = next((each for each in culprits if each is not None), None)
        found = None if culprit is None else explain_unpicklable(culprit)
    if found is not None:
        raise SettingsError(
            f"{num_workers} would be better, but this process has made batches itself until now. "
            f"{found.rstrip()}\nOr pass num_workers={num_workers}, so that workers are there from "
            "the start and each opens its own."
        )


def resized_plan(
    plan: LoaderPlan, num_workers: int, wishes: WorkerWishes, *, why: str
) -> LoaderPlan:
    """Change a plan to another number of workers.

    Args:
        plan: As it is.
        num_workers: From now on, 0 or more.
        wishes: What workers are to be like.
        why: A reason for the new number.

    Raises:
        SettingsError: If there are none so far, and the ring, which alone can take over, cannot
            serve here.
    """
    had_none = plan.num_workers == 0
    engine = _engine(plan, num_workers, wishes)
    each = wishes.prefetch_factor or usual_prefetch(engine, num_workers)
    reasons = {**plan.reasons, "num_workers": why}
    if wishes.prefetch_factor is None:
        reasons["prefetch_batches"] = f"{each} a worker"
    if had_none and num_workers:
        reasons["engine"] = "workers are wanted while training runs"
    elif not num_workers:
        reasons["engine"] = f"no workers: {why}"
    plan = replace(
        plan,
        engine=engine,
        num_workers=num_workers,
        prefetch_batches=each * num_workers,
        persistent_workers=wishes.persistent_workers and num_workers > 0,
        start_method=wishes.start_method if num_workers else None,
        predicted_stall_fraction=None,
        reasons=reasons,
    )
    return _with_timeout(plan, wishes, reasons) if had_none and engine == "ring" else plan


def _engine(plan: LoaderPlan, num_workers: int, wishes: WorkerWishes) -> EngineName:
    if not num_workers:
        return "inline"
    if plan.num_workers:
        return plan.engine
    if wishes.engine == "torch":
        return "torch"
    problem = ring_problem()
    if problem is not None:
        raise SettingsError(
            f"resize({num_workers}) of a loader without workers, but {problem}. Pass "
            f"num_workers={num_workers} to a new loader: torch's workers serve there."
        )
    return "ring"


def _with_timeout(plan: LoaderPlan, wishes: WorkerWishes, reasons: Mapping[str, str]) -> LoaderPlan:
    """Without workers nobody was watched, so there is no limit yet."""
    limit_s = wishes.sample_timeout_s
    follows = limit_s == "auto"
    return replace(
        plan,
        sample_timeout_s=LEAST_TIMEOUT_S if limit_s == "auto" else limit_s,
        sample_timeout_follows=follows,
        reasons={
            **reasons,
            "sample_timeout_s": (
                f"{LEAST_TIMEOUT_S:g} s, or far more than the slowest sample seen"
                if follows
                else "fixed by the user"
            ),
        },
    )
