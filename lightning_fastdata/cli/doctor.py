"""``lightning-fastdata doctor``: what would break or slow down a run, here and in a dataset."""

import sys
from pathlib import Path

from lightning_fastdata.checkup import doctor
from lightning_fastdata.cli.doctor_arguments import DoctorOptions
from lightning_fastdata.cli.quiet import quiet
from lightning_fastdata.cli.writable import check_writable
from lightning_fastdata.report.doctor import render_doctor
from lightning_fastdata.report.files import write_json

HEALTHY, UNHEALTHY = 0, 1


def run_doctor(options: DoctorOptions) -> int:
    """Look, print what was found, and write the JSON.

    Returns:
        The exit status: 0 is healthy; 1 is not, for errors, and with ``strict`` for warnings too.

    Raises:
        FastDataError: What was asked for cannot be found or done.
    """
    path = None if options.json in (None, "-") else Path(options.json).expanduser().absolute()
    if path is not None:
        check_writable("--json", path)
    with quiet():
        report = doctor(
            options.data,
            batch_size=options.batch_size,
            num_workers="auto" if options.num_workers is None else options.num_workers,
            max_samples=options.max_samples,
            timeout_s="auto" if options.timeout_s is None else options.timeout_s,
        )
    if options.json == "-":
        print(report.to_json())
    else:
        render_doctor(report)
    if path is not None:
        write_json(report, path)
        print(f"JSON: {path}", file=sys.stderr)
    fails = not report.is_healthy or (options.strict and report.has_warnings)
    return UNHEALTHY if fails else HEALTHY
