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
from typing import Any, Literal, TypeAlias

import lightning.pytorch
import pytorch_lightning
from typing_extensions import override

from lightning_fastdata.callback.bad_samples import bad_samples_of
from lightning_fastdata.callback.run import MeasuredRun
from lightning_fastdata.errors import SettingsError
from lightning_fastdata.report import render_terminal, say, write_json
from lightning_fastdata.stalls import StallSummary

Report: TypeAlias = Literal["terminal", "json"]
_REPORTS: tuple[Report, ...] = ("terminal", "json")

_logger = logging.getLogger(__name__)


class DataStallProfiler(  # type: ignore[misc]  # the same class, published twice
    lightning.pytorch.Callback, pytorch_lightning.Callback
):
    """Measure where a training run waits for data, with any loader, and report it at the end.

    Works with the Trainers of ``lightning`` and ``pytorch_lightning``, beside your own profiler.
    It costs some ten microseconds a step and never waits for the device while training runs.
    Validation, sanity checks, checkpoints and logging are never counted as waiting for data.

    Args:
        dirpath: Folder for the JSON report, ``summary.json``; ``None`` is ``stall_report`` in the
            trainer's log folder. The report of an earlier run in that folder is replaced.
        reports: What to give at the end: ``"terminal"`` prints a table, ``"json"`` writes a
            file.
        log_every_n_steps: Every how many batches the stall since the last time goes to the
            trainer's loggers; 0 never.

    Attributes:
        summary: What was measured, after training has ended; ``None`` before, or where a run was
            not measured (``Trainer(barebones=True)``, or a second ``DataStallProfiler``).

    Raises:
        SettingsError: An argument that cannot work.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        *,
        reports: Sequence[Report] = _REPORTS,
        log_every_n_steps: int = 50,
    ) -> None:
        _check(dirpath, reports, log_every_n_steps)
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.reports = tuple(reports)
        self.log_every_n_steps = log_every_n_steps
        self.summary: StallSummary | None = None
        self._clock_ns: Callable[[], int] = time.perf_counter_ns
        self._run: MeasuredRun | None = None
        self._json_path: Path | None = None

    @override
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        self.summary = None
        first = next(each for each in trainer.callbacks if isinstance(each, DataStallProfiler))
        if first is not self:
            _logger.info("A second DataStallProfiler in one Trainer stays passive.")
        elif trainer.barebones:
            _say(trainer, "DataStallProfiler: Trainer(barebones=True) is not measured.")
        else:
            self._json_path = self._choose_json_path(trainer)
            self._run = MeasuredRun(self._clock_ns)
            self._run.put_into(trainer)

    @override
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self._run is not None:
            self._run.begin(trainer)

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
            self.summary = self._run.end(wait=True)

    @override
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._close(trainer)

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
            self.summary = run.end(wait=False)
        if self.summary is not None:
            self.summary = _with_bad_samples(self.summary, trainer)
        if self.summary is not None and trainer.is_global_zero:
            self._give_reports(self.summary)

    def _choose_json_path(self, trainer: Any) -> Path | None:
        if "json" not in self.reports or trainer.fast_dev_run:
            return None
        folder = self.dirpath
        if folder is None:
            # Asked for here, on every rank: reading log_dir is a broadcast.
            root = str(trainer.log_dir or trainer.default_root_dir)
            if "://" in root:
                _say(trainer, f"No stall report file: {root} is not a local folder. Pass dirpath.")
                return None
            folder = Path(root) / "stall_report"
        return folder / "summary.json"

    def _give_reports(self, summary: StallSummary) -> None:
        try:
            if "terminal" in self.reports:
                render_terminal(summary)
            if self._json_path is not None:
                write_json(summary, self._json_path)
                say(f"Stall report: {self._json_path}")
        except Exception as error:
            _logger.warning(
                "The stall report could not be given (%r). Pass another dirpath.", error
            )


def _check(dirpath: Any, reports: Any, log_every_n_steps: Any) -> None:
    if dirpath is not None and not isinstance(dirpath, (str, os.PathLike)):
        raise SettingsError(
            f"dirpath is {dirpath!r}, but a folder is wanted. Pass a str, a Path, or None."
        )
    if isinstance(reports, str) or not isinstance(reports, Sequence):
        raise SettingsError(
            f"reports is {reports!r}, but a sequence of names is wanted. "
            f"Choose from {_REPORTS}, for example reports=('json',)."
        )
    unknown = [report for report in reports if report not in _REPORTS]
    if unknown:
        raise SettingsError(
            f"reports has {unknown[0]!r}, but only {_REPORTS} can be given. Leave it out."
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
