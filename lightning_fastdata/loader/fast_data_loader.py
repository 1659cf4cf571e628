"""``FastDataLoader``: torch's DataLoader to look at, our order and engines inside."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import Dataset, IterableDataset

from lightning_fastdata.loader.check import check_loader
from lightning_fastdata.loader.engine import NOTHING, Consumer
from lightning_fastdata.loader.engine_loader import EngineLoader
from lightning_fastdata.loader.make import recipe_of
from lightning_fastdata.loader.mend import OnBadSample, mender_of
from lightning_fastdata.loader.observed import observed, observed_stream
from lightning_fastdata.loader.pace import Pace
from lightning_fastdata.loader.planned import arguments_of, planned
from lightning_fastdata.loader.position import Progress
from lightning_fastdata.loader.quarantine import BadSample
from lightning_fastdata.loader.requests import (
    cut_order,
    own_order,
    replicas_of,
    requests_from,
    seed_of_stream,
)
from lightning_fastdata.loader.serves import name_of_context
from lightning_fastdata.loader.shelf import Ending
from lightning_fastdata.loader.torch_engine import worker_settings_of
from lightning_fastdata.order import EpochOrder
from lightning_fastdata.plan import EngineName, LoaderPlan
from lightning_fastdata.trace.work import WorkTrace


class FastDataLoader(EngineLoader):
    """Loads batches fast, in an order and with random numbers that no setting of speed changes.

    It is a ``torch.utils.data.DataLoader`` whose arguments keep torch's meaning. On top of that,
    batches are identical to the bit for any number of workers, after any restart and any resume
    (for map-style datasets without state across samples that draw from torch's, NumPy's and
    Python's generators); a shuffle takes no memory; and ``state_dict`` saves the position.

    Without a sampler of yours, the samples are shared among the ranks of ``torch.distributed``.
    Every pass is a new epoch, or the one that ``set_epoch`` chose. Building a loader starts no
    process; with ``num_workers="auto"`` it reads a few samples to see what they cost.

    Args:
        dataset: Map-style or iterable.
        batch_size: Samples a batch, 1 or more; ``None`` gives single samples.
        shuffle: Whether samples come in a new seeded order each epoch.
        sampler: Your own order of samples, instead of ``shuffle``.
        batch_sampler: Your own batches of sample indices, instead of all of these.
        num_workers: Worker processes, a number that is kept; 0 loads in this process, ``"auto"``
            measures.
        collate_fn: Makes a batch of a list of samples; ``None`` is torch's.
        pin_memory: Whether batches lie in page-locked memory; takes effect where CUDA is.
        drop_last: Whether a last batch that is not full is left out.
        timeout: Seconds to wait for a batch from workers; 0 waits for ever.
        worker_init_fn: Called with the worker's number in each worker before its first sample.
        multiprocessing_context: A start method or a context, for workers.
        generator: Draws the seed of each epoch, instead of ``seed``.
        prefetch_factor: Batches made ahead by each worker; ``None`` is 2 to 4.
        persistent_workers: Whether workers live on between epochs; ``"auto"`` is yes.
        in_order: ``False`` gives batches as they are finished; then a resume is not exact.
        engine: ``"inline"`` (this process), ``"ring"`` (workers that write into shared memory; on
            Linux), ``"torch"`` (torch's own workers) or ``"auto"``.
        seed: Names the run's orders and random numbers, 0 or more.
        batch_transform: Called in the worker on each collated batch; best where it works in place.
        on_bad_sample: What is done about a sample that raises, hangs or ends its worker twice:
            ``"raise"``, ``"skip"`` (another one of the order takes its place) or ``"leave_out"``.
        max_bad_fraction: Share (0 to 1) of the dataset that may be bad before that is an error.
        sample_timeout_s: Seconds that workers of the ring may take for a sample; ``"auto"`` is far
            more than the slowest one seen, and 60 or more; ``None`` is for ever.
        quarantine: File that lists bad samples (JSON lines), which the next run reads.
        max_stall_fraction: Share (0 to 1) of a step that training may wait, for ``"auto"``.
        plan: How to load, already decided; then nothing is measured.
        consumer: Who takes the batches, where that is not a plain loop: asked for the epoch at the
            first batch of each pass, and for batches not trained on yet when the position is saved.
        deliver: Called in this process with each host batch and its seed (64 bits); what it returns
            is what the loop gets.

    Attributes:
        plan: The ``LoaderPlan`` in use, with the reason for each choice.

    Raises:
        SettingsError: If arguments cannot work together.
        DatasetError: If the dataset is empty.
        BatchShapeError: If the samples read for ``"auto"`` do not fit together.
    """

    _chosen_epoch: int | None = None

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        *,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int | Literal["auto"] = "auto",
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        prefetch_factor: int | None = None,
        persistent_workers: bool | Literal["auto"] = "auto",
        in_order: bool = True,
        engine: EngineName | Literal["auto"] = "auto",
        seed: int = 0,
        batch_transform: Callable[[Any], Any] | None = None,
        on_bad_sample: OnBadSample = "raise",
        max_bad_fraction: float = 0.01,
        sample_timeout_s: float | Literal["auto"] | None = "auto",
        quarantine: str | Path | None = None,
        max_stall_fraction: float = 0.02,
        plan: LoaderPlan | None = None,
        consumer: Consumer | None = None,
        deliver: Callable[[Any, int], Any] | None = None,
    ) -> None:
        length = check_loader(dataset, batch_size, num_workers, drop_last)
        self._is_stream = isinstance(dataset, IterableDataset)
        self._mender = mender_of(dataset, on_bad_sample, max_bad_fraction, quarantine)
        if sampler is None and batch_sampler is None and not self._is_stream:
            sampler, shuffle = own_order(dataset, shuffle, seed, drop_last), None
        batched = batch_size is not None or batch_sampler is not None
        recipe = recipe_of(dataset, collate_fn, batch_transform, batched=batched)
        wished_prefetch = None if plan is not None and plan.num_workers else prefetch_factor
        plan = plan or planned(
            recipe,
            batch_size,
            max_stall_fraction=max_stall_fraction,
            on_bad_sample=on_bad_sample,
            engine=engine,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            pin_memory=pin_memory,
            persistent_workers=persistent_workers,
            start_method=name_of_context(multiprocessing_context),
            sample_timeout_s=sample_timeout_s,
        )
        self.plan = plan  # before torch looks at the number of workers
        # Also where there are none yet: some may come while training runs.
        keeps = plan.num_workers > 0 or not self._is_stream
        super().__init__(
            dataset,
            batch_size=batch_size,
            shuffle=shuffle,
            sampler=sampler,
            batch_sampler=batch_sampler,
            collate_fn=recipe.collate_fn,
            drop_last=drop_last,
            timeout=timeout if keeps else 0,
            worker_init_fn=worker_init_fn,
            multiprocessing_context=multiprocessing_context if keeps else None,
            generator=generator,
            **arguments_of(plan),
        )
        self.in_order = in_order  # read when workers start; torch knows it from 2.7 on
        self.seed = sampler.seed if isinstance(sampler, EpochOrder) else seed
        self.engine, self.batch_transform = engine, batch_transform
        self.on_bad_sample, self.max_bad_fraction = on_bad_sample, max_bad_fraction
        self.sample_timeout_s, self.quarantine = sample_timeout_s, quarantine
        self.consumer, self.deliver, self.max_stall_fraction = consumer, deliver, max_stall_fraction
        self.pace = Pace()  # how long the loop keeps a batch
        self._work: WorkTrace | None = None
        shuffles = isinstance(self.sampler, EpochOrder) and self.sampler.shuffle
        self._progress = Progress(length, repeats_differ=shuffles)
        self._own(recipe, plan, wished_prefetch, persistent_workers)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names its own class
        """Begin a pass; nothing is drawn, read or started before its first batch."""
        return self._stream_pass() if self._is_stream else self._map_pass()

    def __len__(self) -> int:
        """Batches of an epoch for this rank; of a resumed one, with those consumed before it."""
        order = cut_order(self.sampler, self.batch_sampler)
        if order is None:
            return super().__len__()
        return self._batches_of(order.share_from(0))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass, as ``DistributedSampler.set_epoch`` does."""
        self._chosen_epoch = epoch
        if callable(choose := getattr(self.sampler, "set_epoch", None)):
            choose(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Give the position in the epoch as plain values: what the loop was given, not fetched."""
        unused_batches = 0 if self.consumer is None else self.consumer.unused_batches()
        return self._progress.state(self.seed, unused_batches)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Let the next pass go on at a saved position.

        Args:
            state_dict: From ``state_dict`` of a loader of the same dataset; the number of workers
                and ranks and the batch size may have changed.

        Raises:
            ResumeError: If it belongs to a dataset of another length.
        """
        position = self._progress.load(state_dict)
        if isinstance(self.sampler, EpochOrder):
            self.sampler.begin(position.key, position.samples)
        order = cut_order(self.sampler, self.batch_sampler)
        if order is not None:
            batches = len(self) - self._batches_of(len(order))
            self._progress.renumber(batches)
            if self.consumer is not None:
                self.consumer.resume(position.batches, batches)

    def _batches_of(self, share: int) -> int:
        size = self.batch_size or 1
        return share // size if self.drop_last else -(-share // size)

    def bad_samples(self) -> list[BadSample]:
        """All samples that are known to be bad, those of earlier runs first."""
        return [] if self._mender is None else self._mender.bad_samples()

    def observe(self, work: WorkTrace | None) -> None:
        """Note the way of each batch of later passes in ``work``; ``None`` ends it."""
        self._work = work

    def _map_pass(self) -> Iterator[Any]:
        assert self._mender is not None
        course = self._progress.begin(self._next_epoch(), self._new_seed)
        lent = self._lend_engine()
        engine = observed(lent, self._work)
        with Ending(partial(self._progress.end, course), partial(self._give_back, lent)):
            requests, replicas = requests_from(self, course.position), replicas_of(self.sampler)
            while True:
                for request in islice(requests, max(0, engine.depth - engine.in_flight)):
                    engine.submit(self._mender.prepared(request))
                if not engine.in_flight:
                    break
                # No name may hold the batch here: its memory would stay in use one batch longer.
                arrived = [engine.next()]
                self._progress.advance(course, arrived[0].request.positions * replicas)
                self._mender.note(arrived[0].request)
                if arrived[0].data is not NOTHING:
                    yield self._delivered(arrived[0].data, arrived.pop().request.batch_seed)
                    self.pace.ask()
            course.finish()

    def _stream_pass(self) -> Iterator[Any]:
        course = self._progress.begin(self._next_epoch(), self._new_seed)
        position = course.position
        seed = seed_of_stream(0, position.key)
        settings = replace(worker_settings_of(self), seed=seed)
        stream = self._shelf.take_stream(settings, self.batch_size, self.drop_last)
        with Ending(partial(self._progress.end, course), partial(self._shelf.give_back, stream)):
            batches = observed_stream(stream, position.epoch, seed, self._work)
            for _ in islice(batches, position.batches):
                pass  # a resumed stream is replayed up to its position
            for number, data in enumerate(batches, position.batches):
                self._progress.advance(course, 0)
                yield self._delivered(data, seed_of_stream(number, position.key))
            course.finish()

    def _delivered(self, data: Any, batch_seed: int) -> Any:
        data = data if self.deliver is None else self.deliver(data, batch_seed)
        self.pace.give()
        return data

    def _next_epoch(self) -> int:
        chosen, self._chosen_epoch = self._chosen_epoch, None
        if self.consumer is not None:
            return self.consumer.epoch()
        if isinstance(self.sampler, EpochOrder) and self.sampler.epoch_was_set:
            return self.sampler.epoch
        return self._progress.next_epoch() if chosen is None else chosen

    def _new_seed(self) -> int:
        own = self.generator
        return self.seed if own is None else int(torch.randint(2**62, (), generator=own))
