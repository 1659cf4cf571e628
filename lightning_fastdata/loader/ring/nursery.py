"""The nursery: one small process that forks the workers, hands out their work and ends them.

It has one thread and never touches the accelerator, so it can fork at any time, quickly; and it is
not held up by a training loop of busy Python, as a thread beside it would be.
"""

import contextlib
import itertools
import os
import selectors
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.ring.jobs import Jobs
from lightning_fastdata.loader.ring.memory import SlotFile
from lightning_fastdata.loader.ring.messages import (
    Chunk,
    ChunkDone,
    DropSlot,
    MemoryGrew,
    NewSlot,
    Resize,
    WorkerDied,
)
from lightning_fastdata.loader.ring.process import fork_into
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.loader.ring.wire import Channel, pair
from lightning_fastdata.loader.ring.worker import work

QUEUED = 2  # chunks a worker: the one that it is at, and the next
GRACE_S = 1.0  # for a worker to finish its sample when all ends; then it is killed
LOOK_S = 1.0  # between two looks whether the training process still lives
GROWTH_STEP_BYTES = 64 * 2**20  # of copied memory, before it is worth a message


@dataclass(kw_only=True, slots=True)
class _Child:
    number: int
    pid: int
    channel: Channel
    queued: list[Chunk] = field(default_factory=list)
    slots: set[int] = field(default_factory=set)
    retiring: bool = False


class Nursery:
    """Serves one training process until that closes its end of the channel.

    Args:
        channel: To the training process.
        recipe: What to make batches with.
        settings: How the ring is run.
    """

    def __init__(self, channel: Channel, recipe: Recipe, settings: RingSettings) -> None:
        self._channel, self._recipe, self._settings = channel, recipe, settings
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ, None)
        self._jobs = Jobs(settings.chunk_samples)
        self._children: dict[int, _Child] = {}
        self._late: dict[Channel, _Child | None] = {}
        self._slots: dict[int, SlotFile] = {}
        self._num_workers = self._missing = settings.num_workers
        self._reported_growth = GROWTH_STEP_BYTES // 2
        self._parent = os.getppid()

    def serve(self) -> None:
        """Work until the training process is done or gone, and leave no worker behind."""
        try:
            while os.getppid() == self._parent:
                for key, _ in self._selector.select(0 if self._missing > 0 else LOOK_S):
                    if key.data is None:
                        self._hear_parent()
                    elif key.data.number in self._children:
                        self._hear_child(key.data)
                if self._missing > 0:  # one a turn: the first is at work while the others start
                    self._start()
                self._hand_out()
                if self._late:
                    self._flush()
        except (EOFError, ConnectionError):
            pass
        finally:
            self._end()

    def _hear_parent(self) -> None:
        for message, descriptors in self._channel.receive_ready():
            if isinstance(message, Chunk):
                self._jobs.add(message, self._num_workers)
            elif isinstance(message, NewSlot):
                self._slots[message.slot] = SlotFile(descriptors[0])
            elif isinstance(message, DropSlot):
                self._drop(message)
            elif isinstance(message, Resize):
                self._resize(message.num_workers)

    def _hear_child(self, child: _Child) -> None:
        try:
            messages = child.channel.receive_ready()
        except EOFError:
            self._reap(child)
            return
        for message, _ in messages:
            self._settle(child, message)

    def _settle(self, child: _Child, done: ChunkDone) -> None:
        del child.queued[0]  # a worker answers in the order in which it was asked
        if done.copied_bytes is not None and done.copied_bytes >= 2 * self._reported_growth:
            self._reported_growth = done.copied_bytes
            self._tell(None, MemoryGrew(done.copied_bytes, self._num_workers))
        batch = self._jobs.settle(done)
        if batch is not None:
            self._tell(None, batch)

    def _hand_out(self) -> None:
        ready = self._jobs.ready
        for depth in range(QUEUED):
            if not ready:
                break
            for child in self._children.values():
                if len(child.queued) > depth or child.retiring:
                    continue
                chunk = self._next_for(child)
                if chunk is not None:
                    self._give(child, chunk)
        for child in self._children.values():
            if child.retiring and not child.queued:
                child.channel.end_sending()

    def _next_for(self, child: _Child) -> Chunk | None:
        ready = self._jobs.ready
        for place, chunk in enumerate(ready):
            if chunk.worker is None or chunk.worker == child.number:
                del ready[place]
                return chunk
        return None

    def _give(self, child: _Child, chunk: Chunk) -> None:
        if chunk.slot not in child.slots:
            child.slots.add(chunk.slot)
            self._tell(child, NewSlot(chunk.slot), [self._slots[chunk.slot].descriptor])
        child.queued.append(chunk)
        self._tell(child, chunk)

    def _tell(self, child: _Child | None, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Post a message to a worker, or to the training process."""
        channel = self._channel if child is None else child.channel
        with contextlib.suppress(ConnectionError):  # it has died: that is heard, and said, soon
            channel.post(message, descriptors)
        if channel.has_unsent and channel not in self._late:
            self._late[channel] = child
            self._selector.modify(channel, selectors.EVENT_READ | selectors.EVENT_WRITE, child)

    def _flush(self) -> None:
        """Send what did not fit, where there is room now."""
        for channel, child in list(self._late.items()):
            with contextlib.suppress(ConnectionError):
                channel.flush()
            if not channel.has_unsent:
                del self._late[channel]
                self._selector.modify(channel, selectors.EVENT_READ, child)

    def _drop(self, message: DropSlot) -> None:
        self._slots.pop(message.slot).close()
        for child in self._children.values():
            if message.slot in child.slots:
                child.slots.remove(message.slot)
                self._tell(child, message)

    def _resize(self, num_workers: int) -> None:
        self._num_workers = num_workers
        staying = [child for child in self._children.values() if not child.retiring]
        for child in staying[num_workers:]:
            child.retiring = True
        self._missing = num_workers - len(staying)

    def _start(self) -> None:
        number = next(n for n in itertools.count() if n not in self._children)
        channel, end = pair()
        recipe, settings = self._recipe, self._settings
        pid = fork_into(lambda own: work(own, recipe, settings, number), end, dies_with_parent=True)
        child = _Child(number=number, pid=pid, channel=channel)
        self._children[number] = child
        self._missing -= 1
        self._selector.register(channel, selectors.EVENT_READ, child)

    def _reap(self, child: _Child) -> None:
        os.kill(child.pid, signal.SIGKILL)  # it may have closed its end and live on; of no use then
        _, status = os.waitpid(child.pid, 0)
        self._let_go(child)
        if child.retiring and not child.queued:
            return
        self._missing += not child.retiring
        batches = {chunk.number for chunk in child.queued}
        self._jobs.forget(batches)
        self._tell(None, WorkerDied(child.number, child.pid, status, tuple(sorted(batches))))

    def _let_go(self, child: _Child) -> None:
        self._selector.unregister(child.channel)
        self._late.pop(child.channel, None)
        child.channel.close()
        del self._children[child.number]

    def _end(self) -> None:
        """End every worker: those that do not finish their sample soon are killed."""
        for child in self._children.values():
            child.channel.end_sending()
        self._selector.unregister(self._channel)
        deadline_s = time.monotonic() + GRACE_S
        while self._selector.get_map() and time.monotonic() < deadline_s:
            for key, _ in self._selector.select(deadline_s - time.monotonic()):
                try:
                    key.data.channel.receive_ready()
                except EOFError:
                    self._selector.unregister(key.data.channel)
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)
        for child in self._children.values():
            os.waitpid(child.pid, 0)
