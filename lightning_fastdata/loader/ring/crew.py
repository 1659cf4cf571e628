"""The workers of a nursery: started, watched, replaced when they end, and ended."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.ring.child import Child, Death, Stuck, is_over, state_of
from lightning_fastdata.loader.ring.inquest import Verdict, verdict_on
from lightning_fastdata.loader.ring.jobs import TOO_MUCH_BLAME, Jobs
from lightning_fastdata.loader.ring.messages import Chunk, Deadlocked, GaveUp, WorkerDied
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.loader.ring.watch import Watch
from lightning_fastdata.loader.ring.wire import wait_for_ends
from lightning_fastdata.machine.oom import count_oom_kills
from lightning_fastdata.trace.work import ChunkTimes

GRACE_S = 1.0  # for a worker to finish its sample when all ends; then it is killed
STACKS_WITHIN_S = 0.5  # guess: writing them takes a millisecond; a process that waits for a device
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0  # before the next start, where the last ones failed
_MOST_BARREN = 8  # workers in a row that ended before their first sample


class Crew:
    """Keeps as many workers as are wanted.

    Args:
        recipe: What they make batches with.
        settings: How the ring is run.
        jobs: Where the work of a worker that has ended goes back to.
        tell: Sends a message to the training process.
    """

    def __init__(
        self, recipe: Recipe, settings: RingSettings, jobs: Jobs, tell: Callable[[Any], None]
    ) -> None:
        self._recipe, self._settings, self._jobs, self._tell = recipe, settings, jobs, tell
        self.children: dict[Child, None] = {}
        """All that live, in the order of their start."""
        self.num_workers = self._missing = settings.num_workers
        self._watch = Watch(settings)
        self._next_look_s = self._not_before_s = 0.0
        self._barren = self._deaths = self._answers = 0
        self._oom_kills = count_oom_kills()
        self._blame: Counter[int] = Counter()
        """Of a stream's batches, by number; those of others are known to ``jobs``."""
        self._deadlock_s: float | None = None
        self._undead: list[int] = []
        """Those that were killed and wait inside the kernel."""
        self._silent: list[tuple[Child, Death]] = []

    def pause_s(self) -> float:
        """How long nothing has to be done here, in seconds."""
        pause_s = self._watch.pause_s if self.children else 1.0
        if self._missing > 0 and self._deadlock_s is None:
            pause_s = min(pause_s, max(0.0, self._not_before_s - time.monotonic()))
        return pause_s

    def at_work(self) -> Iterable[Child]:
        """Those that may be given work."""
        return (child for child in self.children if not child.is_leaving)

    def start_one(self) -> Child | None:
        """Start a worker, where one is missing and it is time."""
        if self._missing <= 0 or self._deadlock_s is not None:
            return None
        if self._not_before_s and time.monotonic() < self._not_before_s:
            return None
        # Not those that only have to end: users take numbers for places among num_workers.
        taken = {each.number for each in self.children if each.queued or not each.retiring}
        number = next(n for n in itertools.count() if n not in taken)
        try:
            child = Child(number, self._recipe, self._settings)
        except OSError as error:  # no memory, or no more processes allowed; for now
            self._fails(f"no worker could be started ({error})")
            return None
        self.children[child] = None
        self._missing -= 1
        return child

    def resize(self, num_workers: int) -> None:
        """Have so many workers from now on; those that are too many finish what they have."""
        self.num_workers = num_workers
        self._settings = replace(self._settings, num_workers=num_workers)  # what new ones are told
        staying = [child for child in self.children if not child.retiring]
        # Who was to go but is still at work has not been told, and can as well stay.
        staying += [child for child in self.children if child.retiring and child.queued]
        # The highest numbers go, which users' functions take for places among num_workers.
        for place, child in enumerate(sorted(staying, key=lambda child: child.number)):
            child.retiring = place >= num_workers
        self._missing = max(0, num_workers - len(staying))

    def saw(self, times: ChunkTimes) -> None:
        """Note that a worker has answered."""
        self._watch.saw(times)
        self._answers += 1
        self._barren = 0

    def look(self) -> None:
        """Ask those that got stuck for their stacks, and end those that do not even answer."""
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + self._watch.pause_s
        overdue = self._watch.overdue(self.children, now_s)
        if self._settings.may_restart and not self._answers and self._deadlock_s is None:
            self._deadlock_s = self._watch.nothing_moves(self.children, now_s)
            if self._deadlock_s is not None:
                overdue = [(child, self._deadlock_s) for child in self.children]
        for child, waited_s in overdue:
            if child.stuck is None:
                child.ask_for_stacks(Stuck(waited_s, now_s, state_of(child.pid)))
        self._undead = [pid for pid in self._undead if not is_over(pid)]
        for child in self.children:
            if state_of(child.pid) == "Z":  # a process that it has forked may hold its end open
                child.channel.end_receiving()
            if child.stuck is not None and now_s - child.stuck.since_s > STACKS_WITHIN_S:
                child.kill()
                child.channel.end_receiving()

    def bury(self, child: Child) -> None:
        """Take a worker out that has ended, and let others do its work."""
        del self.children[child]
        death = child.bury()
        if death.status is None:
            self._undead.append(child.pid)
        self._missing += not child.retiring
        is_missed = not child.retiring or bool(child.queued)
        if self._deadlock_s is None:
            if is_missed:
                self._mourn(child, death)
            return
        if is_missed:
            self._silent.append((child, death))
        if not self.children:
            stacks = "\n".join(
                f"worker {silent.number}:\n{its.stacks or '(it could not say)'}"
                for silent, its in self._silent
            )
            self._tell(Deadlocked(stacks, self._deadlock_s))

    def go_on(self) -> None:
        """There is no fresh start: blame the samples that workers were stuck at."""
        silent, self._silent, self._deadlock_s = self._silent, [], None
        self._answers += 1  # so that it is not tried again
        for child, death in silent:
            if child.stuck is not None and self._settings.timeout_follows:
                child.stuck = child.stuck._replace(is_suspicion=True)
            self._mourn(child, death)

    def end(self) -> None:
        """End every worker: those that do not finish their sample soon are killed."""
        for child in self.children:
            child.channel.end_sending()
        wait_for_ends([child.channel for child in self.children], GRACE_S)
        for child in self.children:
            child.kill()
        for child in self.children:
            child.bury()

    def _mourn(self, child: Child, death: Death) -> None:
        if child.stuck is not None and not child.queued:
            return  # it was only asked because others were stuck
        self._deaths += 1
        verdict = verdict_on(child, death, self._new_oom_kills())
        is_guilty = verdict.blame >= TOO_MUCH_BLAME
        if verdict.chunk is None and not child.answered:
            self._fails(verdict.words, death.stacks, weight=_MOST_BARREN // 2 if is_guilty else 1)
        lost, is_given_up = self._give_back(child, verdict)
        self._tell(
            WorkerDied(
                words="" if is_given_up else verdict.words,
                stacks=death.stacks,
                deaths=self._deaths,
                lost=lost,
            )
        )

    def _give_back(self, child: Child, verdict: Verdict) -> tuple[tuple[int, ...], bool]:
        """Let others make what a worker had been given.

        Returns:
            The batches of a stream that only it could make, and whether what it was at is given up.
        """
        chunk, answer = verdict.chunk, None
        if any(each.worker is not None for each in child.queued):
            lost = {each.number for each in child.queued}
            lost |= {each.number for each in self._jobs.ready if each.worker == child.number}
            if chunk is not None and self._is_too_much(chunk, verdict.blame):
                lost.remove(chunk.number)
                answer = self._jobs.give_up(chunk, verdict.failure)
            self._jobs.forget(lost)
        else:
            lost = set()
            for each in reversed(child.queued):
                if each is not chunk:
                    self._jobs.give_back(each)
            if chunk is not None:
                answer = self._jobs.retry(chunk, verdict.row, verdict.blame, verdict.failure)
        if answer is not None:
            self._tell(answer)
        return tuple(sorted(lost)), answer is not None

    def _is_too_much(self, chunk: Chunk, blame: int) -> bool:
        self._blame[chunk.number] += blame
        return self._blame[chunk.number] >= TOO_MUCH_BLAME

    def _fails(self, words: str, stacks: str = "", *, weight: int = 1) -> None:
        """Wait ever longer before the next start; say so if it never gets better."""
        self._barren += weight
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._barren)
        self._not_before_s = time.monotonic() + pause_s
        if self._barren >= max(_MOST_BARREN, 2 * self.num_workers):
            self._barren = 0
            self._tell(GaveUp(words, stacks))

    def _new_oom_kills(self) -> int:
        before, self._oom_kills = self._oom_kills, count_oom_kills()
        return (self._oom_kills or 0) - (before or 0) if before is not None else 0
