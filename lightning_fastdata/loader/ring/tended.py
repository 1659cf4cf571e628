"""A nursery that is there when it is needed: started at first use, replaced when it has died."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

import cloudpickle  # type: ignore[import-untyped]  # it ships no types

from lightning_fastdata.errors import DatasetError, WorkerError
from lightning_fastdata.loader.make import Recipe
from lightning_fastdata.loader.ring.arena import dumps
from lightning_fastdata.loader.ring.failures import (
    nursery_words,
    timed_out,
)
from lightning_fastdata.loader.ring.launch import NurseryProcess
from lightning_fastdata.loader.ring.messages import Deadlocked, Failure, GoOn, Resize
from lightning_fastdata.loader.ring.process import without_interrupts
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.plan import StartMethod

MOST_FAILURES = 3  # guess: in a row, without a batch in between, before it is given up


class NurseryDiedError(Exception):
    """The nursery has died and was replaced by one that knows nothing of what was asked.

    Args:
        words: How it ended, for people.
    """


class TendedNursery:
    """The training process's line to its nursery.

    Args:
        recipe: What its workers make batches with.
        settings: How the ring is run.
        start_method: How the first one is started; a fork late in a run would copy held locks, so
            one that takes another's place is a fresh interpreter, where the recipe can be sent.
        timeout_s: How long to wait for a message; 0 is for ever.
    """

    def __init__(
        self,
        recipe: Recipe,
        settings: RingSettings,
        start_method: StartMethod,
        timeout_s: float,
    ) -> None:
        self._recipe, self._settings = recipe, settings
        self._first_method = self._start_method = start_method
        self._timeout_s = timeout_s
        self._process: NurseryProcess | None = None
        self._failures = 0

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not closed."""
        return self._process is not None

    @property
    def is_of_a_parent(self) -> bool:
        """Whether this process is a forked child, which only has a copy of its parent's line."""
        return self._process is not None and not self._process.is_of_this_process

    def start(self) -> None:
        """Start it, where it is not running."""
        if self._process is None:
            self._process = self._launched(self._start_method)

    def tell(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Send a message; if it has died meanwhile, that is heard where answers are waited for."""
        assert self._process is not None
        with suppress(ConnectionError):
            self._process.channel.send(message, descriptors)

    def hear(self) -> Any:
        """Wait for a message.

        Raises:
            NurseryDiedError: If another one has taken its place.
            WorkerError: If nothing came in time, or it died again and again.
        """
        assert self._process is not None
        try:
            message = self._process.channel.receive(self._timeout_s or None)[0]
        except TimeoutError:
            raise timed_out(self._timeout_s) from None
        except EOFError:
            self._replace_dead()
        if isinstance(message, Failure) and self._start_method != self._first_method:
            self._go_back_to_fork()
        return message

    def resize(self, num_workers: int) -> None:
        """Have this many workers from now on."""
        self._settings = replace(self._settings, num_workers=num_workers)
        if self._process is not None:
            self.tell(Resize(num_workers))

    def restart_afresh(self, news: Deadlocked) -> bool:
        """Let a fresh interpreter do what forked workers cannot; say whether it does.

        Where the recipe cannot be sent there, the nursery is told to make the best of it.
        """
        assert self._process is not None
        try:
            fresh = self._launched("spawn")
        except DatasetError:
            self.tell(GoOn())
            return False
        self._process.close()
        self._process = fresh
        return True

    def got_on(self) -> None:
        """A batch has come, so all is well."""
        self._failures = 0

    def count_failure(self, words: str) -> None:
        """Note a failure that was mended.

        Raises:
            WorkerError: If there were too many without a batch in between.
        """
        self._failures += 1
        if self._failures > MOST_FAILURES:
            raise WorkerError(
                f"{words}, the {self._failures}th failure without a batch in between, wanted it "
                "to go on. Its output above may say why; a new pass starts a new one."
            )

    def pickled(self, keys: Any) -> bytes:
        """Pickle keys of samples for the workers.

        A forked worker has the main module's classes, a fresh one has to be sent them.
        """
        pickle: Any = dumps if self._start_method == "fork" else cloudpickle.dumps
        made: bytes = pickle(keys)
        return made

    def close(self) -> None:
        """End it and its workers. May be called twice."""
        process, self._process = self._process, None
        if process is not None and process.is_of_this_process:
            process.close()

    def _replace_dead(self) -> NoReturn:
        assert self._process is not None
        dead, self._process = self._process, None
        words = nursery_words(dead.pid, dead.close())
        self.count_failure(words)
        try:
            self._process = self._launched("spawn")
        except DatasetError:
            self._process = self._launched(self._start_method)
        raise NurseryDiedError(words)

    def _go_back_to_fork(self) -> NoReturn:
        """A fresh interpreter could not take up what it was sent, though a forked one can."""
        assert self._process is not None
        pid, status = self._process.pid, self._process.close()
        self._process = None
        self._process = self._launched(self._first_method)
        raise NurseryDiedError(nursery_words(pid, status))

    def _launched(self, start_method: StartMethod) -> NurseryProcess:
        is_first = self._process is None and not self._failures
        settings = replace(self._settings, may_restart=is_first and start_method == "fork")
        with without_interrupts():
            process = NurseryProcess(self._recipe, settings, start_method)
        self._start_method = start_method
        return process
