"""What stands in for training in a trial: it keeps each batch for as long as a step takes."""

import hashlib
import math
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from typing_extensions import Self

_BLOCK = bytes(256 * 1024)  # hashing one lets go of the interpreter lock, and stays in the cache
_CALIBRATE_NS = 10_000_000  # guess: some ten blocks


class StandInStep:
    """Does nothing for a step's time, or keeps cores busy as training on the host does.

    What computes is an amount of work, not a time: where workers take the cores away, such a step
    takes longer, as a real one does.

    Args:
        step_ns: Time of a step without its wait for data.
        host_cores: Cores' worth that the training process computes meanwhile, 0 or more.
    """

    def __init__(self, step_ns: int, host_cores: float = 0.0) -> None:
        self._threads = math.ceil(host_cores)
        share = host_cores / self._threads if self._threads else 0.0
        self._busy_ns, self._idle_s = step_ns * share, step_ns * (1 - share) / 1e9
        self._blocks = 0
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self._threads:
            self._blocks = max(1, round(self._busy_ns / _block_ns()))
        if self._threads > 1:
            self._pool = ThreadPoolExecutor(self._threads - 1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def __call__(self) -> None:
        """Take one step."""
        if self._blocks:
            pool = self._pool
            others = [pool.submit(_hash, self._blocks) for _ in range(self._threads - 1) if pool]
            _hash(self._blocks)
            for other in others:
                other.result()
        if self._idle_s > 0:
            time.sleep(self._idle_s)


def _hash(blocks: int) -> None:
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(_BLOCK)


def _block_ns() -> float:
    """CPU time of one block; other processes have no part in it."""
    began_ns, blocks = time.thread_time_ns(), 0
    while time.thread_time_ns() - began_ns < _CALIBRATE_NS:
        _hash(1)
        blocks += 1
    return (time.thread_time_ns() - began_ns) / blocks
