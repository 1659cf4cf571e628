"""Which datasets are looked at: those of what was given, each with how it is loaded."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch.utils.data import Dataset, default_collate, default_convert

from lightning_fastdata.checkup.locate import build
from lightning_fastdata.checkup.user_code import call_user
from lightning_fastdata.errors import DatasetError
from lightning_fastdata.loader.check import check_length
from lightning_fastdata.loader.describe import path_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One dataset to look at."""

    name: str
    """How the report calls it."""
    dataset: Any
    length: int | None
    """Its samples; ``None`` is a stream."""
    batch_size: int
    """Samples a batch in training."""
    collates_by_default: bool
    """Whether batches are made by torch's default collation, which wants equal samples."""
    collate_fn: Callable[[Any], Any] | None = None
    """The user's own; ``None`` is torch's."""
    worker_init_fn: Callable[[int], None] | None = None

    def path_of(self, index: int) -> str | None:
        """The file of a sample, where the dataset can name it."""
        return path_of(self.dataset, index)


def subjects_of(source: Any, batch_size: int) -> list[Subject]:
    """List the datasets of what was given.

    Args:
        source: A dataset, a loader, a data module, a function or class that builds one of them, or
            lists and dicts of these. Of a data module, its training datasets are taken.
        batch_size: Samples a batch, where the source does not say.

    Raises:
        DatasetError: There is something else in it, or a dataset without samples.
    """
    built = build(source, getattr(source, "__name__", type(source).__name__))
    found = list(_walk(built, "", batch_size))
    if not found:
        raise DatasetError(
            f"found no dataset in {source!r:.80}, wanted one or more. Pass a dataset, a loader or "
            "a data module with training data."
        )
    return found


def _walk(source: Any, name: str, batch_size: int) -> Iterator[Subject]:
    if isinstance(source, Mapping):
        for key, value in source.items():
            yield from _walk(value, f"{name}.{key}" if name else str(key), batch_size)
    elif isinstance(source, (list, tuple)) and source and all(map(_is_source, source)):
        for position, value in enumerate(source):
            yield from _walk(value, f"{name}[{position}]", batch_size)
    elif hasattr(source, "train_dataloader"):
        yield from _walk(_training_parts(source), name or "train", batch_size)
    elif hasattr(source, "iterables"):  # Lightning's CombinedLoader
        yield from _walk(source.iterables, name, batch_size)
    elif hasattr(source, "dataset") and hasattr(source, "batch_size"):
        yield _of_loader(source, name)
    else:
        built = build(source, name or type(source).__name__)
        yield _subject(built, name or type(built).__name__, batch_size)


def _is_source(value: Any) -> bool:
    """Whether a list holds datasets or loaders rather than samples."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_is_source, value))
    has_data = hasattr(value, "dataset") or hasattr(value, "train_dataloader")
    return isinstance(value, (Dataset, Mapping)) or has_data or callable(value)


def _training_parts(module: Any) -> Any:
    """What a data module trains on: its loaders, or what they would be made of."""
    name = type(module).__name__
    call_user(module.prepare_data, f"{name}.prepare_data()", "wanted the data to be there")
    call_user(partial(module.setup, "fit"), f'{name}.setup("fit")', "wanted the datasets")
    source: Any = getattr(module, "_source", None)
    if source is not None and type(source).__module__.startswith("lightning_fastdata."):
        # A FastDataModule's loaders would read samples in this process, to choose workers by them;
        # bad samples are to be met in a worker.
        return source.parts("train")
    return call_user(
        module.train_dataloader, f"{name}.train_dataloader()", "wanted loaders to look at"
    )


def _of_loader(loader: Any, name: str) -> Subject:
    by_default = loader.collate_fn in (None, default_collate)
    batched = loader.batch_size is not None or getattr(loader, "batch_sampler", None) is not None
    return _subject(
        loader.dataset,
        name or type(loader.dataset).__name__,
        loader.batch_size or 1,
        collates_by_default=by_default and batched and loader.collate_fn is not default_convert,
        collate_fn=None if by_default else loader.collate_fn,
        worker_init_fn=getattr(loader, "worker_init_fn", None),
    )


def _subject(dataset: Any, name: str, batch_size: int, **of_loader: Any) -> Subject:
    if isinstance(dataset, (str, bytes)):
        raise DatasetError(
            f"found the text {dataset!r:.80}, wanted a dataset. Pass what it names, or a function "
            "that builds it."
        )
    of_loader.setdefault("collates_by_default", True)
    length = check_length(dataset)
    return Subject(name=name, dataset=dataset, length=length, batch_size=batch_size, **of_loader)
