"""Watching one loader of the user's, and leaving it as it was."""

import copyreg
import functools
import types
import weakref
from typing import Any

from torch.utils import data as torch_data
from torch.utils.data.dataloader import (
    DataLoader,
    _BaseDataLoaderIter,
    _MultiProcessingDataLoaderIter,
)

from lightning_fastdata.loader.watched.iterators import (
    NEEDED,
    SINK,
    Sink,
    is_watched_iterator,
    iterator_of,
)
from lightning_fastdata.trace.work import WorkTrace


class _WatchedClass(Sink):
    """The class that a watched loader has meanwhile, and the one that it gets back.

    A class rather than a method set on the loader: Lightning makes a loader anew to give it another
    sampler, by calling its class, and a method would be pickled and copied along with it.
    """

    def __init__(self, own: type[Any]) -> None:
        super().__init__()
        self.own = own
        body = {
            "__module__": own.__module__,
            "__qualname__": own.__qualname__,
            "__doc__": own.__doc__,
            "_get_iterator": _get_iterator,
            "__reduce_ex__": _reduce_ex,
            SINK: self,
        }
        # One base only: with a second one Python finds that the memory of loaders differs.
        self.watched: type[Any] = types.new_class(
            own.__name__, (own,), exec_body=lambda names: names.update(body)
        )
        self._loaders: list[weakref.ref[Any]] = []

    def put_on(self, loader: Any) -> None:
        """Make a loader one of the watched class."""
        object.__setattr__(loader, "__class__", self.watched)
        self.note(loader)

    def note(self, loader: Any) -> None:
        """Remember a loader of the watched class, to give it its own class back."""
        if not any(known() is loader for known in self._loaders):
            self._loaders.append(weakref.ref(loader))

    def take_off(self) -> None:
        """Give all loaders of the watched class their own one back."""
        for known in self._loaders:
            if (loader := known()) is not None:
                self.take_off_one(loader)
        self._loaders.clear()

    def take_off_one(self, loader: Any) -> bool:
        """Give one loader its own class back; ``False`` if somebody else has changed it again."""
        if type(loader) is not self.watched:
            return False
        object.__setattr__(loader, "__class__", self.own)
        return True


def _get_iterator(loader: Any) -> Any:
    """What a watched loader does when a pass over it begins."""
    sink: _WatchedClass = getattr(loader, SINK)
    if sink.works:
        sink.note(loader)
        return iterator_of(loader)
    sink.take_off_one(loader)  # made anew by Lightning while watched, and used only now
    return sink.own._get_iterator(loader)


def _reduce_ex(loader: Any, protocol: Any) -> Any:
    """What a watched loader is pickled and copied as: one of its own class."""
    sink: _WatchedClass = getattr(loader, SINK)
    own_class: Any = sink.own
    reduced = own_class.__reduce_ex__(loader, protocol)
    if not isinstance(reduced, tuple):
        return reduced

    make, parts, *state = (reduced[0], list(reduced[1]), *reduced[2:])
    parts = [sink.own if part is sink.watched else part for part in parts]
    if make in (copyreg.__newobj__, copyreg.__newobj_ex__):  # type: ignore[attr-defined]
        # pickle knows these two by name, and wants the object's present class there.
        make, parts = functools.partial(make, parts[0]), parts[1:]
    return (sink.own if make is sink.watched else make, tuple(parts), *state)


class Watch:
    """One wish to have a loader watched; call it to end it.

    Args:
        work: Where the batches were to be recorded.
        refusal: Why the loader cannot be watched.
        watched: What watches it.
    """

    def __init__(
        self, work: WorkTrace, *, refusal: str | None = None, watched: _WatchedClass | None = None
    ) -> None:
        self._work, self._refusal, self._watched = work, refusal, watched

    @property
    def problem(self) -> str | None:
        """Why the loader is not watched, or what could not be measured; ``None`` if all is well."""
        if self._watched is None or self._refusal is not None:
            return self._refusal
        return self._watched.problem

    def __call__(self) -> None:
        """End watching and give the loader its own class back. May be called twice.

        A pass that goes on delivers the rest of its batches, and records no more.
        """
        watched = self._watched
        if watched is None:
            return
        watched.works[:] = [work for work in watched.works if work is not self._work]
        if not watched.works:
            watched.take_off()


def watch(loader: DataLoader[Any], work: WorkTrace) -> Watch:
    """Record from now on what a stock loader and its workers do; it delivers the same to the bit.

    Passes that have begun are not recorded. Loaders of FastDataLoader's class have a trace of their
    own. The loader's class is another one meanwhile, with the same name, a subclass of its own.

    Args:
        loader: The user's. One that cannot be watched is left as it is.
        work: Where its batches are recorded.

    Returns:
        Ends watching when called; its ``problem`` says why a loader is not watched.
    """
    sink = getattr(loader, SINK, None)
    if isinstance(sink, _WatchedClass) and type(loader) is sink.watched and sink.works:
        if not any(known is work for known in sink.works):
            sink.works.append(work)  # somebody else watches it as well
        return Watch(work, watched=sink)
    try:
        refusal = _refusal_of(loader)
        if refusal is not None:
            return Watch(work, refusal=refusal)
        watched = _WatchedClass(sink.own if isinstance(sink, _WatchedClass) else type(loader))
        watched.works.append(work)
        watched.put_on(loader)
    except Exception as error:  # a metaclass, or a class that refuses subclasses, in its own way
        return Watch(work, refusal=f"its class {type(loader).__name__} refused ({error!r})")
    return Watch(work, watched=watched)


def _refusal_of(loader: Any) -> str | None:
    if not isinstance(loader, DataLoader):
        return f"{type(loader).__name__} is no torch.utils.data.DataLoader"
    name = type(loader).__name__
    own = getattr(type(loader), "_get_iterator", None)
    if own is not DataLoader._get_iterator and not hasattr(loader, SINK):
        return f"{name} makes iterators of its own"
    pipes = tuple(
        getattr(torch_data, pipe)
        for pipe in ("IterDataPipe", "MapDataPipe")
        if hasattr(torch_data, pipe)
    )
    if isinstance(loader.dataset, pipes):
        return "its dataset is a data pipe, which torch rebuilds in each worker"
    missing = [each for each in NEEDED if not hasattr(_MultiProcessingDataLoaderIter, each)]
    if missing:
        return f"this version of torch has no {', '.join(missing)}"
    running = getattr(loader, "_iterator", None)
    if isinstance(running, _BaseDataLoaderIter) and not is_watched_iterator(running):
        return "its persistent workers have been running since before it was watched"
    return None
