"""The nursery: one small process that forks the workers, hands out their work and ends them.

It has one thread and never touches the accelerator, so it can fork at any time, quickly; and it is
not held up by a training loop of busy Python, as a thread beside it would be.
"""

import contextlib
import os
import selectors
from collections.abc import Sequence
from typing import Any

from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.ring.child import Child
from lightning_fastdata.loader.ring.crew import Crew
from lightning_fastdata.loader.ring.jobs import Jobs
from lightning_fastdata.loader.ring.memory import SlotFile
from lightning_fastdata.loader.ring.messages import (
    Chunk,
    ChunkDone,
    DropSlot,
    GoOn,
    MemoryGrew,
    NewSlot,
    OutOfMemory,
    Resize,
)
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.loader.ring.wire import Channel

QUEUED = 2  # chunks a worker: the one that it is at, and the next
LOOK_S = 1.0  # between two looks whether the training process still lives
GROWTH_STEP_BYTES = 64 * 2**20  # of copied memory, before it is worth a message


class Nursery:
    """Serves one training process until that closes its end of the channel.

    Args:
        channel: To the training process.
        recipe: What to make batches with.
        settings: How the ring is run.
    """

    def __init__(self, channel: Channel, recipe: Recipe, settings: RingSettings) -> None:
        self._channel = channel
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ, None)
        self._jobs = Jobs(settings.chunk_samples, finds_all_bad=settings.finds_all_bad)
        self._crew = Crew(recipe, settings, self._jobs, self._tell_parent)
        self._late: dict[Channel, Child | None] = {}
        self._slots: dict[int, SlotFile] = {}
        self._reported_growth = GROWTH_STEP_BYTES // 2
        self._parent = os.getppid()

    def serve(self) -> None:
        """Work until the training process is done or gone, and leave no worker behind."""
        try:
            while os.getppid() == self._parent:
                for key, _ in self._selector.select(min(LOOK_S, self._crew.pause_s())):
                    if key.data is None:
                        self._hear_parent()
                    elif key.data in self._crew.children:
                        self._hear_child(key.data)
                new = self._crew.start_one()  # one a turn: the first is at work meanwhile
                if new is not None:
                    self._selector.register(new.channel, selectors.EVENT_READ, new)
                self._crew.look()
                self._hand_out()
                if self._late:
                    self._flush()
        except (EOFError, ConnectionError):
            pass
        finally:
            self._selector.close()
            self._crew.end()

    def _hear_parent(self) -> None:
        for message, descriptors in self._channel.receive_ready():
            if isinstance(message, Chunk):
                self._jobs.add(message, self._crew.num_workers)
            elif isinstance(message, NewSlot):
                self._slots[message.slot] = SlotFile(descriptors[0])
            elif isinstance(message, DropSlot):
                self._drop(message)
            elif isinstance(message, Resize):
                self._crew.resize(message.num_workers)
            elif isinstance(message, GoOn):
                self._crew.go_on()

    def _hear_child(self, child: Child) -> None:
        try:
            messages = child.channel.receive_ready()
        except EOFError:
            self._selector.unregister(child.channel)
            self._late.pop(child.channel, None)
            self._crew.bury(child)
            return
        for message, _ in messages:
            self._settle(child, message)

    def _settle(self, child: Child, done: ChunkDone) -> None:
        if isinstance(done.result, OutOfMemory):
            child.ran_out_of_memory(done.result.failure)
            return
        child.queued.popleft()  # a worker answers in the order in which it was asked
        child.answered += 1
        self._crew.saw(done.times)
        if done.copied_bytes is not None and done.copied_bytes >= 2 * self._reported_growth:
            self._reported_growth = done.copied_bytes
            self._tell_parent(MemoryGrew(done.copied_bytes, self._crew.num_workers))
        batch = self._jobs.settle(done)
        if batch is not None:
            self._tell_parent(batch)

    def _hand_out(self) -> None:
        ready = self._jobs.ready
        for depth in range(QUEUED):
            if not ready:
                break
            for child in self._crew.at_work():
                if len(child.queued) > depth:
                    continue
                chunk = self._next_for(child)
                if chunk is not None:
                    self._give(child, chunk)
        for child in self._crew.children:
            if child.retiring and not child.queued:
                child.channel.end_sending()

    def _next_for(self, child: Child) -> Chunk | None:
        ready = self._jobs.ready
        for place, chunk in enumerate(ready):
            if chunk.worker is None or chunk.worker == child.number:
                del ready[place]
                return chunk
        return None

    def _give(self, child: Child, chunk: Chunk) -> None:
        if chunk.slot not in child.slots:
            child.slots.add(chunk.slot)
            self._tell(child, NewSlot(chunk.slot), [self._slots[chunk.slot].descriptor])
        child.queued.append(chunk)
        self._tell(child, chunk)

    def _tell_parent(self, message: Any) -> None:
        self._tell(None, message)

    def _tell(self, child: Child | None, message: Any, descriptors: Sequence[int] = ()) -> None:
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
        for child in self._crew.children:
            if message.slot in child.slots:
                child.slots.remove(message.slot)
                self._tell(child, message)
