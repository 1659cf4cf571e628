"""Watches what a run's training loaders do, and what the training process itself is found doing.

Two kinds of Trainer come in here, and both add their attributes at run time: hence ``Any``.
"""

import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from lightning_fastdata.dataset.views import base_of
from lightning_fastdata.loader.describe import path_of
from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.loader.serves import name_of_context
from lightning_fastdata.loader.watched import Watch, watch
from lightning_fastdata.machine import facts, read_machine
from lightning_fastdata.trace import (
    LoaderRecord,
    LoaderSetup,
    MachineFacts,
    Part,
    RunRecord,
    WorkTrace,
)
from lightning_fastdata.trace.changes import MOST_CHANGES, PlanChange
from lightning_fastdata.trace.lines import LineCounts, LineSampler

_VERSIONS = ("python_version", "torch_version", "lightning_version", "lightning_fastdata_version")
_logger = logging.getLogger(__name__)


class LoaderWatch:
    """Has the training loaders of one fit watched, from before their workers start to its end.

    Lightning asks for its loaders and starts them before any hook of the training loop. So where
    it asks (an attribute of the one fit loop) is covered for as long as the fit lasts.
    """

    def __init__(self) -> None:
        self._since_ns = time.perf_counter_ns()
        self._source: Any = None
        self._covered: Callable[[], Any] | None = None
        self._records: list[LoaderRecord] = []
        self._loaders: list[Any] = []
        self._earlier: list[tuple[PlanChange, ...]] = []
        """What changed while others were in the places of these loaders."""
        self._undo: list[Callable[[], object]] = []
        self._watches: list[Watch] = []

    def put_into(self, trainer: Any) -> None:
        """Watch whatever loaders ``trainer`` trains with from now on."""
        try:
            source = trainer.fit_loop._data_source
            own = source.dataloader

            def dataloader() -> Any:
                loaders = own()
                self._watch_all(loaders)
                return loaders

            source.dataloader = dataloader
            self._source, self._covered = source, dataloader
        except Exception as error:  # another Lightning: ours can be watched still
            _logger.info("Loaders are looked at only once training starts (%r).", error)

    def begin(self, trainer: Any) -> None:
        """Watch the loaders that training begins with: Lightning may have made some anew."""
        self._watch_all(trainer.train_dataloader)
        for record in self._records:
            # A loader without a length gives one batch before training starts. More were those of
            # a batch-size or learning-rate finder.
            if record.work.totals.batches > 1:
                record.work.forget()

    def take_out(self) -> None:
        """Leave everything as it was."""
        source, self._source = self._source, None
        if source is not None and vars(source).get("dataloader") is self._covered:
            del source.dataloader
        while self._undo:
            self._undo.pop()()

    @property
    def problem(self) -> str | None:
        """Why a loader could not be watched, or not to the end; ``None`` if all is well."""
        problems = (watching.problem for watching in self._watches)
        return next((f"a loader: {problem}" for problem in problems if problem), None)

    def records(self) -> list[LoaderRecord]:
        """What was recorded of each loader, with the files of its slow samples."""
        for place, (record, loader) in enumerate(zip(self._records, self._loaders, strict=True)):
            if isinstance(loader, FastDataLoader):  # it may have other workers by now
                record.setup = setup_of(loader, record.setup.name)
                record.changes = self._changes_at(place)
                record.why_no_change = loader.why_no_change(self._since_ns)
            for index, _ in record.work.slowest():
                path = path_of(getattr(loader, "dataset", None), index)
                if path is not None:
                    record.paths[repr(index)] = path
        return self._records

    def _watch_all(self, loaders: Any) -> None:
        try:
            for place, (name, loader) in enumerate(_named(loaders)):
                if place >= len(self._loaders) or self._loaders[place] is not loader:
                    self._watch(place, name, loader)
        except Exception as error:  # a loader may be anything, and refuse anything
            _logger.warning("A loader cannot be watched (%r). Training goes on.", error)

    def _watch(self, place: int, name: str, loader: Any) -> None:
        # A loader that is made anew in mid-run goes on where the one before it was recorded.
        known = place < len(self._records)
        work = self._records[place].work if known else WorkTrace()
        if isinstance(loader, FastDataLoader):
            loader.observe(work)
            # Weak: a loader that is made anew each epoch has to die, or its workers live on.
            self._undo.append(partial(_observe_no_more, weakref.ref(loader)))
        else:
            watching: Watch = watch(loader, work)
            self._undo.append(watching)
            self._watches.append(watching)
        record = LoaderRecord(setup=setup_of(loader, name), work=work)
        if known:
            self._earlier[place] = self._changes_at(place)
            self._records[place], self._loaders[place] = record, loader
        else:
            self._records.append(record)
            self._loaders.append(loader)
            self._earlier.append(())

    def _changes_at(self, place: int) -> tuple[PlanChange, ...]:
        """The newest of all loaders that were in a place; an earlier fit's are not this one's."""
        loader = self._loaders[place]
        own = loader.changes if isinstance(loader, FastDataLoader) else ()
        both = [*self._earlier[place], *(each for each in own if each.at_ns >= self._since_ns)]
        return tuple(both[-MOST_CHANGES:])


def _observe_no_more(known: "weakref.ref[FastDataLoader]") -> None:
    if (loader := known()) is not None:
        loader.observe(None)


class HostWatch:
    """Finds out at which lines the training process spends its steps."""

    def __init__(self, part_now: Callable[[], Part | None]) -> None:
        self._counts = {part: LineCounts() for part in Part}
        self._began_ns = self._began_cpu_ns = self._ended_ns = self._ended_cpu_ns = 0
        self._part_now = part_now
        # Training may have threads of its own, which are left to change places as they do.
        self._sampler = LineSampler(threading.get_ident(), into=self._into, switches_soon=False)

    def start(self) -> None:
        """Begin to look."""
        self._began_ns, self._began_cpu_ns = time.perf_counter_ns(), time.process_time_ns()
        self._sampler.start()

    def stop(self) -> None:
        """End looking. May be called twice."""
        if not self._ended_ns:
            self._ended_ns, self._ended_cpu_ns = time.perf_counter_ns(), time.process_time_ns()
        self._sampler.stop()

    def give_to(self, record: RunRecord) -> None:
        """Add what was found to the run's record."""
        record.host_looks = Counter({part: found.looks for part, found in self._counts.items()})
        record.host_lines = {
            part: Counter(found.lines) for part, found in self._counts.items() if found.lines
        }
        spent_ns = self._ended_ns - self._began_ns
        if spent_ns > 0:
            record.host_cpu_cores = (self._ended_cpu_ns - self._began_cpu_ns) / spent_ns

    def _into(self) -> LineCounts | None:
        part = self._part_now()
        return None if part is None else self._counts[part]


def machine_facts(device: Any) -> MachineFacts:
    """Say where this process runs; asks the system, not the accelerator's driver."""
    machine = read_machine(os.environ)
    known = facts(machine)
    names = machine.accelerators or ()
    return MachineFacts(
        cores=machine.cores,
        local_ranks=machine.local_world_size,
        memory_bytes=machine.memory_total_bytes,
        cpu=machine.cpu_model or machine.platform,
        device=", ".join(dict.fromkeys(names)) if device.type == "cuda" and names else device.type,
        versions=tuple(
            (name.removesuffix("_version"), str(known[name])) for name in _VERSIONS if known[name]
        ),
    )


def script_of(arguments: Sequence[str]) -> str | None:
    """Name the script that runs, or ``notebook``; ``None`` where no file does."""
    name = PurePath(arguments[0]).name if arguments else ""
    if name.endswith("kernel_launcher.py"):  # ipykernel's, and Colab's
        return "notebook"
    return name if name not in ("", "-c", "-m") else None


def setup_of(loader: Any, name: str) -> LoaderSetup:
    """Say how a loader, ours or not, was set up."""
    is_ours = isinstance(loader, FastDataLoader)
    workers = int(getattr(loader, "num_workers", 0))
    dataset = getattr(loader, "dataset", None)
    prefetch = workers * (getattr(loader, "prefetch_factor", None) or 2)
    base = dataset if dataset is None else base_of(dataset)
    return LoaderSetup(
        name=name,
        is_ours=is_ours,
        engine=loader.plan.engine if is_ours else ("torch" if workers else "inline"),
        num_workers=workers,
        prefetch_batches=loader.plan.prefetch_batches if is_ours else prefetch,
        batch_size=_whole(getattr(loader, "batch_size", None)),
        pin_memory=bool(getattr(loader, "pin_memory", False)),
        persistent_workers=bool(getattr(loader, "persistent_workers", False)),
        in_order=bool(getattr(loader, "in_order", True)),
        has_length=_length_of(loader) is not None,
        samples=None if isinstance(dataset, IterableDataset) else _length_of(dataset),
        dataset=type(base).__name__,
        start_method=name_of_context(getattr(loader, "multiprocessing_context", None)),
        is_stream=isinstance(dataset, IterableDataset),
    )


def _named(loaders: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The loaders in whatever a hook gave, each with its place there; one alone has no name."""
    inside = getattr(loaders, "iterables", loaders)  # Lightning's CombinedLoader
    if isinstance(inside, (Mapping, list, tuple)) and not isinstance(inside, DataLoader):
        entries = inside.items() if isinstance(inside, Mapping) else enumerate(inside)
        for key, each in entries:
            yield from _named(each, f"{name}/{key}" if name else str(key))
    elif isinstance(inside, DataLoader):
        yield name, inside


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _length_of(sized: Any) -> int | None:
    try:
        return len(sized)
    except Exception:  # has none, or refuses in its own way
        return None
