"""What is loaded in a trial, and a loader for it that touches nothing of the user's."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Literal

import torch
from torch.utils.data import Sampler, Subset

from lightning_fastdata.errors import ShortageWarning
from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.loader.make import Recipe, is_gather, recipe_of
from lightning_fastdata.loader.measure import measure_and_choose
from lightning_fastdata.loader.mend import OnBadSample
from lightning_fastdata.loader.probing import with_own_attributes
from lightning_fastdata.loader.serves import name_of_context
from lightning_fastdata.plan import EngineName, LoaderPlan
from lightning_fastdata.tuning.choose import Wishes
from lightning_fastdata.tuning.probe import ProbeFacts

ENOUGH_BATCHES = 4096  # guess: a trial of 2 s takes fewer, but for rows of tensors


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A dataset and how its batches are made: all that changes what a loader gives."""

    name: str
    """How reasons call it."""
    dataset: Any
    batch_size: int | None
    """Samples a batch; ``None``: single samples, or batches of a ``batch_sampler``."""
    shuffle: bool = True
    sampler: Any = None
    batch_sampler: Any = None
    collate_fn: Callable[[Any], Any] | None = None
    batch_transform: Callable[[Any], Any] | None = None
    worker_init_fn: Callable[[int], None] | None = None
    multiprocessing_context: Any = None
    seed: int = 0
    on_bad_sample: OnBadSample = "raise"
    max_bad_fraction: float = 0.01
    engine: EngineName | Literal["auto"] = "auto"
    """Of the workers, where there are any."""
    pin_memory: bool | None = None
    """``None``: not decided, which is no."""
    local_world_size: int | None = None
    """Ranks on one machine, each of which loads it like this; ``None``: as the environment says."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What was assumed of it, by a name."""

    @property
    def samples_a_batch(self) -> int:
        """As far as it is known; else 1."""
        return self.batch_size or getattr(self.batch_sampler, "batch_size", None) or 1

    @property
    def recipe(self) -> Recipe:
        """What batches are made with."""
        batched = self.batch_size is not None or self.batch_sampler is not None
        return recipe_of(self.dataset, self.collate_fn, self.batch_transform, batched=batched)


def plan_with(subject: Subject, num_workers: int, facts: ProbeFacts | None) -> LoaderPlan:
    """Give the plan that a loader with so many workers has here."""
    wishes = Wishes(
        engine=subject.engine if num_workers else "auto",
        num_workers=num_workers,
        pin_memory=bool(subject.pin_memory),
        start_method=name_of_context(subject.multiprocessing_context),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShortageWarning)  # told of the plan that is taken
        return measure_and_choose(
            wishes,
            subject.recipe,
            subject.samples_a_batch,
            read_samples=lambda *_: facts,
            local_world_size=subject.local_world_size,
        )


def untouched(subject: Subject) -> Subject:
    """The same on copies: files that a trial opens are not left open in the user's dataset."""
    try:
        dataset = with_own_attributes(subject.dataset)
    except Exception:  # a class may refuse to be copied in its own way
        dataset = subject.dataset
    return replace(subject, dataset=dataset)


def loader_of(subject: Subject, plan: LoaderPlan, turn: int) -> FastDataLoader:
    """Build a loader of as many batches as a trial may take.

    Args:
        subject: What it loads.
        plan: How.
        turn: The trial's number; each begins at other samples, where the order is ours.
    """
    subject = untouched(subject)
    dataset, length = subject.dataset, len(subject.dataset)
    sampler, batch_sampler = subject.sampler, subject.batch_sampler
    order: dict[str, Any] = {"batch_size": subject.batch_size, "shuffle": subject.shuffle}
    if batch_sampler is not None:
        order = {"batch_sampler": _Endless(batch_sampler)}
    elif sampler is not None:
        order = {"batch_size": subject.batch_size, "sampler": _Endless(sampler)}
    elif (times := -(-ENOUGH_BATCHES * subject.samples_a_batch // length)) > 1:
        # At the end of a pass queues run empty; a small dataset would be nothing but ends.
        # Rows that are gathered cost less than to look their numbers up.
        dataset = (
            dataset if is_gather(subject.recipe) else Subset(dataset, _Repeated(length, times))
        )
    with warnings.catch_warnings():
        # torch advises against more workers than cores, which is what is being found out.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        loader = _loader(subject, plan, dataset, order)
    loader.set_epoch(turn)
    return loader


def _loader(
    subject: Subject, plan: LoaderPlan, dataset: Any, order: Mapping[str, Any]
) -> FastDataLoader:
    return FastDataLoader(
        dataset,
        **order,
        collate_fn=subject.collate_fn,
        batch_transform=subject.batch_transform,
        worker_init_fn=subject.worker_init_fn,
        multiprocessing_context=subject.multiprocessing_context,
        seed=subject.seed,
        on_bad_sample=subject.on_bad_sample,
        max_bad_fraction=subject.max_bad_fraction,
        plan=plan,
    )


class _Repeated(Sequence[int]):
    """Indices 0 to ``length``, over and over, without a list of them."""

    def __init__(self, length: int, times: int) -> None:
        self._length, self._times = length, times

    def __len__(self) -> int:
        return self._length * self._times

    def __getitem__(self, place: Any) -> Any:
        return place % self._length


class _Endless:
    """A sampler's passes one after the other; the sampler itself is left as it was."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = _copied(sampler)

    def __iter__(self) -> Iterator[Any]:
        for epoch in count():
            if callable(set_epoch := getattr(self._sampler, "set_epoch", None)):
                set_epoch(epoch)
            gave = False
            for key in self._sampler:
                gave = True
                yield key
            if not gave:
                return


def _copied(sampler: Any) -> Any:
    """A shallow copy of a sampler that draws from copies of its generators."""
    copied = copy.copy(sampler)
    for name, value in getattr(copied, "__dict__", {}).items():
        if isinstance(value, torch.Generator):
            copied.__dict__[name] = value.clone_state()
        elif isinstance(value, Sampler):
            copied.__dict__[name] = _copied(value)
    return copied
