"""The check-up: the machine first, then each dataset."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Literal

import torch
from tqdm import tqdm  # type: ignore[import-untyped]  # tqdm ships no types

from lightning_fastdata.checkup.again import make_again
from lightning_fastdata.checkup.cuda import NO_GPU, ask_cuda, check_cuda, may_have_gpu
from lightning_fastdata.checkup.dataset_checks import (
    check_batch_memory,
    check_repeats,
    check_samples,
    check_shapes,
    check_times,
)
from lightning_fastdata.checkup.hazard_checks import check_hazards
from lightning_fastdata.checkup.locate import locate
from lightning_fastdata.checkup.machine_checks import check_machine
from lightning_fastdata.checkup.result import Check, DoctorReport
from lightning_fastdata.checkup.subjects import Subject, subjects_of
from lightning_fastdata.checkup.user_code import one_line
from lightning_fastdata.checkup.versions import check_versions, installed_versions
from lightning_fastdata.checkup.walk import STREAM_SAMPLES, WalkSettings, walk
from lightning_fastdata.errors import FastDataError, SettingsError
from lightning_fastdata.loader.check import check_batches, check_workers
from lightning_fastdata.loader.serves import ring_problem, start_method_of
from lightning_fastdata.machine import Machine, facts, read_machine, whole_cores
from lightning_fastdata.machine.limits import read_limits
from lightning_fastdata.machine.oom import count_oom_kills


def doctor(
    dataset_or_loader_or_datamodule: Any = None,
    *,
    batch_size: int = 32,
    num_workers: int | Literal["auto"] = "auto",
    max_samples: int | None = None,
    timeout_s: float | Literal["auto"] | None = "auto",
    progress: bool | None = None,
) -> DoctorReport:
    """Look for what would break or slow down a run: in this machine, and in a dataset.

    Every sample is made once in worker processes. Bad ones are listed, and nothing is changed.

    Args:
        dataset_or_loader_or_datamodule: A dataset, a loader, a data module (its training datasets
            are taken), a function that builds one of them, a list or dict of these, a folder of
            pictures, or a text such as ``"package.module:name"`` or ``"file.py:name"``. ``None``
            looks at the machine only.
        batch_size: Samples a batch, where a loader does not say.
        num_workers: Worker processes that make the samples; ``"auto"`` is one a core; 0 is this
            process, where a sample that hangs is waited for.
        max_samples: Samples to look at in each dataset, taken from all over it; ``None`` is all,
            and the first thousand of a stream.
        timeout_s: Seconds that a sample may take before it is said that it hangs; ``"auto"`` is far
            more than the slowest one seen, and 60 or more; ``None`` waits for ever.
        progress: Whether to show a bar; ``None`` shows it on a terminal.

    Returns:
        What was found, and what to do about it.

    Raises:
        DatasetError: What was given cannot be found or built, or has no samples.
        SettingsError: An argument that cannot work.
    """
    check_workers(num_workers)
    check_batches(None, batch_size, drop_last=False)
    _check_numbers(max_samples, timeout_s)
    source = dataset_or_loader_or_datamodule
    if isinstance(source, (str, os.PathLike)):
        source = locate(os.fspath(source))
    subjects = [] if source is None else subjects_of(source, batch_size)
    machine = read_machine(os.environ)
    checks, found = _look_at_machine(machine)
    settings = WalkSettings(
        num_workers=whole_cores(machine.cores) if num_workers == "auto" else num_workers,
        timeout_s=timeout_s,
        max_samples=max_samples,
    )
    reports = [_look_at(subject, settings, machine, progress) for subject in subjects]
    return DoctorReport(
        checks=(*checks, *(check for report in reports for check in report.checks)),
        bad_samples=tuple(one for report in reports for one in report.bad_samples),
        outliers=tuple(one for report in reports for one in report.outliers),
        slowest=tuple(one for report in reports for one in report.slowest),
        facts={**found, "datasets": [dict(report.facts) for report in reports]},
    )


def _check_numbers(max_samples: int | None, timeout_s: float | str | None) -> None:
    if max_samples is not None and (not isinstance(max_samples, int) or max_samples < 1):
        raise SettingsError(
            f"max_samples={max_samples!r}, wanted a whole number of 1 or more. Leave it out for "
            "all samples."
        )
    if timeout_s not in ("auto", None) and (isinstance(timeout_s, str) or timeout_s <= 0):
        raise SettingsError(
            f"timeout_s={timeout_s!r}, wanted a number of seconds above 0, or None to wait for "
            'ever. Leave it out for "auto".'
        )


def _look_at_machine(machine: Machine) -> tuple[list[Check], dict[str, Any]]:
    limits, versions, oom_kills = read_limits(), installed_versions(), count_oom_kills()
    start_method = start_method_of(None)
    checks = check_machine(
        machine,
        limits,
        oom_kills=oom_kills,
        ring_problem=ring_problem(),
        start_method=start_method,
        threads=threading.active_count(),
    )
    built_for = torch.version.cuda or torch.version.hip
    answer = ask_cuda() if built_for and may_have_gpu() else {**NO_GPU, "built_for": built_for}
    checks += [check_cuda(answer, machine.accelerators), *check_versions(versions)]
    found = {
        "machine": facts(machine),
        "limits": None if limits is None else asdict(limits),
        "oom_kills": oom_kills,
        "start_method": start_method,
        "gpu": answer,
        "versions": versions,
    }
    return checks, found


def _look_at(
    subject: Subject, settings: WalkSettings, machine: Machine, progress: bool | None
) -> DoctorReport:
    samples = STREAM_SAMPLES if subject.length is None else subject.length
    if settings.max_samples is not None:
        samples = min(samples, settings.max_samples)
    hazards = check_hazards(subject, start_method_of(None))  # first: making samples may open files
    if any(check.level == "error" for check in hazards):
        settings = replace(settings, num_workers=0)  # it cannot be sent to workers, as it says
    with _bar(f"{subject.name}: samples", samples, progress) as advance:
        tally, stopped = walk(subject, settings, advance)
    repeats = None
    if subject.length is not None and stopped is None:
        with _bar(f"{subject.name}: again", None, progress) as advance:
            try:
                repeats = make_again(
                    subject,
                    settings,
                    bad=set(tally.bad),
                    sample_ns=tally.median_ns,
                    advance=advance,
                )
            except FastDataError as error:  # of workers, or a sample that was made before
                stopped = one_line(error)
    outliers, slowest = tally.outliers(subject), tally.slowest(subject)
    return DoctorReport(
        checks=(
            *hazards,
            *check_samples(subject, tally, stopped),
            *check_shapes(subject, tally, outliers),
            *check_times(subject, tally, slowest),
            *check_batch_memory(subject, tally, machine),
            *check_repeats(subject, repeats),
        ),
        bad_samples=tuple(tally.bad_samples(subject)),
        outliers=tuple(outliers),
        slowest=tuple(slowest),
        facts={
            "name": subject.name,
            "kind": type(subject.dataset).__name__,
            "length": subject.length,
            "samples_looked_at": tally.samples,
            "sample": tally.usual,
            "largest_sample_bytes": tally.sample_bytes,
            "median_sample_ns": tally.median_ns,
            "made_again": None if repeats is None else asdict(repeats),
        },
    )


@contextmanager
def _bar(title: str, total: int | None, progress: bool | None) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; without a wish, only on a terminal."""
    hidden = None if progress is None else not progress
    with tqdm(total=total, desc=title, unit=" samples", leave=False, disable=hidden) as bar:
        yield bar.update
