"""Which samples of a trainer's loaders could not be made."""

from collections.abc import Iterator, Mapping
from typing import Any


def bad_samples_of(trainer: Any) -> tuple[str, ...]:
    """Describe the bad samples of the loaders in use, in one line each."""
    found = {
        f"{bad.path or f'sample {bad.index}'}: {bad.error}"
        for loaders in (trainer.train_dataloader, trainer.val_dataloaders)
        for loader in _each(loaders)
        for bad in _listed(loader)
    }
    return tuple(sorted(found))


def _listed(loader: Any) -> Any:
    give = getattr(loader, "bad_samples", None)
    return give() if callable(give) else ()


def _each(loaders: Any) -> Iterator[Any]:
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, (list, tuple)):
        for loader in loaders:
            yield from _each(loader)
    elif loaders is not None:
        yield loaders
