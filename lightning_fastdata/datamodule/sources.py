"""Where a data module's data comes from: its own datasets, or another data module's loaders."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from torch.utils.data import Dataset, IterableDataset

from lightning_fastdata.datamodule.bad_samples import check_bad_samples
from lightning_fastdata.datamodule.parts import LoaderParts, parts_of_loader
from lightning_fastdata.datamodule.trainer import is_overridden
from lightning_fastdata.datamodule.wishes import wishes_of
from lightning_fastdata.dataset.image_folder import ImageFolder
from lightning_fastdata.dataset.views import split_dataset
from lightning_fastdata.errors import DatasetError, SettingsError
from lightning_fastdata.loader.check import check_batches, check_length, check_workers

if TYPE_CHECKING:
    from lightning_fastdata.datamodule.module import FastDataModule

Kind = Literal["train", "val", "test", "predict"]
KINDS: tuple[Kind, ...] = ("train", "val", "test", "predict")
# Without type arguments: with them, jsonargparse does not know the arguments of a dataset's class.
_One: TypeAlias = Dataset | Callable[[], Any]  # type: ignore[type-arg]  # see above
DatasetSource: TypeAlias = _One | Sequence[_One] | Mapping[str, _One]
_KINDS_OF_STAGE: dict[str | None, tuple[Kind, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("predict",),
    None: KINDS,
}


class Source(Protocol):
    """Gives the parts of each kind of loader."""

    def has(self, kind: Kind) -> bool:
        """Whether there is, or will be after ``set_up``, data of this kind."""

    def set_up(self, stage: str | None) -> None:
        """Build what a stage needs and check it. Doing it twice builds nothing twice."""

    def parts(self, kind: Kind) -> Any:
        """The parts of this kind's loaders, in the structure that the trainer is to get."""


class OwnDatasets:
    """The datasets that were passed to a data module, or that its ``build_...`` methods give.

    Args:
        module: Whose they are.
    """

    def __init__(self, module: "FastDataModule") -> None:
        self._module = module
        self._datasets: dict[Kind, Any] = {}

    def has(self, kind: Kind) -> bool:
        """Whether a dataset was passed, or its ``build_...`` method is overridden."""
        module = self._module
        splits = kind == "val" and module.val_fraction is not None
        return (
            splits
            or getattr(module, f"{kind}_dataset") is not None
            or builds_own(self._module, kind)
        )

    def set_up(self, stage: str | None) -> None:
        """Build and check the datasets of a stage that are not there yet."""
        if stage not in _KINDS_OF_STAGE:
            wanted = ", ".join(map(repr, _KINDS_OF_STAGE))
            raise SettingsError(f"setup(stage={stage!r}), wanted one of {wanted}. Leave it out.")
        for kind in _KINDS_OF_STAGE[stage]:
            if kind not in self._datasets and self.has(kind):
                self._build(kind)

    def parts(self, kind: Kind) -> Any:
        """Join this kind's datasets with the data module's settings, as they are now."""
        module, training = self._module, kind == "train"
        batch_size = module.batch_size
        if not training and module.eval_batch_size is not None:
            batch_size = module.eval_batch_size

        def joined(dataset: Any) -> LoaderParts:
            drop_last = training and module.drop_last
            check_batches(check_length(dataset), batch_size, drop_last)
            return LoaderParts(
                dataset=dataset,
                batch_size=batch_size,
                shuffle=training and module.shuffle and not isinstance(dataset, IterableDataset),
                drop_last=drop_last,
                collate_fn=module.collate_fn,
                batch_transform=module.batch_transform,
                worker_init_fn=module.worker_init_fn,
                multiprocessing_context=module.multiprocessing_context,
            )

        return map_structure(self._datasets[kind], joined)

    def _build(self, kind: Kind) -> None:
        module = self._module
        if module.val_fraction is not None and kind in ("train", "val"):
            whole = build_dataset(module.build_train_dataset(), "train_dataset")
            if isinstance(whole, (Mapping, list, IterableDataset)):
                raise SettingsError(
                    f"val_fraction={module.val_fraction} with a train_dataset of type "
                    f"{type(whole).__name__}, wanted one map-style dataset. Pass a val_dataset."
                )
            train, val = split_dataset(whole, module.val_fraction, module.seed)
            if isinstance(whole, ImageFolder) and whole.transform is None:
                val.dataset = whole.for_evaluation()  # whole pictures, not random boxes of them
            self._datasets["train"], self._datasets["val"] = train, val
            return
        built = build_dataset(getattr(module, f"build_{kind}_dataset")(), f"{kind}_dataset")
        map_structure(built, check_length)
        self._datasets[kind] = built


class ForwardedHook:
    """A hook of another data module, which is shown our trainer before it is called.

    Args:
        existing: The other data module.
        hook: The name of its hook.
        module: The one that stands in for it.
    """

    def __init__(self, existing: Any, hook: str, module: "FastDataModule") -> None:
        self._existing, self._hook, self._module = existing, hook, module
        self.__code__ = getattr(existing, hook).__code__  # Lightning looks whether it is written

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the other data module's hook."""
        self._existing.trainer = self._module.trainer
        return getattr(self._existing, self._hook)(*args, **kwargs)


class ExistingModule:
    """The loaders that another data module makes.

    Args:
        existing: That data module.
        module: The one that stands in for it, and whose trainer it is to see.
    """

    def __init__(self, existing: Any, module: "FastDataModule") -> None:
        self.existing, self._module = existing, module

    def has(self, kind: Kind) -> bool:
        """Whether the other data module has written the hook."""
        return is_overridden(self.existing, f"{kind}_dataloader")

    def set_up(self, stage: str | None) -> None:
        """Set the other one up, each time the trainer asks."""
        self.existing.trainer = self._module.trainer
        self.existing.setup(stage)

    def parts(self, kind: Kind) -> Any:
        """Ask the other one for its loaders, and read what they are made of."""
        loaders = getattr(self.existing, f"{kind}_dataloader")()
        names = ("batch_transform", "worker_init_fn", "multiprocessing_context")
        settings = {name: getattr(self._module, name) for name in names}
        given = {name: value for name, value in settings.items() if value is not None}

        def read(loader: Any) -> Any:
            parts = parts_of_loader(loader)
            return loader if parts is None else replace(parts, **given)

        return map_structure(loaders, read)


def listed(datasets: Any) -> Any:
    """What Lightning's ``from_datasets`` takes: one dataset, or any iterable of datasets."""
    if isinstance(datasets, (Dataset, Mapping)) or not isinstance(datasets, Iterable):
        return datasets
    return list(datasets)


def check_settings(module: "FastDataModule") -> None:
    """Refuse settings that cannot work, before anything is built.

    Raises:
        SettingsError: Naming the setting.
    """
    for kind in KINDS:
        source = getattr(module, f"{kind}_dataset")
        if source is not None:
            map_structure(source, partial(_refuse_no_source, name=f"{kind}_dataset"))
    check_workers(module.num_workers)
    for size in (module.batch_size, module.eval_batch_size):
        check_batches(None, size, drop_last=False)
    wishes_of(module)  # refuses what cannot work together
    check_bad_samples(module)
    val_fraction, val_dataset = module.val_fraction, module.val_dataset
    if val_fraction is not None and (val_dataset is not None or not 0 < val_fraction < 1):
        raise SettingsError(
            f"val_fraction={val_fraction} with val_dataset={val_dataset!r:.60}, wanted a "
            "number between 0 and 1, or a val_dataset. Pass one of the two."
        )
    if val_fraction is not None and builds_own(module, "val"):
        raise SettingsError(
            f"val_fraction={val_fraction} with {type(module).__name__}.build_val_dataset, wanted "
            "one of the two. Leave val_fraction out, or do not override build_val_dataset."
        )
    if module.seed < 0:
        raise SettingsError(f"seed={module.seed}, wanted 0 or more. Pass a non-negative integer.")
    if not 0 <= module.max_stall_fraction < 1:
        raise SettingsError(
            f"max_stall_fraction={module.max_stall_fraction}, wanted 0 to 1. Pass for "
            "example 0.02, which allows 2 % of a step."
        )


def refuse_decided_settings(existing: Any, settings: Mapping[str, Any]) -> None:
    """Refuse what is no data module, and to change in a wrapper what the wrapped one decides.

    Raises:
        SettingsError: Naming what was found.
    """
    if isinstance(existing, type) or not hasattr(existing, "prepare_data_per_node"):
        raise SettingsError(
            f"wrap() was given {existing!r:.80}, wanted a LightningDataModule. Pass an object, for "
            "example wrap(YourDataModule()); datasets go to FastDataModule itself."
        )
    decided = {"train_dataset", "val_dataset", "test_dataset", "predict_dataset", "shuffle"}
    decided |= {"batch_size", "eval_batch_size", "val_fraction", "drop_last", "collate_fn"}
    if given := sorted(decided & settings.keys()):
        raise SettingsError(
            f"wrap() was given {', '.join(given)}, which the wrapped {type(existing).__name__} "
            "decides. Set it there, and pass wrap() only arguments that say how to load."
        )


def builds_own(module: "FastDataModule", kind: Kind) -> bool:
    """Whether a subclass has written the method that builds a dataset."""
    method = getattr(type(module), f"build_{kind}_dataset")
    return not method.__module__.startswith("lightning_fastdata.")


def map_structure(values: Any, convert: Callable[[Any], Any]) -> Any:
    """Apply ``convert`` to each value of nested lists, tuples and dicts, and keep the structure."""
    if isinstance(values, Mapping):
        return {key: map_structure(value, convert) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [map_structure(value, convert) for value in values]
    return convert(values)


def build_dataset(source: Any, name: str) -> Any:
    """Call what builds a dataset, inside lists, tuples and dicts too.

    Args:
        source: A dataset, a function without arguments, or a list, tuple or dict of these.
        name: The argument that it was given for, for the error.

    Raises:
        DatasetError: If there is something else in it.
    """

    def built(one: Any) -> Any:
        _refuse_no_source(one, name)
        return one if _is_dataset(one) else build_dataset(one(), name)

    return map_structure(source, built)


def _refuse_no_source(source: Any, name: str) -> None:
    if not _is_dataset(source) and not callable(source):
        raise DatasetError(
            f"{name} is {source!r:.80}, wanted a torch Dataset, a function without arguments that "
            "builds one, or a list or dict of these. Pass for example "
            f'{name}=ImageFolder("path/to/pictures").'
        )


def _is_dataset(source: Any) -> bool:
    # Anything with samples by number serves, as it does for torch's DataLoader.
    if isinstance(source, (str, bytes, type)):  # a class without arguments is one that builds
        return False
    return isinstance(source, Dataset) or (
        hasattr(source, "__getitem__") and hasattr(source, "__len__")
    )
