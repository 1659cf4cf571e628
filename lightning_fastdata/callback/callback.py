"""The door to Lightning's callbacks: says where a training run waits for data.

Every hook is one call; what is measured lives in ``trace/``, what it means in ``stalls/``.
Two kinds of Trainer come in here, and both add their attributes at run time: hence ``Any``.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytorch_lightning
from typing_extensions import override

from lightning_fastdata.callback.bad_samples import bad_samples_of
from lightning_fastdata.callback.limit import check_limit, hold_to_limit
from lightning_fastdata.callback.reporting import (
    REPORTS,
    Report,
    give_reports,
    summary_of_last_run,
)
from lightning_fastdata.callback.run import MeasuredRun
from lightning_fastdata.callback.watching import HostWatch, LoaderWatch, machine_facts
from lightning_fastdata.errors import SettingsError
from lightning_fastdata.report import say
from lightning_fastdata.stalls import StallSummary, conclude
from lightning_fastdata.trace import RunRecord

_logger = logging.getLogger(__name__)


class DataStallProfiler(  # type: ignore[misc]  # the same class, published twice
    lightning.pytorch.Callback, pytorch_lightning.Callback
):
    """Measure where a training run waits for data, with any loader, and report it at the end.

    It names the cause (``summary.findings``), the lines and samples to blame, one change to make,
    and the stall to expect after it. Make the change, run again with the same ``dirpath``, and the
    report sets the prediction beside what was measured.

    Works with the Trainers of ``lightning`` and ``pytorch_lightning``, beside your own profiler.
    It costs some tens of microseconds a step and never waits for the device while training runs.
    Validation, sanity checks, checkpoints and logging are never counted as waiting for data.

    Args:
        dirpath: Folder for the reports; ``None`` is ``stall_report`` in the trainer's log folder.
            Those of an earlier run in that folder are replaced.
        reports: What to give at the end: ``"terminal"`` prints, ``"json"`` writes
            ``summary.json``, ``"html"`` the page ``report.html``, ``"trace"`` the newest steps as
            ``trace.json`` for Perfetto or ``chrome://tracing``.
        log_every_n_steps: Every how many batches the stall since the last time goes to the
            trainer's loggers; 0 never.
        fail_above: Share (0 to 1) of a step that may be stall. Above it, ``fit`` ends with a
            ``StallLimitError`` after training and all reports are done, as a gate for tests of
            speed; ``None`` is no limit.

    Attributes:
        summary: What was measured, after training has ended; ``None`` before, or where a run was
            not measured (``Trainer(barebones=True)``, or a second ``DataStallProfiler``).

    Raises:
        SettingsError: An argument that cannot work.
        StallLimitError: At the end of ``fit``, above ``fail_above``.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        *,
        reports: Sequence[Report] = REPORTS,
        log_every_n_steps: int = 50,
        fail_above: float | None = None,
    ) -> None:
        _check(dirpath, reports, log_every_n_steps)
        check_limit(fail_above)
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.reports = tuple(reports)
        self.log_every_n_steps = log_every_n_steps
        self.fail_above = fail_above
        self.summary: StallSummary | None = None
        self._clock_ns: Callable[[], int] = time.perf_counter_ns
        self._run: MeasuredRun | None = None
        self._loaders, self._host = LoaderWatch(), HostWatch(_nothing_goes_on)
        self._folder: Path | None = None

    @override
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        if self._run is not None:  # another callback failed while the fit before this one ended
            self._run.take_out_of(trainer)
            self._loaders.take_out()
            self._host.stop()
            self._run = None
        self.summary = None
        first = next(each for each in trainer.callbacks if isinstance(each, DataStallProfiler))
        if first is not self:
            _logger.info("A second DataStallProfiler in one Trainer stays passive.")
        elif trainer.barebones:
            _say(trainer, "DataStallProfiler: Trainer(barebones=True) is not measured.")
        else:
            self._folder = self._choose_folder(trainer)
            run = self._run = MeasuredRun(self._clock_ns)
            run.put_into(trainer)
            self._loaders, self._host = LoaderWatch(), HostWatch(lambda: run.part_now)
            self._loaders.put_into(trainer)

    @override
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self._run is not None:
            self._run.begin(trainer)
            self._loaders.begin(trainer)
            self._host.start()

    @override
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if self._run is not None:
            self._run.validation_started()

    @override
    def on_train_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self._run is not None:
            self._run.step_ended(trainer, batch, self.log_every_n_steps)

    @override
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._run is not None:
            self.summary = self._concluded(self._run, trainer, wait=True)

    @override
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        was_measured = self._run is not None and not trainer.fast_dev_run
        # Of Lightning's Tuner: it calls fit only to try settings, and never trains.
        was_measured &= not any(getattr(each, "_early_exit", False) for each in trainer.callbacks)
        self._close(trainer)
        if was_measured and self.fail_above is not None:
            hold_to_limit(self.summary, self.fail_above)

    @override
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close(trainer)

    def _close(self, trainer: Any) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        run.take_out_of(trainer)
        if self.summary is None:
            # The run broke off, perhaps with the device: read only what has already arrived.
            self.summary = self._concluded(run, trainer, wait=False)
        self._loaders.take_out()
        self._host.stop()
        # Both know loaders and CUDA events, which are not to live as long as this callback.
        self._loaders, self._host = LoaderWatch(), HostWatch(_nothing_goes_on)
        if self.summary is not None and trainer.is_global_zero:
            give_reports(self.summary, run.record, reports=self.reports, folder=self._folder)

    def _concluded(self, run: MeasuredRun, trainer: Any, *, wait: bool) -> StallSummary | None:
        """What the run comes to; never ends it, and never hides that something failed."""
        summary = run.end(wait=wait)
        if summary is None or run.record is None:
            return summary
        try:
            self._host.stop()
            self._loaders.take_out()
            record: RunRecord = run.record
            record.loaders = self._loaders.records()
            record.stall.problem = record.stall.problem or self._loaders.problem
            record.machine = machine_facts(trainer.strategy.root_device)
            self._host.give_to(record)
            summary = conclude(record, before=summary_of_last_run(self._folder))
        except Exception as error:
            _logger.warning("DataStallProfiler: the causes were not looked for (%r).", error)
            summary = replace(summary, problem=summary.problem or f"no causes ({error!r})")
        return _with_bad_samples(summary, trainer)

    def _choose_folder(self, trainer: Any) -> Path | None:
        if not {"json", "html", "trace"} & set(self.reports) or trainer.fast_dev_run:
            return None
        folder = self.dirpath
        if folder is None:
            # Asked for here, on every rank: reading log_dir is a broadcast.
            root = str(trainer.log_dir or trainer.default_root_dir)
            if "://" in root:
                _say(trainer, f"No stall report file: {root} is not a local folder. Pass dirpath.")
                return None
            folder = Path(root) / "stall_report"
        return folder.absolute()  # training may change the working folder


def _nothing_goes_on() -> None:
    """A name, not a lambda: what is started by spawn has to be pickled, callbacks and all."""


def _check(dirpath: Any, reports: Any, log_every_n_steps: Any) -> None:
    if dirpath is not None and not isinstance(dirpath, (str, os.PathLike)):
        raise SettingsError(
            f"dirpath is {dirpath!r}, but a folder is wanted. Pass a str, a Path, or None."
        )
    if isinstance(dirpath, str) and "://" in dirpath:
        raise SettingsError(
            f"dirpath is {dirpath!r}, but a folder on this machine is wanted. Pass one, and copy "
            "the reports from there."
        )
    if isinstance(reports, str) or not isinstance(reports, Sequence):
        raise SettingsError(
            f"reports is {reports!r}, but a sequence of names is wanted. "
            f"Choose from {REPORTS}, for example reports=('json',)."
        )
    unknown = [report for report in reports if report not in REPORTS]
    if unknown:
        raise SettingsError(
            f"reports has {unknown[0]!r}, but only {REPORTS} can be given. Leave it out."
        )
    is_count = isinstance(log_every_n_steps, int) and not isinstance(log_every_n_steps, bool)
    if not is_count or log_every_n_steps < 0:
        raise SettingsError(
            f"log_every_n_steps is {log_every_n_steps!r}, but a whole number from 0 is wanted. "
            "Pass 50 to log every fifty batches, or 0 to log nothing."
        )


def _with_bad_samples(summary: StallSummary, trainer: Any) -> StallSummary:
    try:
        return replace(summary, bad_samples=bad_samples_of(trainer))
    except Exception as error:  # of a loader that is not ours
        _logger.warning("The bad samples could not be listed (%r).", error)
        return summary


def _say(trainer: Any, line: str) -> None:
    if trainer.is_global_zero:
        say(line)
