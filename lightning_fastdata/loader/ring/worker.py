"""A worker: makes what it is told to, in the slot that it is told to, until its nursery ends it."""

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate
from torch.utils.data._utils import worker as torch_worker

from lightning_fastdata.loader.engine import Request
from lightning_fastdata.loader.make import (
    BadSamplesError,
    BatchMaker,
    Recipe,
    is_out_of_memory,
    nobody_minds,
)
from lightning_fastdata.loader.own_files import own_read_positions
from lightning_fastdata.loader.ring.arena import loads, pack
from lightning_fastdata.loader.ring.board import Board
from lightning_fastdata.loader.ring.failures import failure_of
from lightning_fastdata.loader.ring.growth import GrowthWatch
from lightning_fastdata.loader.ring.last_words import LastWords
from lightning_fastdata.loader.ring.layout import layout_of
from lightning_fastdata.loader.ring.memory import Mapping, SlotFile, aligned, size_of
from lightning_fastdata.loader.ring.messages import (
    SEED_BYTES,
    BadRow,
    BadSamples,
    Chunk,
    ChunkDone,
    DropSlot,
    Failure,
    NeedsRoom,
    NeedsWhole,
    NewSlot,
    OutOfMemory,
    Result,
    StreamEnded,
)
from lightning_fastdata.loader.ring.opened import batch_of_rows
from lightning_fastdata.loader.ring.rows import NotRowsError, write_rows
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.loader.ring.stream import StreamEndedError, StreamReader
from lightning_fastdata.loader.ring.times import NO_TIMES
from lightning_fastdata.loader.ring.wire import Channel
from lightning_fastdata.loader.stopwatch import Stopwatch


def work(
    channel: Channel,
    recipe: Recipe,
    settings: RingSettings,
    number: int,
    board: Board,
    words: LastWords,
) -> None:
    """Work until the channel's other end is closed.

    Args:
        channel: To the nursery.
        recipe: What to make batches with.
        settings: How the ring is run.
        number: This worker's, from 0 on.
        board: Where it notes what it is at.
        words: Where it writes its stacks, should it crash or be asked.
    """
    words.listen()
    try:
        _become_worker(recipe.dataset, settings, number)
        worker: Worker | _Unable = Worker(recipe, settings, number, board)
    except Exception as error:  # of the user's worker_init_fn: every batch is answered with it
        worker = _Unable(failure_of(error), number)
    with contextlib.suppress(EOFError, ConnectionError):
        while not channel.is_ending():
            message, descriptors = channel.receive()
            if isinstance(message, Chunk):
                board.takes_chunk()
                done = worker.answer(message)
                channel.send(done)
                if isinstance(done.result, OutOfMemory):
                    break  # another process may have the memory that this one lost to leaks
            elif isinstance(message, NewSlot):
                worker.slots[message.slot] = SlotFile(descriptors[0])
            elif isinstance(message, DropSlot) and message.slot in worker.slots:
                worker.slots.pop(message.slot).close()


def _become_worker(dataset: Any, settings: RingSettings, number: int) -> None:
    """Do what torch does at the start of its own workers."""
    own_read_positions()
    torch.set_num_threads(1)
    _seed_all(settings.seed + number)
    info: Any = torch_worker.WorkerInfo(
        id=number,
        num_workers=settings.num_workers,
        seed=settings.seed + number,
        dataset=dataset,
    )
    torch_worker._worker_info = info
    if settings.worker_init_fn is not None:
        settings.worker_init_fn(number)


def _seed_all(seed: int) -> None:
    random.seed(seed)
    torch.default_generator.manual_seed(seed)  # alone: torch.manual_seed takes 2 ms at first
    np.random.seed(seed & 0xFFFFFFFF)


class Worker:
    """Answers chunks.

    Args:
        recipe: What to make batches with.
        settings: How the ring is run.
        number: This worker's.
        board: Where it notes which sample it makes.
    """

    def __init__(self, recipe: Recipe, settings: RingSettings, number: int, board: Board) -> None:
        self.slots: dict[int, SlotFile] = {}
        self._board, self._stopwatch, self._is_watched = board, Stopwatch(number), False
        self._maker = BatchMaker(
            recipe,
            self._allocate,
            restore_generators=False,
            stack=self._stack,
            watch=board.at_row,
            finds_all_bad=settings.finds_all_bad,
            maker=f"worker {number} (process {os.getpid()})",
        )
        self._stream = StreamReader(
            recipe.dataset, settings.stream_batch_size, settings.drop_last, board.at_row
        )
        self._in_batches = settings.stream_batch_size is not None
        self._growth = GrowthWatch()
        self._enter: Callable[[str], object] = nobody_minds
        self._chunk: Chunk
        self._without_room: dict[int, Any] = {}
        self._within: list[Mapping] = []
        self._used = self._samples = 0

    def answer(self, chunk: Chunk) -> ChunkDone:
        """Make a chunk, and say what came of it."""
        self._chunk, self._used, self._samples = chunk, 0, len(chunk.seeds) // SEED_BYTES
        self._within.clear()
        if chunk.watched is not self._is_watched:
            self._be_watched(chunk.watched)
        self._stopwatch.begin(closely=chunk.watched)
        try:
            result = self._make(chunk)
        except _NoRoomError as error:
            result = NeedsRoom(error.size)
        except StreamEndedError:
            result = StreamEnded()
        except BadSamplesError as error:
            result = BadSamples(
                tuple(BadRow(row, failure_of(cause)) for row, cause in error.samples)
            )
        except Exception as error:
            failure = failure_of(error)
            result = OutOfMemory(failure) if is_out_of_memory(error) else failure
        times = self._stopwatch.stop(
            samples=self._samples,
            first_row=chunk.first_row,
            key_of=partial(_key_in, chunk),
        )
        return ChunkDone(chunk.number, chunk.first_row, result, times, self._growth.copied_bytes())

    def _be_watched(self, closely: bool) -> None:
        self._is_watched = closely
        self._maker.watch = self._stream.watch = self._at_row if closely else self._board.at_row
        self._enter = self._maker.enter = self._stopwatch.enter if closely else nobody_minds

    def _at_row(self, row: int) -> None:
        self._board.at_row(row)
        self._stopwatch.sample(row)

    def _make(self, chunk: Chunk) -> Result:
        if chunk.mode in ("stream", "new stream"):
            return self._of_stream(chunk)
        indices = chunk.indices
        request = Request(
            number=chunk.number,
            epoch=chunk.epoch,
            indices=loads(indices) if chunk.are_keys else np.frombuffer(indices, np.int64),
            seeds=np.frombuffer(chunk.seeds, np.uint64),
            batch_seed=chunk.batch_seed,
        )
        if chunk.mode == "rows":
            write = partial(
                write_rows,
                map_size=self._map_size,
                first_row=chunk.first_row,
                batch_size=chunk.batch_size,
            )
            try:
                return self._maker.make_samples(request, write)
            except NotRowsError:
                if len(request.seeds) < chunk.batch_size:
                    return NeedsWhole()
        return self._packed(self._maker.make(request, singly=chunk.singly))

    def _of_stream(self, chunk: Chunk) -> Result:
        if chunk.number in self._without_room:
            samples = self._without_room.pop(chunk.number)
        else:
            if chunk.mode == "new stream" or self._stream.must_begin(chunk.place):
                self._without_room.clear()
                _seed_all(int.from_bytes(chunk.seeds, "little"))
                self._stream.begin(chunk.epoch)
            samples = self._stream.take(chunk.place)
        self._samples = len(samples) if self._in_batches else 1
        try:
            return self._packed(self._maker.finish(samples))
        except _NoRoomError:  # it will be asked for again, and the stream gives it only once
            self._without_room[chunk.number] = samples
            raise

    def _packed(self, batch: Any) -> Result:
        self._enter("pack")
        return pack(batch, self._map_size, self._within, self._used)

    def _map_size(self, size: int) -> Mapping:
        if size > self._chunk.most_bytes:
            raise _NoRoomError(size)
        return self.slots[self._chunk.slot].mapped(max(1, size))

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        offset = aligned(self._used)
        self._used = offset + size_of(dtype, shape)
        self._within.append(self._map_size(self._used))
        return self._within[-1].tensor(offset, dtype, shape)

    def _stack(self, samples: Any) -> Any:
        """Default collation, into the slot where it is plain rows."""
        try:
            if type(samples) is not list:  # torch keeps the container of texts as it is
                raise NotRowsError
            return self._stacked_in_slot(samples)
        except NotRowsError:
            with _not_in_a_worker():
                return default_collate(samples)

    def _stacked_in_slot(self, samples: list[Any]) -> Any:
        written = write_rows(samples, self._map_size, 0, len(samples))
        self._used = layout_of(written.layout).place(len(samples)).size
        self._within.append(self._map_size(self._used))
        try:
            return batch_of_rows(written, len(samples), self._within[-1].tensor)
        except (KeyError, AttributeError) as error:  # a class of the loop's main module
            raise NotRowsError from error


class _Unable:
    """A worker that could not start: it says so whatever it is asked."""

    def __init__(self, failure: Failure, number: int) -> None:
        self.slots: dict[int, SlotFile] = {}
        self._failure, self._number = failure, number

    def answer(self, chunk: Chunk) -> ChunkDone:
        times = NO_TIMES._replace(worker=self._number)
        return ChunkDone(chunk.number, chunk.first_row, self._failure, times, None)


def _key_in(chunk: Chunk, row: int) -> Any:
    """The index or key of a sample; of a stream its number there."""
    if chunk.mode in ("stream", "new stream"):
        return (chunk.place, row)
    if not chunk.are_keys:
        return int(np.frombuffer(chunk.indices, np.int64)[row])
    keys = loads(chunk.indices)  # one alone without batching
    return keys[row] if isinstance(keys, list) else keys


class _NoRoomError(Exception):
    def __init__(self, size: int) -> None:
        self.size = size


@contextlib.contextmanager
def _not_in_a_worker() -> Iterator[None]:
    """Let torch collate into ordinary memory: it would make a shared segment for each tensor."""
    info, torch_worker._worker_info = torch_worker._worker_info, None
    try:
        yield
    finally:
        torch_worker._worker_info = info
