"""One number of workers for all ranks of a machine, found without anybody waiting.

Ranks share the machine's cores, and with DDP they share each step too: the slowest loader sets the
pace of all. So every rank shows how many workers its own controller wants, and all take the largest
of these numbers: more are started as soon as one rank wants them, fewer only once none does.

They tell each other through the store that torch.distributed was started with, as the profiler's
ranks do, and not by a collective. There is no leader: each rank takes the largest number of those
that are shown, which comes to the same, and a leader that is slow or dead would need a successor.
For a moment two ranks may differ, until each has ended one more window of some seconds.

    change = controller.see(window)
    wanted = loader.num_workers if change is None else change.after
    agreed = agreement.propose(wanted, window.stall_fraction)
    if agreed != loader.num_workers:
        loader.resize(agreed)

A window costs two calls of the store, each one round trip to rank 0's machine: 0.25 ms together on
two busy cores (by hand). A call asks only for what is there, so none can come to wait for a key.
"""

import logging
import struct
from typing import Any, NamedTuple

import torch.distributed as dist

from lightning_fastdata.machine import read_host_id

EXPIRES_WINDOWS = 8
"""Windows of one's own after which a rank that shows nothing new no longer counts. Ranks that train
together end theirs within a few of each other; guess."""
_SHOWN = struct.Struct("<4qd")
_logger = logging.getLogger(__name__)


class _Wish(NamedTuple):
    """What a rank shows."""

    rank: int
    window: int
    """How many it has ended; it grows as long as the rank trains."""
    num_workers: int
    most_workers: int
    stall_fraction: float


class Agreement:
    """This rank's part in finding one number for all ranks of its machine.

    Make one for each loader whose number of workers may change, on all ranks alike: the first ones
    that the ranks make under a name belong together, then the second ones. A rank that has none,
    stops training or dies keeps nobody waiting: its wish expires.

    Args:
        store: Where the ranks can write for each other; ``None``: this rank decides alone.
        name: Of the loader, the same on all ranks and different from other loaders'.
        rank: Of this process.
        host: What tells this machine from the others.
        num_workers: That the loader has now.
        most_workers: This rank's budget; the ranks keep to the smallest of theirs.
    """

    def __init__(
        self,
        store: Any | None,
        *,
        name: str,
        rank: int,
        host: str,
        num_workers: int,
        most_workers: int,
    ) -> None:
        self._store = store
        self._rank = rank
        self._in_use = self._wanted = num_workers
        self._most_workers = most_workers
        self._windows = 0
        self._newest: dict[str, tuple[_Wish, int]] = {}
        self._keys: list[str] = []
        self._decided_by: _Wish | None = None
        if store is not None:
            self._join(f"fastdata/agree/{name}", host)

    @property
    def reason(self) -> str | None:
        """Whose wish it is, as a sentence; ``None`` where it is this rank's own."""
        wish = self._decided_by
        if wish is None:
            return None
        return (
            f"rank {wish.rank} on this machine wants {wish.num_workers} workers and waits for "
            f"{100 * wish.stall_fraction:.1f} % of its time; all ranks of a machine use one number"
        )

    def propose(self, num_workers: int, stall_fraction: float) -> int:
        """Show what this rank wants, once a window, and learn how many workers to use now.

        Args:
            num_workers: That this rank's controller wants. The number in use says nothing new: what
                the rank wanted before still holds, or one that was given more than it needs would
                hold all others up there.
            stall_fraction: Share of the window (0 to 1) in which this rank waited for batches; high
                values explain a large number to the other ranks.

        Returns:
            The number for all ranks, within the smallest of their budgets.
        """
        if num_workers != self._in_use:
            self._wanted = num_workers
        self._windows += 1
        own = _Wish(
            self._rank, self._windows, self._wanted, self._most_workers, float(stall_fraction)
        )
        others: list[_Wish] = []
        if self._store is not None:
            try:
                others = self._exchange(self._store, own)
            except Exception as error:  # of any kind of store: it must never end a run
                self._be_alone(error)
        largest = max([own, *others], key=lambda wish: wish.num_workers)  # its own, where equal
        self._decided_by = None if largest is own else largest
        budget = min(wish.most_workers for wish in [own, *others])
        self._in_use = min(largest.num_workers, budget)
        return self._in_use

    def _join(self, loaders: str, host: str) -> None:
        """Take a seat at this machine's table, under the next free number."""
        assert self._store is not None
        try:
            # Counted in the store: the loaders of one job must not read each other's numbers.
            count = self._store.add(f"{loaders}/made/{self._rank}", 1)
            self._table = f"{loaders}/{count}/{host}"
            self._seat = self._store.add(f"{self._table}/seats", 1)
        except Exception as error:
            self._be_alone(error)

    def _exchange(self, store: Any, own: _Wish) -> list[_Wish]:
        """Show one's own wish, and read those of the ranks that are still there."""
        store.set(f"{self._table}/{self._seat}", _SHOWN.pack(*own))
        seats, *values = store.multi_get([f"{self._table}/seats", *self._keys])
        for key, value in zip(self._keys, values, strict=True):
            self._note(key, _Wish(*_SHOWN.unpack(value)))
        for seat in range(1, int(seats) + 1):
            key = f"{self._table}/{seat}"
            # A rank that has a seat has not always shown something yet: never get without a check.
            if seat != self._seat and key not in self._newest and store.check([key]):
                self._note(key, _Wish(*_SHOWN.unpack(store.get(key))))
                self._keys.append(key)
        return [
            wish for wish, seen in self._newest.values() if self._windows - seen < EXPIRES_WINDOWS
        ]

    def _note(self, key: str, wish: _Wish) -> None:
        before = self._newest.get(key)
        if before is None or before[0].window != wish.window:
            self._newest[key] = (wish, self._windows)

    def _be_alone(self, error: Exception) -> None:
        self._store = None
        _logger.info(
            "this rank chooses its number of workers without the others from now on: the store of "
            "torch.distributed failed (%s: %s).",
            type(error).__name__,
            error,
        )


def ranks_have_met() -> bool:
    """Whether torch.distributed has been started, before which nobody can say who is who."""
    return bool(dist.is_available() and dist.is_initialized())


def agreement_for(name: str, *, num_workers: int, most_workers: int) -> Agreement:
    """Take part in finding one number for a loader; alone where the run has one process.

    Call it at the start of the loader's first pass after ``ranks_have_met``: they come to it alike.

    Args:
        name: Of the loader, the same on all ranks and different from other loaders'.
        num_workers: That the loader has now.
        most_workers: This rank's budget.
    """
    store, rank = _store_and_rank()
    return Agreement(
        store,
        name=name,
        rank=rank,
        host=read_host_id(),
        num_workers=num_workers,
        most_workers=most_workers,
    )


def _store_and_rank() -> tuple[Any | None, int]:
    """Find where the ranks of this run can write for each other, if it has any others."""
    if not ranks_have_met():
        _logger.info("this process chooses its number of workers alone: no torch.distributed.")
        return None, 0
    rank = dist.get_rank()
    if dist.get_world_size() < 2:
        return None, rank
    try:
        # Torch has no public name for the store of a run that was started with an address.
        return dist.distributed_c10d._get_default_store(), rank
    except Exception as error:  # another torch may call it something else; that must not end a run
        _logger.info(
            "rank %s chooses its number of workers alone: the store of torch.distributed is not to "
            "be had (%s: %s).",
            rank,
            type(error).__name__,
            error,
        )
        return None, rank
