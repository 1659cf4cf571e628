"""``lightning-fastdata tune``: the fewest workers that keep training fed, found by trying."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from lightning_fastdata.autotune import tune_with
from lightning_fastdata.autotune.source import source_of
from lightning_fastdata.checkup.locate import build, locate
from lightning_fastdata.checkup.user_code import call_user, one_line
from lightning_fastdata.cli.quiet import quiet
from lightning_fastdata.cli.tune_arguments import ForgetOptions, TuneOptions
from lightning_fastdata.cli.writable import check_writable
from lightning_fastdata.errors import DatasetError, FastDataError
from lightning_fastdata.machine import facts as machine_facts
from lightning_fastdata.machine import read_machine
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.report.files import write_json
from lightning_fastdata.report.tuning import TuningReport, render_tuning
from lightning_fastdata.report.tuning_plot import check_matplotlib, write_plot
from lightning_fastdata.report.tuning_words import chosen_of, workers_words
from lightning_fastdata.report.units import percent, rate
from lightning_fastdata.trials import Findings, Trial
from lightning_fastdata.tuning.fingerprint import fingerprint
from lightning_fastdata.tuning.memory import PlanMemory
from lightning_fastdata.tuning.remembered import Remembered

DONE = 0
_PACKAGE = Path(__file__).resolve().parent.parent


def run_tune(options: TuneOptions) -> int:
    """Find the choice, print it, write the files that were asked for, and remember it.

    Returns:
        The exit status, which is 0.

    Raises:
        FastDataError: What was asked for cannot be found or done.
    """
    json_path = None
    if options.json not in (None, "-"):
        json_path = Path(str(options.json)).expanduser().absolute()
        check_writable("--json", json_path)
    if options.plot is not None:
        check_matplotlib()
        check_writable("--plot", options.plot.absolute())
    progress = _Progress()
    began_ns = time.perf_counter_ns()
    with quiet():
        # The model first: a file that is imported again for its sake would make classes anew, and
        # workers that are spawned look the dataset's class up by its name.
        model = None if options.model is None else _model_at(options.model)
        tuning = partial(
            tune_with,
            _source_at(options.target),
            batch_size=options.batch_size,
            step_time_s=options.step_time_s,
            model=model,
            budget_s=options.budget_s,
            max_stall_fraction=options.max_stall_fraction,
            exhaustive=options.is_exhaustive,
            local_world_size=options.local_world_size,
            on_trial=progress,
        )
        plan = _with_refusals(tuning, options.target)
    found = progress.findings
    report = TuningReport(
        target=options.target,
        plan=plan,
        max_stall_fraction=options.max_stall_fraction,
        took_ns=time.perf_counter_ns() - began_ns,
        is_remembered=options.is_kept and found is not None and _keep(options, plan, found),
        facts=_facts(options, found),
    )
    if options.json == "-":
        print(report.to_json())
    else:
        render_tuning(report)
    if json_path is not None:
        write_json(report, json_path)
        print(f"JSON: {json_path}", file=sys.stderr)
    if options.plot is not None:
        write_plot(plan, options.max_stall_fraction, options.plot.absolute())
        print(f"Plot: {options.plot.absolute()}", file=sys.stderr)
    return DONE


def run_forget(options: ForgetOptions) -> int:
    """Forget the choice for a target, or every choice, and say what was forgotten.

    Returns:
        The exit status, which is 0, also where nothing was remembered.

    Raises:
        FastDataError: The target cannot be found.
    """
    memory = PlanMemory()
    if options.target is None:
        count, of_what = memory.forget(), "of any dataset"
    else:
        with quiet():
            subject = source_of(_source_at(options.target), options.batch_size).subject
        count = memory.forget(fingerprint(subject.recipe.dataset), options.batch_size)
        of_what = f"of {options.target}"
        if options.batch_size is not None:
            of_what += f" in batches of {options.batch_size}"
    if count:
        print(f"Forgot {count} choice{'' if count == 1 else 's'} {of_what}.")
    else:
        print(f"Nothing is remembered {of_what}.")
    return DONE


class _Progress:
    """Says on standard error what each trial came to, and keeps what is known by then."""

    def __init__(self) -> None:
        self.findings: Findings | None = None

    def __call__(self, trial: Trial, findings: Findings) -> None:
        self.findings = findings
        stall = "" if findings.step is None else f"{percent(trial.stall_fraction)} stall, "
        told = f"{stall}{rate(trial.batches_per_s)} batches/s"
        print(f"Tried {workers_words(trial.num_workers)}: {told}", file=sys.stderr, flush=True)


def _with_refusals(tuning: Callable[[], LoaderPlan], target: str) -> LoaderPlan:
    """Say in a sentence what a dataset of the user's raised."""
    try:
        return tuning()
    except FastDataError:
        raise
    except Exception as error:
        innermost = traceback.extract_tb(error.__traceback__)[-1].filename
        # What a worker met has its traceback there as its cause.
        if error.__cause__ is None and _PACKAGE in Path(innermost).parents:
            raise  # a fault of ours
        notes = "".join(f" {note}" for note in getattr(error, "__notes__", ()))
        raise DatasetError(
            f"{target} met {one_line(error)}, wanted samples that can be made.{notes} "
            f"Run lightning-fastdata doctor {target}, which names every sample that cannot."
        ) from error


def _source_at(target: str) -> Any:
    found = locate(target)
    if isinstance(found, dict) and os.path.isdir(target):
        return found["train"]  # a folder with train/ and val/
    return build(found, target)


def _model_at(place: str) -> Any:
    found = locate(place)
    # build() would call a model that is there already, as any module of torch can be called.
    if isinstance(found, type) or not hasattr(found, "training_step"):
        return call_user(found, f"building {place}", "wanted it to work without arguments")
    return found


def _keep(options: TuneOptions, plan: LoaderPlan, found: Findings) -> bool:
    """Remember a choice for training; whether there was one.

    What gives the most batches a second is none: training may need far fewer workers.
    """
    if found.step is None:
        return False
    chosen = chosen_of(plan)
    remembered = Remembered(
        engine=plan.engine,
        num_workers=plan.num_workers,
        prefetch_batches=plan.prefetch_batches,
        stall_fraction=None if chosen is None else chosen.measured_stall_fraction,
        step_time_s=found.step.step_ns / 1e9,
        batch_bytes=None if found.facts is None else found.facts.batch_bytes,
        source="tune",
        saved_on=date.today().isoformat(),
    )
    memory = PlanMemory()
    memory.keep(found.key, remembered, f"{options.target} ({found.subject.name})")
    return memory.recall(found.key) == remembered


def _facts(options: TuneOptions, found: Findings | None) -> dict[str, Any]:
    """Give what was asked, measured and there, as plain values."""
    asked = {
        "batch_size": options.batch_size,
        "step_time_s": options.step_time_s,
        "model": options.model,
        "budget_s": None if options.is_exhaustive else options.budget_s,
        "is_exhaustive": options.is_exhaustive,
        "local_world_size": options.local_world_size,
    }
    measured: dict[str, Any] | None = None
    if found is not None:
        measured = {
            "batch_size": found.subject.samples_a_batch,
            "step": None if found.step is None else asdict(found.step),
            "probe": None if found.facts is None else asdict(found.facts),
            "trials": len(found.trials),
            "is_settled": found.is_settled,
        }
    machine = machine_facts(read_machine(os.environ, options.local_world_size))
    return {"asked": asked, "measured": measured, "machine": machine}
