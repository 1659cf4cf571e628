"""``FastDataModule``: the datasets of a run, and loaders for them that keep training fed."""

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning
from lightning.pytorch import LightningDataModule
from typing_extensions import Self, override

from lightning_fastdata.datamodule.absent import AbsentLoader
from lightning_fastdata.datamodule.assemble import assemble_loaders
from lightning_fastdata.datamodule.planner import Planner
from lightning_fastdata.datamodule.sources import (
    KINDS,
    DatasetSource,
    ExistingModule,
    ForwardedHook,
    Kind,
    OwnDatasets,
    Source,
    check_settings,
    listed,
    refuse_decided_settings,
)
from lightning_fastdata.datamodule.trainer import is_first_here, is_overridden
from lightning_fastdata.plan import EngineName
from lightning_fastdata.report.plans import plan_as_arguments, plans_table
from lightning_fastdata.report.table import show

_FORWARDED = (
    "prepare_data",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
    "on_exception",
)


class FastDataModule(  # type: ignore[misc]  # the two bases are one code under two names
    LightningDataModule, pytorch_lightning.LightningDataModule
):
    """Owns the datasets of a run and feeds ``Trainer.fit`` from them without stalls.

    Works with the Trainers of ``lightning`` and ``pytorch_lightning``. How batches are loaded is
    measured and decided unless you fix it; ``explain()`` says what was decided and why. Batches are
    the same for any of these decisions. Subclasses may override ``prepare_data`` and
    ``build_train_dataset``, ``build_val_dataset``, ``build_test_dataset`` and
    ``build_predict_dataset`` instead of passing datasets.

    Args:
        train_dataset: A dataset, a function without arguments that builds one (called in
            ``setup``), or a list or dict of these.
        val_dataset: The same, for validation.
        test_dataset: The same, for tests.
        predict_dataset: The same, for predictions.
        batch_size: Samples a batch and rank; read whenever a loader is made.
        eval_batch_size: The same for validation, tests and predictions; ``None`` is ``batch_size``.
        val_fraction: Share (0 to 1) of the training dataset to validate with instead, split at
            random by ``seed``.
        num_workers: Worker processes a loader; ``"auto"`` measures. A number is kept.
        prefetch_factor: Batches made ahead by each worker.
        pin_memory: Whether batches are made in page-locked memory; ``"auto"`` is exactly when
            they go to a CUDA device.
        persistent_workers: Whether workers live on between epochs.
        shuffle: Whether training samples come in a new seeded order each epoch.
        drop_last: Whether a last training batch that is not full is left out.
        collate_fn: Makes a batch of a list of samples; ``None`` is torch's.
        batch_transform: Called in the worker on each collated batch; best where it works in place.
        device_transform: Called with each batch on the device; ``"auto"`` normalises the pictures
            of our ``ImageFolder`` and leaves all else alone, ``None`` does nothing.
        worker_init_fn: Called with the worker's number in each worker.
        multiprocessing_context: How workers are started: ``fork``, ``forkserver`` or ``spawn``.
        seed: Names the run's orders, splits and random numbers, 0 or more.
        engine: ``"inline"`` (the training process), ``"ring"`` (workers that write into shared
            memory; on Linux), ``"torch"`` (torch's own workers) or ``"auto"``.
        max_stall_fraction: Share of a step (0 to 1) that may be spent waiting; fewer workers are
            taken where they reach it, once the time of a step is known.
        on_bad_sample: What is done about a sample that raises, hangs or ends its worker twice:
            ``"raise"``, or ``"skip"``, where another one of the order takes its place in training
            and evaluation has one fewer.
        max_bad_fraction: Share (0 to 1) of a dataset that may be bad before that is an error.
        sample_timeout_s: Seconds that workers may take for a sample; ``"auto"`` is far more than
            the slowest one seen, and 60 or more; ``None`` is for ever.
        quarantine: Folder for the lists of bad samples, one a loader, which the next run reads;
            ``None`` is ``quarantine`` in the trainer's ``default_root_dir``.

    Raises:
        SettingsError: If arguments cannot work together.
    """

    def __init__(
        self,
        train_dataset: DatasetSource | None = None,
        val_dataset: DatasetSource | None = None,
        test_dataset: DatasetSource | None = None,
        predict_dataset: DatasetSource | None = None,
        *,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        val_fraction: float | None = None,
        num_workers: int | Literal["auto"] = "auto",
        prefetch_factor: int | Literal["auto"] = "auto",
        pin_memory: bool | Literal["auto"] = "auto",
        persistent_workers: bool | Literal["auto"] = "auto",
        shuffle: bool = True,
        drop_last: bool = False,
        collate_fn: Callable[[Any], Any] | None = None,
        batch_transform: Callable[[Any], Any] | None = None,
        device_transform: Callable[[Any], Any] | Literal["auto"] | None = "auto",
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Literal["fork", "forkserver", "spawn"] | None = None,
        seed: int = 0,
        engine: EngineName | Literal["auto"] = "auto",
        max_stall_fraction: float = 0.02,
        on_bad_sample: Literal["raise", "skip"] = "raise",
        max_bad_fraction: float = 0.01,
        sample_timeout_s: float | Literal["auto"] | None = "auto",
        quarantine: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.train_dataset, self.val_dataset = train_dataset, val_dataset
        self.test_dataset, self.predict_dataset = test_dataset, predict_dataset
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_fraction, self.num_workers = val_fraction, num_workers
        self.prefetch_factor, self.pin_memory = prefetch_factor, pin_memory
        self.persistent_workers, self.shuffle = persistent_workers, shuffle
        self.drop_last = drop_last
        self.collate_fn, self.batch_transform = collate_fn, batch_transform
        self.device_transform, self.worker_init_fn = device_transform, worker_init_fn
        self.multiprocessing_context, self.seed = multiprocessing_context, seed
        self.engine, self.max_stall_fraction = engine, max_stall_fraction
        self.on_bad_sample, self.max_bad_fraction = on_bad_sample, max_bad_fraction
        self.sample_timeout_s, self.quarantine = sample_timeout_s, quarantine
        check_settings(self)
        self.planner = Planner()
        self._source: Source = OwnDatasets(self)
        self._set_up: set[str | None] = set()
        self._hide_absent_loaders()

    @classmethod
    @override
    def from_datasets(
        cls,
        train_dataset: Any = None,
        val_dataset: Any = None,
        test_dataset: Any = None,
        predict_dataset: Any = None,
        batch_size: int = 1,
        num_workers: int | Literal["auto"] = "auto",
        **datamodule_kwargs: Any,
    ) -> Self:
        """Build a data module as Lightning's own ``from_datasets`` does, with sequences as there.

        Args:
            train_dataset: A dataset, or an iterable of datasets whose batches come together.
            val_dataset: The same, for validation.
            test_dataset: The same, for tests.
            predict_dataset: The same, for predictions.
            batch_size: Samples a batch and rank.
            num_workers: Worker processes a loader, or ``"auto"``.
            **datamodule_kwargs: Further arguments of the class; unknown ones are errors.
        """
        datasets = (train_dataset, val_dataset, test_dataset, predict_dataset)
        return cls(
            *(listed(dataset) for dataset in datasets),
            batch_size=batch_size,
            num_workers=num_workers,
            **datamodule_kwargs,
        )

    @classmethod
    def wrap(cls, datamodule: Any, **settings: Any) -> Self:
        """Feed training from an existing data module's datasets, batches and hooks.

        Args:
            datamodule: Any ``LightningDataModule``. Its ``prepare_data``, ``setup``, ``teardown``,
                ``state_dict``, transfer hooks and loaders are asked as ever; each stock
                ``DataLoader`` that it makes is replaced by one that gives the same samples in
                batches of the same size, and any other loader is left as it is.
            **settings: Arguments of this class that say how to load (``num_workers``, ``seed``).

        Raises:
            SettingsError: For a setting that the existing data module decides, such as
                ``batch_size``.
        """
        refuse_decided_settings(datamodule, settings)
        module = cls(**settings)
        module._source = ExistingModule(datamodule, module)
        for hook in _FORWARDED:
            if is_overridden(datamodule, hook):
                setattr(module, hook, ForwardedHook(datamodule, hook, module))
        module.prepare_data_per_node = datamodule.prepare_data_per_node
        module._hide_absent_loaders()
        return module

    def build_train_dataset(self) -> Any:
        """Give the training dataset; override it to build your own. Called once, by ``setup``."""
        return self.train_dataset

    def build_val_dataset(self) -> Any:
        """Give the validation dataset; override it to build your own. Called once, by ``setup``."""
        return self.val_dataset

    def build_test_dataset(self) -> Any:
        """Give the test dataset; override it to build your own. Called once, by ``setup``."""
        return self.test_dataset

    def build_predict_dataset(self) -> Any:
        """Give the prediction dataset; override it to build your own. Called once, by ``setup``."""
        return self.predict_dataset

    @override
    def setup(self, stage: str | None = None) -> None:
        """Build and check the datasets of a stage; a second call builds nothing twice.

        Raises:
            DatasetError: If a dataset is missing, empty, or no dataset.
            SettingsError: If the batch size leaves no batch.
        """
        self._source.set_up(stage)
        self._set_up.add(stage)
        self._hide_absent_loaders()

    @override
    def train_dataloader(self) -> Any:
        """Make the training loaders; outside a Trainer, it sets up by itself."""
        return self._loaders("train", "fit")

    @override
    def val_dataloader(self) -> Any:
        """Make the validation loaders."""
        return self._loaders("val", "validate")

    @override
    def test_dataloader(self) -> Any:
        """Make the test loaders."""
        return self._loaders("test", "test")

    @override
    def predict_dataloader(self) -> Any:
        """Make the prediction loaders."""
        return self._loaders("predict", "predict")

    @override
    def teardown(self, stage: str) -> None:
        """Remember how training was loaded for the next run, and let a wrapped module clean up."""
        if stage == "fit" and is_first_here(self.trainer):
            self.planner.keep()
        if isinstance(self._source, ExistingModule):
            self._source.existing.teardown(stage)

    @override
    def state_dict(self) -> dict[str, Any]:
        """Give the settings in use and the step's time as plain values, for a checkpoint."""
        state: dict[str, Any] = {"planner": self.planner.state_dict()}
        if isinstance(self._source, ExistingModule):
            state["wrapped"] = self._source.existing.state_dict()
        return state

    @override
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave; positions are the loaders' own, not kept here."""
        self.planner.load_state_dict(state_dict["planner"])
        if isinstance(self._source, ExistingModule):
            self._source.existing.load_state_dict(state_dict.get("wrapped", {}))

    def explain(self) -> None:
        """Print each automatic choice of each loader with its reason."""
        show(plans_table(self.planner.plans))

    def resolved_settings(self) -> dict[str, dict[str, Any]]:
        """Give what was decided for each loader, as arguments that make the same choices again."""
        return {name: plan_as_arguments(plan) for name, plan in self.planner.plans.items()}

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(plans_table(self.planner.plans)))}</pre>"

    def _loaders(self, kind: Kind, stage: str) -> Any:
        if not self._source.has(kind):
            AbsentLoader(kind)()
        if not self._set_up & {stage, "fit" if kind == "val" else stage, None}:
            if self.trainer is None and not self._set_up:
                self.prepare_data()  # a trainer would have called it
            self.setup(stage)
        return assemble_loaders(self, kind, self._source.parts(kind))

    def _hide_absent_loaders(self) -> None:
        """Let Lightning see a hook as not written where there is no data for it."""
        for kind in KINDS[1:]:
            hook = f"{kind}_dataloader"
            if self._source.has(kind):
                vars(self).pop(hook, None)
            else:
                setattr(self, hook, AbsentLoader(kind))
