"""What a data module needs to know of its trainer, read in one place.

Some of it has no public name in Lightning; those reads are marked, and the tests of resuming and of
ranks fail where one has moved.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from lightning.fabric.utilities.seed import pl_worker_init_function

from lightning_fastdata.errors import SettingsError

EARLY_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device")
_DTYPES = {
    "64-true": torch.float64,
    "16-true": torch.float16,
    "bf16-true": torch.bfloat16,
    "16-mixed": torch.float16,
    "bf16-mixed": torch.bfloat16,
}


def device_of(trainer: Any) -> torch.device:
    """The device that training runs on; the host where there is no trainer."""
    if trainer is None:
        return torch.device("cpu")
    device: torch.device = trainer.strategy.root_device
    return device


def step_dtype(trainer: Any) -> torch.dtype:
    """The floating-point type that a training step computes in."""
    precision = None if trainer is None else str(trainer.precision)
    return _DTYPES.get(precision or "", torch.float32)


def ranks_of(trainer: Any) -> dict[str, int]:
    """``num_replicas`` and ``rank`` that share the data; one where the user wants no sharding."""
    alone = {"num_replicas": 1, "rank": 0}
    if trainer is None:
        return {}
    if not trainer._accelerator_connector.use_distributed_sampler:  # no public name
        return alone
    kwargs = trainer.distributed_sampler_kwargs
    return alone if kwargs is None else dict(kwargs)


def overfits(trainer: Any) -> bool:
    """Whether the trainer goes over a few unshuffled batches again and again."""
    return trainer is not None and trainer.overfit_batches > 0


def is_running(trainer: Any) -> bool:
    """Whether a run is under way, so that all ranks come by the same points together."""
    return str(trainer.state.status.value) == "running"


def is_dry_run(trainer: Any) -> bool:
    """Whether only a few batches are run, to see that nothing breaks."""
    return trainer is not None and bool(trainer.fast_dev_run)


def is_trial(trainer: Any) -> bool:
    """Whether what runs is over soon, or of batches that are not the run's.

    Lightning's finders of a batch size and a learning rate run the training loop before it starts,
    with all callbacks taken away, or all but a recorder of theirs.
    """
    if trainer is None:
        return False
    if is_dry_run(trainer) or overfits(trainer):
        return True
    callbacks, model = trainer.callbacks, trainer.lightning_module
    # The finder is itself a callback, so there is one whenever Lightning calls this hook of it.
    finds_size = not callbacks and getattr(model, "_current_fx_name", None) == "on_fit_start"
    return finds_size or any(type(each).__name__ == "_LRCallback" for each in callbacks)


def is_first_here(trainer: Any) -> bool:
    """Whether this process speaks for all ranks of its machine."""
    return trainer is None or int(trainer.local_rank) == 0


def measured_transfer(trainer: Any) -> AbstractContextManager[Any]:
    """A context that the trainer's profiler sees as a transfer, though it happens in the loader."""
    name = f"[Strategy]{type(trainer.strategy).__name__}.batch_to_device"
    context: AbstractContextManager[Any] = trainer.profiler.profile(name)
    return context


def with_lightnings_seeds(
    worker_init_fn: Callable[[int], None] | None,
) -> Callable[[int], None] | None:
    """Chain the seeding that ``seed_everything(workers=True)`` asks for before the user's function.

    Lightning adds it by itself only to loaders whose user has no function.
    """
    if worker_init_fn is None or os.environ.get("PL_SEED_WORKERS", "0") == "0":
        return worker_init_fn
    return partial(_seed_then_call, worker_init_fn)


def _seed_then_call(worker_init_fn: Callable[[int], None], worker_id: int) -> None:
    pl_worker_init_function(worker_id)
    worker_init_fn(worker_id)


class TrainerConsumer:
    """The trainer, as a loader sees it.

    Args:
        trainer: Whose loop takes the batches.
        training: Whether that is the training loop.
    """

    def __init__(self, trainer: Any, *, training: bool) -> None:
        self._trainer, self._training = trainer, training

    def epoch(self) -> int:
        """The trainer's epoch.

        When ``configure_optimizers`` asks for ``estimated_stepping_batches``, Lightning builds the
        training loaders before it has read the checkpoint's loop state, and then forgets to give
        the loaders their saved positions. At the first batch it has the positions at hand.
        """
        loop = self._trainer.fit_loop
        if self._training and getattr(loop, "_combined_loader_states_to_load", None):
            loop._load_combined_loader_states()  # no public name
        epoch: int = self._trainer.current_epoch
        return epoch

    def unused_batches(self) -> int:
        """Batches that Lightning has fetched ahead: one, where a loader has no length."""
        fetcher = self._trainer.fit_loop._data_fetcher if self._training else None  # no public name
        return len(getattr(fetcher, "batches", ()))

    def resume(self, saved_batches: int, batches: int) -> None:
        """Let Lightning count as the loader does, where ranks or the batch size have changed.

        Lightning ends an epoch when it has counted to the loader's length. Where several loaders
        are combined, the one that it counts by is the one whose number it has.
        """
        loop = self._trainer.fit_loop
        current = loop.epoch_loop.batch_progress.current
        moved = batches - saved_batches
        if not self._training or not moved or current.ready != saved_batches:
            return
        for count in ("ready", "started", "processed", "completed"):
            setattr(current, count, getattr(current, count) + moved)
        if loop._data_fetcher is not None and loop._data_fetcher.fetched:  # no public name
            loop._data_fetcher.fetched += moved


def early_overrides(trainer: Any, datamodule: Any) -> list[str]:
    """Name the hooks before the transfer that the user has written, as ``Class.hook``."""
    if trainer is None:
        return []
    owners = (trainer.lightning_module, datamodule)
    return [
        f"{type(owner).__name__}.{hook}"
        for owner in owners
        if owner is not None
        for hook in EARLY_HOOKS
        if is_overridden(owner, hook)
    ]


def is_overridden(owner: Any, hook: str) -> bool:
    """Whether a hook was written by the user, under either of Lightning's two names."""
    if hook in vars(owner):  # Lightning's from_datasets writes hooks onto the instance
        return True
    writer = next(base for base in type(owner).__mro__ if hook in vars(base))
    return not writer.__module__.startswith(("lightning.pytorch.core.", "pytorch_lightning.core."))


def refuse_early_overrides(overrides: list[str], transform: Any) -> None:
    """Refuse a device transform where a hook of the user's must see the batch before its transfer.

    Raises:
        SettingsError: Naming both.
    """
    if overrides:
        raise SettingsError(
            f"device_transform is {_name(transform)}, and {' and '.join(overrides)} must see "
            "batches before they are on the device, wanted one of the two. Pass "
            "device_transform=None, or move the work into on_after_batch_transfer."
        )


def _name(transform: Any) -> str:
    return getattr(transform, "__name__", type(transform).__name__)
