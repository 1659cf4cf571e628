"""One loader out of its parts, the data module's settings and what the trainer asks for."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lightning.fabric.utilities.apply_func import move_data_to_device
from torch.utils.data import IterableDataset, SequentialSampler

from lightning_fastdata.datamodule.bad_samples import bad_sample_arguments
from lightning_fastdata.datamodule.parts import LoaderParts
from lightning_fastdata.datamodule.trainer import (
    TrainerConsumer,
    device_of,
    early_overrides,
    is_dry_run,
    is_running,
    is_trial,
    measured_transfer,
    overfits,
    ranks_of,
    refuse_early_overrides,
    step_dtype,
    with_lightnings_seeds,
)
from lightning_fastdata.datamodule.wishes import wishes_of
from lightning_fastdata.dataset.image_folder import ImageFolder
from lightning_fastdata.dataset.views import base_of
from lightning_fastdata.loader.check import refuse_empty_share
from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.loader.make import recipe_of
from lightning_fastdata.order import EpochOrder
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.transfer.deliver import Deliver
from lightning_fastdata.transfer.normalize import NormalizePictures

if TYPE_CHECKING:
    from lightning_fastdata.datamodule.module import FastDataModule


def assemble_loaders(module: "FastDataModule", name: str, parts: Any) -> Any:
    """Build the loaders of one kind, in the structure that their parts have.

    Args:
        module: The data module, attached to its trainer if there is one.
        name: ``train``, ``val``, ``test`` or ``predict``; nested ones are ``val[1]``, ``train[a]``.
        parts: A ``LoaderParts``, or lists and dicts of them; anything else is left as it is.
    """
    if isinstance(parts, Mapping):
        return {
            key: assemble_loaders(module, f"{name}[{key}]", part) for key, part in parts.items()
        }
    if isinstance(parts, list):
        return [assemble_loaders(module, f"{name}[{key}]", part) for key, part in enumerate(parts)]
    return _assemble(module, name, parts) if isinstance(parts, LoaderParts) else parts


def _assemble(module: "FastDataModule", name: str, parts: LoaderParts) -> FastDataLoader:
    """Everything goes by keyword, so that Lightning can build the loader anew."""
    trainer, training = module.trainer, name.startswith("train")
    deliver = choose_delivery(module, parts.dataset)
    plan = _plan(module, name, parts)
    loader = FastDataLoader(
        dataset=parts.dataset,
        batch_size=parts.batch_size,
        sampler=_sampler(module, parts, training=training),
        batch_sampler=parts.batch_sampler,
        num_workers=plan.num_workers,
        collate_fn=parts.collate_fn,
        drop_last=parts.drop_last,
        timeout=parts.timeout,
        worker_init_fn=with_lightnings_seeds(parts.worker_init_fn),
        multiprocessing_context=parts.multiprocessing_context,
        **_worker_arguments(module),
        seed=module.seed,
        batch_transform=parts.batch_transform,
        max_stall_fraction=module.max_stall_fraction,
        plan=plan,
        consumer=None if trainer is None else TrainerConsumer(trainer, training=training),
        deliver=deliver,
        **bad_sample_arguments(module, name, parts.dataset, training=training),
    )
    if training:
        refuse_empty_share(loader)
        module.planner.watch(name, loader, is_trial=is_trial(trainer))
    _settle_advice(name, measured=module.num_workers == "auto")
    return loader


def _worker_arguments(module: "FastDataModule") -> dict[str, Any]:
    """What the user fixed about workers; the plan has it too, unless there are none yet."""
    prefetch_factor = module.prefetch_factor
    return {
        "engine": module.engine,
        "prefetch_factor": None if prefetch_factor == "auto" else prefetch_factor,
        "persistent_workers": module.persistent_workers,
        "sample_timeout_s": module.sample_timeout_s,
    }


def _settle_advice(name: str, *, measured: bool) -> None:
    """Silence Lightning's "does not have many workers" where a measured plan would contradict it.

    The filter is the process's, so the next loader that was not measured takes it away again.
    """
    warnings.filterwarnings("ignore", f".*'{name[:3]}.*does not have many workers.*")
    if not measured:
        del warnings.filters[0]  # type: ignore[attr-defined]  # the one just put in front


def choose_delivery(module: "FastDataModule", dataset: Any) -> Deliver | None:
    """How batches get to the device, and what is done there; ``None`` leaves it to Lightning.

    Raises:
        SettingsError: If a hook of the user's must see batches before the transfer.
    """
    trainer = module.trainer
    transform = module.device_transform
    draws = transform != "auto"
    if transform == "auto":
        base = base_of(dataset)
        normalizes = isinstance(base, ImageFolder) and base.transform is None
        transform = (
            NormalizePictures(base.mean, base.std, step_dtype(trainer)) if normalizes else None
        )
    overrides = early_overrides(trainer, module)
    if overrides:
        if transform is not None:
            refuse_early_overrides(overrides, transform)
        return None
    device = device_of(trainer)
    if transform is None and device.type == "cpu":
        return None
    move: Callable[[Any], Any] = partial(move_data_to_device, device=device)
    measured = nullcontext if trainer is None else partial(measured_transfer, trainer)
    return Deliver(device, move, transform, draws=draws, measured=measured)


def _plan(module: "FastDataModule", name: str, parts: LoaderParts) -> LoaderPlan:
    trainer = module.trainer
    batched = parts.batch_size is not None or parts.batch_sampler is not None
    recipe = recipe_of(parts.dataset, parts.collate_fn, parts.batch_transform, batched=batched)
    wishes = wishes_of(module)
    if is_dry_run(trainer) and wishes.num_workers == wishes.engine == "auto":
        wishes = replace(wishes, engine="inline")  # a few batches are not worth measuring for
    device = device_of(trainer)
    plan = module.planner.plan(
        name,
        wishes,
        recipe,
        parts.batch_size or getattr(parts.batch_sampler, "batch_size", None) or 1,
        local_world_size=None if trainer is None else trainer.num_devices,
        max_stall_fraction=module.max_stall_fraction,
        bad_samples_end_it=module.on_bad_sample == "raise",
        device=device.index if device.type == "cuda" else None,
    )
    if is_trial(trainer):
        plan = replace(plan, max_workers=None)  # over before it shows how many workers it needs
    # Each rank measured or remembered for itself, and they must not differ.
    if trainer is not None and is_running(trainer):
        plan = agreed_plan(plan, trainer.strategy.broadcast(plan))
    module.planner.settle(name, plan)
    return plan


def agreed_plan(own: LoaderPlan, first: LoaderPlan) -> LoaderPlan:
    """Take the first rank's plan, with one's own cores: each rank's GPU is near to other ones."""
    reasons = {field: why for field, why in first.reasons.items() if field != "worker_cores"}
    if "worker_cores" in own.reasons:
        reasons["worker_cores"] = own.reasons["worker_cores"]
    return replace(first, worker_cores=own.worker_cores, reasons=reasons)


def _sampler(module: "FastDataModule", parts: LoaderParts, *, training: bool) -> Any:
    if parts.batch_sampler is not None or isinstance(parts.dataset, IterableDataset):
        return None
    if overfits(module.trainer):
        return SequentialSampler(parts.dataset)  # what Lightning would put in, with a warning
    if parts.sampler is not None:
        return parts.sampler
    return EpochOrder(
        parts.dataset,
        shuffle=parts.shuffle,
        seed=module.seed,
        drop_last=parts.drop_last,
        pad=training,
        **ranks_of(module.trainer),
    )
