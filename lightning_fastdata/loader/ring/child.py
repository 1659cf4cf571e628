"""A worker as its nursery sees it: its process, what it has been given, and how it ended."""

import contextlib
import os
import signal
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.ring.board import Board
from lightning_fastdata.loader.ring.last_words import LastWords
from lightning_fastdata.loader.ring.messages import Chunk, Failure
from lightning_fastdata.loader.ring.process import fork_into, stay_on
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.loader.ring.wire import Channel, pair
from lightning_fastdata.loader.ring.worker import work

# Guess: a killed process that lives longer waits inside the kernel; one that was stuck, probably.
_KILLED_WITHIN_S, _STUCK_KILLED_WITHIN_S = 1.0, 0.1


class Death(NamedTuple):
    """How a worker ended."""

    status: int | None
    """As ``os.waitpid`` gives it; ``None`` where it has been killed but waits inside the kernel."""
    peak_bytes: int | None
    """The most memory that it had."""
    stacks: str
    """Its Python stacks, where it crashed or was asked for them."""


class Child:
    """A forked worker.

    Args:
        number: The worker's, from 0 on.
        recipe: What it makes batches with.
        settings: How the ring is run.
    """

    def __init__(self, number: int, recipe: Recipe, settings: RingSettings) -> None:
        self.number = number
        self.queued: deque[Chunk] = deque()
        """What it has been given and has not answered; it is at work on the first, if on any."""
        self.slots: set[int] = set()
        self.retiring = False
        self.answered = 0
        self.board = Board()
        self.stuck: Stuck | None = None
        """Why it was asked for its stacks; ``None`` while all is well."""
        self.no_memory: Failure | None = None
        """What it raised when its memory had run out, after which it is ended."""
        self._words = LastWords()
        self.channel, end = pair()
        board, words = self.board, self._words

        def run(own: Channel) -> None:
            if settings.worker_cores is not None:
                stay_on(settings.worker_cores, number)
            work(own, recipe, settings, number, board, words)

        try:
            self.pid = fork_into(run, end, dies_with_parent=True)
        except OSError:
            end.close()
            self._words.close()
            self.channel.close()
            raise

    @property
    def current(self) -> Chunk | None:
        """The chunk that it is at work on; ``None`` where it has not begun one."""
        return self.queued[0] if self.queued and self.board.chunks > self.answered else None

    @property
    def is_leaving(self) -> bool:
        """Whether it gets no more work."""
        return self.retiring or self.stuck is not None or self.no_memory is not None

    def ran_out_of_memory(self, failure: Failure) -> None:
        """End it: what a process has lost of its memory to leaks only its end gives back."""
        self.no_memory = failure
        self.kill()

    def ask_for_stacks(self, stuck: "Stuck") -> None:
        """Let it write its stacks and end."""
        self.stuck = stuck
        with contextlib.suppress(ProcessLookupError):
            self._words.ask(self.pid)

    def kill(self) -> None:
        """End it at once; works twice, and after its end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def bury(self) -> Death:
        """Wait for its end, kill it if need be, and close what belongs to it."""
        self.kill()  # it may have closed its end of the channel and live on; of no use then
        within_s = _KILLED_WITHIN_S if self.stuck is None else _STUCK_KILLED_WITHIN_S
        status, peak_bytes = _waited(self.pid, within_s)
        death = Death(
            status=status,
            peak_bytes=peak_bytes,
            stacks=self._words.read(),
        )
        self._words.close()
        self.channel.close()
        return death


class Stuck(NamedTuple):
    """A worker that got no further within the limit."""

    after_s: float
    """How long it stood still."""
    since_s: float
    """When its stacks were asked for, by ``time.monotonic``."""
    state: str
    """The kernel's letter for what it did: S slept, R ran, T was stopped, D waited for a disk."""
    is_suspicion: bool = False
    """Whether it stood still as all others did, which may have been the storage's fault."""


def is_over(pid: int) -> bool:
    """Whether a child process has ended, which it then is waited for."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def state_of(pid: int) -> str:
    """The kernel's letter for what a process does; a question mark where it cannot be read."""
    fields = _stat(pid)
    return fields[0] if fields else "?"


def used_by(pid: int) -> tuple[float, int] | None:
    """CPU seconds and bytes read so far by a process; ``None`` where it cannot be read."""
    fields = _stat(pid)
    if not fields:
        return None
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime, stime
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return cpu_s, 0
    return cpu_s, int(lines[0].partition(":")[2])  # rchar: all that it read, cached or not


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()  # a program's name may hold anything but this


def _waited(pid: int, within_s: float) -> tuple[int | None, int | None]:
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            found, status, usage = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            return None, None
        if found:
            return status, usage.ru_maxrss * 1024
        if time.monotonic() > deadline_s:  # a dead network file system may hold it for ever
            return None, None
        time.sleep(0.001)  # waitpid knows no time limit, and this is over at once as a rule
