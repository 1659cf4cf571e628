"""From what a user has to what is loaded in training: one dataset, and how its batches are made."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightning_fastdata.checkup.locate import build
from lightning_fastdata.checkup.user_code import call_user
from lightning_fastdata.datamodule import FastDataModule
from lightning_fastdata.datamodule.parts import LoaderParts, parts_of_loader
from lightning_fastdata.datamodule.sources import ExistingModule, OwnDatasets
from lightning_fastdata.errors import DatasetError, SettingsError
from lightning_fastdata.loader.check import check_length
from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.order import EpochOrder
from lightning_fastdata.trials import Subject

USUAL_BATCH_SIZE = 32  # FastDataModule's own
MOST_NAMED = 8  # places of loaders in an error


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What is to be tuned."""

    subject: Subject
    module: Any = None
    """A copy of the data module it comes from, set up, or one of ours around a bare dataset;
    ``None`` for a loader, whose batches reach training as they are."""


def source_of(given: Any, batch_size: int | None) -> Source:
    """Find the one training dataset of what was given, and how its batches are made.

    Args:
        given: As ``tune`` takes it.
        batch_size: Samples a batch, instead of the source's own.

    Raises:
        SettingsError: If there is nothing to choose for it.
        DatasetError: If it cannot be built, or is no dataset.
    """
    built = build(given, getattr(given, "__name__", type(given).__name__))
    module = None
    if hasattr(built, "train_dataloader"):
        module = _twin_of(built)
        parts, name = _training_parts(module), type(built).__name__
    else:
        parts, name = built, type(built).__name__
    found = list(islice(_each("", parts), MOST_NAMED + 1))  # a list may hold millions of samples
    if len(found) != 1:
        places = ", ".join(place or type(one).__name__ for place, one in found[:MOST_NAMED])
        count = len(found) if len(found) <= MOST_NAMED else f"more than {MOST_NAMED}"
        raise SettingsError(
            f"{name} has {count} training loaders ({places or 'none'}), wanted one: each has a "
            "number of workers of its own. Pass them to tune() one by one; samples in a list go "
            "into a DataLoader."
        )
    subject = _subject_of(found[0][1], name)
    subject = _with_settings(subject, module)
    _refuse_streams(subject.dataset)
    if batch_size is not None:
        subject = _with_batch_size(subject, batch_size)
    if module is None and not isinstance(found[0][1], DataLoader):
        module = FastDataModule(subject.dataset, batch_size=subject.samples_a_batch)
    return Source(subject=subject, module=module)


def _each(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every loader of nested lists and dicts, with where it stands."""
    if isinstance(value, Mapping) and not isinstance(value, Dataset):
        for key, one in value.items():
            yield from _each(f"{place}.{key}" if place else str(key), one)
    elif isinstance(value, (list, tuple)) and any(map(_is_source, value)):
        for position, one in enumerate(value):
            yield from _each(f"{place}[{position}]", one)
    elif hasattr(value, "iterables"):  # Lightning's CombinedLoader
        yield from _each(place, value.iterables)
    else:
        yield place, build(value, place or type(value).__name__)


def _is_source(value: Any) -> bool:
    """Whether a list holds loaders or datasets rather than samples."""
    return isinstance(value, (Dataset, DataLoader, LoaderParts, Mapping, list))


def _twin_of(module: Any) -> Any:
    """A copy of a data module whose setting up leaves the module as it is."""
    twin = copy.copy(module)
    if isinstance(module, FastDataModule):
        twin._set_up = set(module._set_up)
        if isinstance(module._source, OwnDatasets):
            twin._source = OwnDatasets(twin)
            twin._source._datasets = dict(module._source._datasets)
        elif isinstance(module._source, ExistingModule):
            twin._source = ExistingModule(copy.copy(module._source.existing), twin)
    twin.trainer = None
    return twin


def _training_parts(twin: Any) -> Any:
    """Set a data module up and ask what it trains on."""
    name = type(twin).__name__
    call_user(twin.prepare_data, f"{name}.prepare_data()", "wanted the data to be there")
    call_user(partial(twin.setup, "fit"), f'{name}.setup("fit")', "wanted the datasets")
    if isinstance(twin, FastDataModule):
        if not twin._source.has("train"):
            raise DatasetError(
                f"found no training data in {name}, wanted a train_dataset. Pass one, or a dataset "
                "itself."
            )
        return twin._source.parts("train")
    return call_user(twin.train_dataloader, f"{name}.train_dataloader()", "wanted a loader")


def _subject_of(one: Any, name: str) -> Subject:
    if isinstance(one, LoaderParts):
        return _of_parts(one, name)
    if isinstance(one, FastDataLoader):
        return _of_fast_loader(one, name)
    if isinstance(one, DataLoader):
        parts = parts_of_loader(one)
        if parts is None:
            raise SettingsError(
                f"found a {type(one).__name__}, wanted torch's DataLoader or FastDataLoader: a "
                "class of its own may load in its own way. Pass its dataset."
            )
        return replace(_of_parts(parts, name), pin_memory=one.pin_memory)
    if isinstance(one, (list, tuple)) and not isinstance(one, Dataset):
        raise DatasetError(
            f"found a {type(one).__name__} of {len(one)} samples, wanted a dataset or a "
            "DataLoader: of a list it is not clear what it holds. Pass for example "
            "DataLoader(samples, batch_size=32)."
        )
    if isinstance(one, (str, bytes)) or not hasattr(one, "__getitem__"):
        _refuse_streams(one)
        raise DatasetError(
            f"found {one!r:.80}, wanted a data module, a DataLoader, a dataset, or a function that "
            "builds one. Pass for example tune(ImageFolder('path/to/pictures'))."
        )
    note = f"{USUAL_BATCH_SIZE}, as nothing else was said; pass batch_size"
    return Subject(name=name, dataset=one, batch_size=USUAL_BATCH_SIZE, notes={"batch_size": note})


def _of_parts(parts: LoaderParts, name: str) -> Subject:
    return Subject(
        name=name,
        dataset=parts.dataset,
        batch_size=None if parts.batch_sampler is not None else parts.batch_size,
        shuffle=parts.shuffle,
        sampler=parts.sampler,
        batch_sampler=parts.batch_sampler,
        collate_fn=parts.collate_fn,
        batch_transform=parts.batch_transform,
        worker_init_fn=parts.worker_init_fn,
        multiprocessing_context=parts.multiprocessing_context,
    )


def _of_fast_loader(loader: FastDataLoader, name: str) -> Subject:
    own_batches = loader.batch_sampler is not None and loader.batch_size is None
    sampler: Any = loader.sampler
    own_order = isinstance(sampler, EpochOrder)
    return Subject(
        name=name,
        dataset=loader.dataset,
        batch_size=loader.batch_size,
        shuffle=own_order and sampler.shuffle,
        sampler=None if own_order or own_batches else sampler,
        batch_sampler=loader.batch_sampler if own_batches else None,
        collate_fn=loader.collate_fn,
        batch_transform=loader.batch_transform,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        seed=loader.seed,
        on_bad_sample=loader.on_bad_sample,
        max_bad_fraction=loader.max_bad_fraction,
        engine=_workers_engine(loader.engine),
        pin_memory=loader.pin_memory,
    )


def _with_settings(subject: Subject, module: Any) -> Subject:
    """Take over what a FastDataModule's settings say of its loaders."""
    if not isinstance(module, FastDataModule):
        return subject
    return replace(
        subject,
        seed=module.seed,
        on_bad_sample=module.on_bad_sample,
        max_bad_fraction=module.max_bad_fraction,
        engine=_workers_engine(module.engine),
        pin_memory=None if module.pin_memory == "auto" else module.pin_memory,
    )


def _workers_engine(engine: Any) -> Any:
    """The engine that was asked for, where it has workers to choose."""
    if engine == "inline":
        raise SettingsError(
            'engine="inline" has no workers, so there is nothing to choose. Leave engine out.'
        )
    return engine


def _with_batch_size(subject: Subject, batch_size: int) -> Subject:
    if subject.batch_sampler is not None or subject.batch_size is None:
        raise SettingsError(
            f"batch_size={batch_size} with a loader whose batches are cut by the user, wanted one "
            "of the two. Leave batch_size out."
        )
    notes = {name: note for name, note in subject.notes.items() if name != "batch_size"}
    return replace(subject, batch_size=batch_size, notes=notes)


def _refuse_streams(dataset: Any) -> None:
    if isinstance(dataset, IterableDataset):
        raise SettingsError(
            f"{type(dataset).__name__} is an IterableDataset, wanted one with samples by number: a "
            "stream gives its data once only to one worker, so there is nothing to choose. Leave "
            "num_workers out."
        )
    check_length(dataset)
