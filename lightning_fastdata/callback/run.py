"""The measuring of one ``fit``, kept apart from the hooks that drive it.

Two kinds of Trainer come in here, and both add their attributes at run time: hence ``Any``.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from lightning_fastdata.callback.loggers import LoggerClock
from lightning_fastdata.callback.profiler import ListeningProfiler
from lightning_fastdata.callback.ranks import RankExchange, exchange_between_ranks_of
from lightning_fastdata.callback.watching import script_of
from lightning_fastdata.report import logger_metrics
from lightning_fastdata.stalls import StallSummary, summarise
from lightning_fastdata.trace import (
    CudaEvents,
    LoaderOpening,
    Part,
    RunRecord,
    SampleCounter,
    StallTrace,
    StallWindow,
    StepRecorder,
)

_RANKS_EVERY_STEPS = 50
"""Every how many steps ranks tell each other their figures where nothing is logged."""
READ_AT_ONCE = 16  # steps, of at most 64 that may be unread
_SETTINGS = (
    "max_epochs",
    "max_steps",
    "val_check_interval",
    "check_val_every_n_epoch",
    "accumulate_grad_batches",
    "reload_dataloaders_every_n_epochs",
    "log_every_n_steps",
    "num_nodes",
    "precision",
)

_logger = logging.getLogger(__name__)


class MeasuredRun:
    """The measuring of one ``fit``: hears profiler actions, and lets no failure of its own out.

    Attributes:
        record: Everything recorded, from ``begin`` on; ``None`` before, and where that failed.
    """

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._profiler: ListeningProfiler | None = None
        self.hears_all = True
        self.hears: frozenset[str] = frozenset()
        self._opening: LoaderOpening | None = LoaderOpening(clock_ns, loader_is_new=True)
        self._opened_ns: int | None = None
        self.record: RunRecord | None = None
        self._loggers = LoggerClock(self._aside_started, self._aside_stopped)
        self._ranks: RankExchange | None = None
        self._recorder: StepRecorder | None = None
        self._samples = SampleCounter(None)
        self._has_one_loader = True
        self._on_start: dict[str, Callable[[], None]] = {}
        self._on_stop: dict[str, Callable[[], None]] = {}
        self._problem: str | None = None
        self._logs = True

    @property
    def part_now(self) -> Part | None:
        """What is going on in a step that is recorded, else ``None``; from any thread."""
        return None if self._recorder is None else self._recorder.part_now

    def put_into(self, trainer: Any) -> None:
        """Listen in front of the user's profiler, which goes on as before."""
        self._profiler = ListeningProfiler(trainer.profiler, self)
        trainer.profiler = self._profiler

    def take_out_of(self, trainer: Any) -> None:
        """Give the user's profiler its place back, unless somebody else has taken the place."""
        self._hear_no_more()
        if self._profiler is not None and trainer.profiler is self._profiler:
            trainer.profiler = self._profiler.wrapped
        self._profiler = None

    def begin(self, trainer: Any) -> None:
        """Record from here on."""
        try:
            self._record(trainer)
        except Exception as error:
            self._give_up(error)
        try:
            self._ranks = exchange_between_ranks_of(trainer)
        except Exception as error:
            self._note(f"ranks could not be compared ({error!r})")

    def started(self, action: str) -> None:
        """Take note that a profiler action has started."""
        try:
            if self._opening is not None and self._opening.started(action):
                self._opened_ns, self._opening = self._opening.elapsed_ns(), None
                self.hears_all = False
                if self._recorder is not None:
                    self._recorder.loader_opened(self._opened_ns)
            mark = self._on_start.get(action)
            if mark is not None:
                mark()
        except Exception as error:
            self._give_up(error)

    def stopped(self, action: str) -> None:
        """Take note that a profiler action is stopping."""
        try:
            if self._opening is not None:
                self._opening.stopped(action)
            mark = self._on_stop.get(action)
            if mark is not None:
                mark()
        except Exception as error:
            self._give_up(error)

    def validation_started(self) -> None:
        """Take note that the time since the last step belongs to validation."""
        try:
            if self._recorder is not None and self._on_start:
                self._recorder.validation_started()
        except Exception as error:
            self._give_up(error)

    def step_ended(self, trainer: Any, batch: Any, log_every_n_steps: int) -> None:
        """Keep the step that has just run, and log now and then."""
        if self._recorder is None or self.record is None or not self._on_start:
            return
        try:
            self._recorder.commit(self._samples.count(batch) if self._has_one_loader else None)
            if self.record.stall.steps_seen % (log_every_n_steps or _RANKS_EVERY_STEPS):
                return
            self._recorder.read()
        except Exception as error:
            self._give_up(error)
            return
        window = self.record.stall.take_window()
        self._tell_ranks(window)
        if log_every_n_steps and self._logs:
            self._log(trainer, window)

    def end(self, *, wait: bool) -> StallSummary | None:
        """Stop recording and say what was measured; ``None`` where recording never began."""
        self._hear_no_more()
        if self.record is None or self._recorder is None:
            return None
        try:
            self._recorder.finish(wait=wait)
        except Exception as error:
            self._give_up(error)
        self._tell_ranks(self.record.stall.take_window(), is_last=True, wait=wait)
        self.record.stall.problem = self._problem
        return summarise(self.record.stall)

    def _record(self, trainer: Any) -> None:
        device = trainer.strategy.root_device
        on_cuda = device.type == "cuda"
        trace = StallTrace(clock="cuda" if on_cuda else "host", device_type=device.type)
        self.record = RunRecord(
            stall=trace,
            rank=trainer.global_rank,
            settings=_settings_of(trainer),
            started_at=datetime.now().astimezone().isoformat(timespec="seconds"),
            script=script_of(sys.argv),
        )
        recorder = self._recorder = StepRecorder(
            trace,
            clock_ns=self._clock_ns,
            events=CudaEvents(device) if on_cuda else None,
            at_once=READ_AT_ONCE,
        )
        recorder.loader_opened(self._opened_ns)
        loader = trainer.train_dataloader
        self._has_one_loader = not isinstance(loader, (Mapping, list, tuple))
        batch_size = getattr(loader, "batch_size", None)
        self._samples = SampleCounter(batch_size if isinstance(batch_size, int) else None)
        loop = type(trainer.fit_loop.epoch_loop).__name__
        fetch = f"[{loop}].train_dataloader_next"
        transfer = f"[Strategy]{type(trainer.strategy).__name__}.batch_to_device"
        module = type(trainer.lightning_module).__name__
        self._on_start = {
            # Before the validation loaders are made; not where gradients are being accumulated.
            f"[LightningModule]{module}.on_validation_model_zero_grad": recorder.validation_comes,
            "run_training_epoch": recorder.epoch_started,
            fetch: recorder.fetch_started,
            transfer: recorder.transfer_started,
            "run_training_batch": recorder.step_started,
        }
        self._on_stop = {
            "run_training_epoch": self._epoch_stopped,
            fetch: recorder.fetch_stopped,
            transfer: recorder.transfer_stopped,
            "run_training_batch": recorder.step_stopped,
        }
        self.hears = frozenset(self._on_start)
        self._loggers.put_into(trainer)

    def _epoch_stopped(self) -> None:
        if self._recorder is not None:
            self._recorder.epoch_stopped()
        # Until the next epoch its loader may be made anew (reload_dataloaders_every_n_epochs).
        self._opening = LoaderOpening(self._clock_ns, loader_is_new=False)
        self.hears_all = True

    def _aside_started(self, part: Part) -> None:
        try:
            if self._recorder is not None and self._on_start:
                self._recorder.aside_started(part)
        except Exception as error:
            self._give_up(error)

    def _aside_stopped(self) -> None:
        try:
            if self._recorder is not None and self._on_start:
                self._recorder.aside_stopped()
        except Exception as error:
            self._give_up(error)

    def _hear_no_more(self) -> None:
        self.hears_all, self.hears = False, frozenset()
        self._on_start, self._on_stop, self._opening = {}, {}, None
        self._loggers.put_back()

    def _tell_ranks(
        self, window: StallWindow, *, is_last: bool = False, wait: bool = False
    ) -> None:
        if self._ranks is None or self.record is None:
            return
        try:
            if window.steps or not is_last:
                self._ranks.show(window)
            if is_last:
                self._ranks.finish(wait=wait)
            self.record.ranks = self._ranks.intervals
        except Exception as error:
            self._ranks = None
            self._note(f"ranks could not be compared ({error!r})")

    def _log(self, trainer: Any, window: StallWindow) -> None:
        try:
            ranks = [] if self._ranks is None else self._ranks.newest
            metrics = logger_metrics(window, ranks)
            if metrics and trainer.is_global_zero:
                # The x-axis that Lightning's own callbacks use, so that curves lie over each other.
                step = trainer.fit_loop.epoch_loop._batches_that_stepped
                for logger in trainer.loggers:
                    logger.log_metrics(metrics, step=step)
        except Exception as error:
            self._logs = False
            self._note(f"metrics could not be logged ({error!r})")

    def _give_up(self, error: Exception) -> None:
        self._hear_no_more()
        self._note(f"measuring stopped early ({error!r})")

    def _note(self, problem: str) -> None:
        if self._problem is None:
            self._problem = problem
            # Not warnings.warn: where warnings are errors, that would end the run.
            _logger.warning("DataStallProfiler: %s. Training goes on.", problem)


def _settings_of(trainer: Any) -> dict[str, str | int | float | bool | None]:
    found = {name: getattr(trainer, name, None) for name in _SETTINGS}
    found["devices"] = trainer.num_devices
    found["strategy"] = type(trainer.strategy).__name__
    return {
        name: value if value is None or isinstance(value, (str, int, float)) else str(value)
        for name, value in found.items()
    }
