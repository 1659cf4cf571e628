"""How long the training loader took to open, before any hook of the training loop has run.

Lightning makes the loader, starts its workers and (where it has no length) fetches its first batch
before ``on_train_start``, so no hook surrounds that time. The names of the actions around it do.
"""

from collections.abc import Callable

_ENDS_OPENING = (".on_train_start", ".on_train_epoch_start")


class LoaderOpening:
    """Listens to the names of all profiler actions until the training loop begins."""

    def __init__(self, clock_ns: Callable[[], int], *, loader_is_new: bool) -> None:
        self._clock_ns = clock_ns
        self._loader_is_new = loader_is_new
        self._depth = 0
        self._began_ns: int | None = None
        self._began_inside_hook = False
        self._last_action_ns: int | None = None
        self._opened_in_hooks_ns = 0
        self._is_trial = False
        self._was_opened_by_trial = False

    def started(self, action: str) -> bool:
        """Take note that ``action`` starts; true when the training loop begins with it."""
        if self._depth == 0 and action.endswith(_ENDS_OPENING):
            return True
        if action.endswith("train_dataloader") and self._began_ns is None:
            self._began_ns = self._clock_ns()
            self._began_inside_hook = self._depth > 0
        self._is_trial |= action == "run_training_epoch"
        self._depth += 1
        return False

    def stopped(self, action: str) -> None:
        """Take note that ``action`` has stopped."""
        if self._depth == 0:
            return  # it had started before anybody listened
        self._depth -= 1
        if self._depth != 0 or action.endswith("_dataloader"):
            return
        self._last_action_ns = now_ns = self._clock_ns()
        if self._began_ns is not None and self._began_inside_hook:
            # ``trainer.estimated_stepping_batches`` opens it inside ``configure_optimizers``.
            self._opened_in_hooks_ns += now_ns - self._began_ns
            self._began_ns = None
        # The batch-size finder trains inside a hook, and the loader that it opened last is kept.
        self._was_opened_by_trial |= self._is_trial

    def elapsed_ns(self) -> int | None:
        """From the first request for the training loader until now; ``None`` where not seen."""
        if self._was_opened_by_trial:
            return None
        began_ns = self._began_ns
        if began_ns is None and self._loader_is_new:
            # A loader handed to fit() is asked for without an action: it follows the last one.
            began_ns = self._last_action_ns
            if began_ns is None:
                return None
        return self._opened_in_hooks_ns + (0 if began_ns is None else self._clock_ns() - began_ns)
