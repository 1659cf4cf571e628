"""What every rank measured, brought together on rank 0 without holding up training.

Through the store that torch.distributed was started with, not through a process group. A rank
writes a few numbers there, which is sent and not waited for; rank 0, where the store lives, reads
them at its next interval. A collective of our own was refused: with unequal numbers of calls, or
on a rank that has no profiler, it hangs or takes another's place, and its group costs threads and
a connection between any two ranks. Nothing here knows of tensors, devices or streams.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from lightning_fastdata.trace import RankWindow, StallWindow

MOST_INTERVALS = 512
"""Intervals that are kept; beyond it, two become one."""
FLUSH_S = 5.0
"""How long rank 0 waits at the end for the last numbers of the others (guess)."""
_SHOWN = 8
"""Newest intervals that each rank shows: ranks may be this far apart (guess; a step that
communicates keeps them within one)."""
_INTERVAL = struct.Struct("<5q")
_NOTHING = RankWindow(steps=0, wall_ns=0, stall_ns=0, host_wait_ns=0)


class RankExchange:
    """Shows the other ranks what this one measured; collects what all of them measured on rank 0.

    Make one on each rank at the start of a fit. A rank that has none, or that dies, keeps nobody
    waiting: what it did not show is missing from ``intervals``.

    Args:
        store: Where the ranks can write for each other.
        rank: Of this process.
        world_size: How many processes there are.

    Attributes:
        intervals: By interval, then by rank, what was measured; only rank 0 collects it. A rank
            that showed nothing of an interval has no steps there.
        newest: The last of them, however many are one by now.
    """

    def __init__(self, store: Any, *, rank: int, world_size: int) -> None:
        self.intervals: list[list[RankWindow]] = []
        self.newest: list[RankWindow] = []
        self._rank = rank
        self._world_size = world_size
        # Counted in the store: fits of one job must not read each other's numbers.
        self._fit = f"fastdata/fit{store.add(f'fastdata/fits/{rank}', 1)}"
        self._store = store
        self._shown = 0
        self._showing: deque[tuple[int, RankWindow]] = deque(maxlen=_SHOWN)
        self._all_have_begun = False
        self._gathered: dict[int, dict[int, RankWindow]] = {}
        self._closed = 0
        self._each = 1
        self._in_last = 0

    def show(self, window: StallWindow) -> None:
        """Show what this rank measured in one more interval, and collect what there is."""
        mine = RankWindow(
            steps=window.steps,
            wall_ns=window.wall_ns,
            stall_ns=window.stall_ns,
            host_wait_ns=window.host_wait_ns,
        )
        self._showing.append((self._shown, mine))
        self._shown += 1
        self._store.set(f"{self._fit}/rank{self._rank}", _packed(self._showing))
        if self._rank == 0:
            self._collect()
            self._close(lambda ranks, behind: ranks == self._world_size or behind >= _SHOWN)

    def finish(self, *, wait: bool) -> None:
        """Collect the rest; ``wait`` a few seconds for ranks that are not done yet.

        Of those that are not done by then, what they have shown so far is kept.
        """
        done = [f"{self._fit}/done{rank}" for rank in range(self._world_size)]
        self._store.set(done[self._rank], "")
        if self._rank != 0:
            return
        if wait:
            with suppress(RuntimeError):  # what torch calls its timeout
                self._store.wait(done, timedelta(seconds=FLUSH_S))
        self._collect()
        self._close(lambda ranks, behind: True)

    def _collect(self) -> None:
        """Read what the ranks show. Only those that show something: the others are waited for."""
        keys = {rank: f"{self._fit}/rank{rank}" for rank in range(self._world_size)}
        if not self._all_have_begun:
            self._all_have_begun = self._store.check(list(keys.values()))
        if not self._all_have_begun:
            keys = {rank: key for rank, key in keys.items() if self._store.check([key])}
        values = self._store.multi_get(list(keys.values())) if keys else []
        for rank, value in zip(keys, values, strict=True):
            for number, *figures in _INTERVAL.iter_unpack(value):
                if number >= self._closed:
                    steps, wall_ns, stall_ns, host_wait_ns = figures
                    self._gathered.setdefault(number, {})[rank] = RankWindow(
                        steps=steps, wall_ns=wall_ns, stall_ns=stall_ns, host_wait_ns=host_wait_ns
                    )

    def _close(self, is_complete: Callable[[int, int], bool]) -> None:
        newest = max(self._gathered, default=-1)
        for number in sorted(self._gathered):
            by_rank = self._gathered[number]
            if not is_complete(len(by_rank), newest - number):
                return
            self._closed = number + 1
            del self._gathered[number]
            self.newest = [by_rank.get(rank, _NOTHING) for rank in range(self._world_size)]
            self._keep(self.newest)

    def _keep(self, row: list[RankWindow]) -> None:
        if self.intervals and self._in_last < self._each:
            self.intervals[-1] = _sum(self.intervals[-1], row)
            self._in_last += 1
            return
        if len(self.intervals) >= MOST_INTERVALS:
            pairs = zip(self.intervals[::2], self.intervals[1::2], strict=True)
            self.intervals[:] = [_sum(one, other) for one, other in pairs]
            self._each *= 2
        self.intervals.append(row)
        self._in_last = 1


def exchange_between_ranks_of(trainer: Any) -> RankExchange | None:
    """Give this rank its place in the exchange; ``None`` where ``trainer`` has only one process."""
    if not (dist.is_available() and dist.is_initialized()):
        return None
    if trainer.world_size < 2 or trainer.world_size != dist.get_world_size():
        return None
    # Torch has no public name for the store of a run that was started with an address.
    store = dist.distributed_c10d._get_default_store()
    return RankExchange(store, rank=dist.get_rank(), world_size=trainer.world_size)


def _packed(showing: Iterable[tuple[int, RankWindow]]) -> bytes:
    return b"".join(
        _INTERVAL.pack(number, each.steps, each.wall_ns, each.stall_ns, each.host_wait_ns)
        for number, each in showing
    )


def _sum(one: list[RankWindow], other: list[RankWindow]) -> list[RankWindow]:
    return [
        RankWindow(
            steps=a.steps + b.steps,
            wall_ns=a.wall_ns + b.wall_ns,
            stall_ns=a.stall_ns + b.stall_ns,
            host_wait_ns=a.host_wait_ns + b.host_wait_ns,
        )
        for a, b in zip(one, other, strict=True)
    ]
