"""Which workers do not get on: the nursery looks now and then at what they note of themselves."""

from collections.abc import Callable, Iterable

from lightning_fastdata.loader.make import NO_ROW
from lightning_fastdata.loader.ring.child import Child, state_of, used_by
from lightning_fastdata.loader.ring.messages import SEED_BYTES
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.trace.work import ChunkTimes

LOOK_S = 0.5  # between two looks: a stuck worker is found at most so much after its limit
_UNWATCHED_S = 1.0
_SLOWER = 100  # guess: a sample that takes a hundred times the longest one before it is stuck
_UNKNOWN_S = 600.0  # guess: the limit while no sample has been made, which may be a cold disk's
_STARVED, _STARVED_CORE = 5, 0.1  # guess: limits that a worker may take with so little of a core
_IDLE_CORE = 0.01  # guess: CPU time of a worker that only waits, as a share of the time


class Watch:
    """Knows since when each worker stands still.

    Args:
        settings: How long a sample may take.
        used: Gives a process's CPU seconds and bytes read.
        state: Gives the kernel's letter for what a process does.
    """

    def __init__(
        self,
        settings: RingSettings,
        used: Callable[[int], tuple[float, int] | None] = used_by,
        state: Callable[[int], str] = state_of,
    ) -> None:
        self._state = state
        self._limit_s, self._follows = settings.sample_timeout_s, settings.timeout_follows
        self._used = used
        self._longest_s: float | None = None
        self._beats: dict[int, tuple[int, float]] = {}
        self._still: tuple[float, dict[int, tuple[float, int]]] | None = None
        self._half_way: dict[int, tuple[float, float]] = {}
        """When a worker had waited for half of its limit, and its CPU seconds then."""
        self._last_s: float | None = None

    @property
    def pause_s(self) -> float:
        """How long until the next look is worth it."""
        return _UNWATCHED_S if self._limit_s is None else min(LOOK_S, self._limit_s / 4)

    def saw(self, times: ChunkTimes) -> None:
        """Learn how long samples take."""
        if times.samples:
            each_s = (times.ended_ns - times.began_ns) / times.samples / 1e9
            self._longest_s = max(self._longest_s or 0.0, each_s)

    def overdue(self, children: Iterable[Child], now_s: float) -> list[tuple[Child, float]]:
        """Give the workers that have stood still for too long, each with the seconds so far."""
        asleep_s = 0.0 if self._last_s is None else now_s - self._last_s - self.pause_s
        if asleep_s > self.pause_s:  # somebody had stopped the nursery, and the workers as well
            self._beats = {
                pid: (beat, since_s + asleep_s) for pid, (beat, since_s) in self._beats.items()
            }
            self._still = None
        self._last_s = now_s
        waited = {child: self._waited_s(child, now_s) for child in children}
        self._beats = {child.pid: self._beats[child.pid] for child in waited}
        if self._limit_s is None:
            return []
        self._half_way = {
            child.pid: self._half_way.get(child.pid) or (now_s, self._cpu_s(child))
            for child, waited_s in waited.items()
            if waited_s > self._limit_s / 2
        }
        if max(waited.values(), default=0.0) > self._limit_s / 4:
            self._look_for_life(waited, now_s)
        else:
            self._still = None
        return [
            (child, waited_s)
            for child, waited_s in waited.items()
            if waited_s > self._limit_s
            and waited_s > self._limit_of(child)
            and not self._is_starved(child, waited_s, now_s)
        ]

    def nothing_moves(self, children: Iterable[Child], now_s: float) -> float | None:
        """How long no worker has used a core or read a byte, if that and a sample are too long."""
        if self._limit_s is None or self._still is None:
            return None
        longest_s = max((now_s - self._beats[child.pid][1] for child in children), default=0.0)
        if longest_s > self._limit_s and now_s - self._still[0] > self._limit_s / 2:
            return longest_s
        return None

    def _waited_s(self, child: Child, now_s: float) -> float:
        beats = child.board.beats
        known = self._beats.get(child.pid)
        if known is None or known[0] != beats or not child.queued or child.stuck is not None:
            known = self._beats[child.pid] = (beats, now_s)
        return now_s - known[1]

    def _limit_of(self, child: Child) -> float:
        assert self._limit_s is not None
        limit_s = self._limit_s
        chunk = child.current
        if chunk is None and not child.answered and self._state(child.pid) not in "Tt":
            return max(limit_s, _UNKNOWN_S)  # at worker_init_fn, which is no sample
        if self._follows:  # a worker's own first samples are cold, whatever others have done
            seen_s = self._longest_s if child.answered else None
            limit_s = max(limit_s, _UNKNOWN_S if seen_s is None else _SLOWER * seen_s)
        if chunk is None or child.board.row != NO_ROW:
            return limit_s
        return limit_s * max(1, len(chunk.seeds) // SEED_BYTES)  # it may be at all its samples

    def _is_starved(self, child: Child, waited_s: float, now_s: float) -> bool:
        """Whether it would work if it only got a core: then it may have some more time."""
        since_s, cpu_s = self._half_way[child.pid]
        assert self._limit_s is not None
        if waited_s > _STARVED * self._limit_s or self._state(child.pid) != "R":
            return False
        return self._cpu_s(child) - cpu_s < _STARVED_CORE * (now_s - since_s)

    def _cpu_s(self, child: Child) -> float:
        used = self._used(child.pid)
        return 0.0 if used is None else used[0]

    def _look_for_life(self, children: Iterable[Child], now_s: float) -> None:
        used = {child.pid: self._used(child.pid) or (0.0, 0) for child in children}
        if self._still is not None:
            since_s, before = self._still
            spare_s = _IDLE_CORE * (now_s - since_s) + 0.02
            if used.keys() == before.keys() and all(
                cpu_s - before[pid][0] <= spare_s and read_bytes == before[pid][1]
                for pid, (cpu_s, read_bytes) in used.items()
            ):
                return
        self._still = (now_s, used)
