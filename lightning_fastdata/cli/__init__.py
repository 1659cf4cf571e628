"""The command line: ``lightning-fastdata demo``, ``doctor``, ``tune``, ``report``, ``compare``."""

import argparse
import sys
from collections.abc import Sequence

from lightning_fastdata.cli.arguments import build_parser, demo_options
from lightning_fastdata.cli.doctor_arguments import doctor_options
from lightning_fastdata.cli.report_arguments import compare_options, report_options
from lightning_fastdata.cli.tune_arguments import ForgetOptions, tune_options
from lightning_fastdata.errors import FastDataError

__all__ = ["main"]

_FAILED = 2
_INTERRUPTED = 130  # what a shell gives a program that ctrl-C has ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments after the program's name; ``None`` is those of this process.

    Returns:
        The exit status: 0, 1 where the doctor found something wrong or a compared run is worse, 2
        where something was refused or could not be done (said in one sentence on standard error),
        130 after ctrl-C.

    Raises:
        SystemExit: After ``--help`` and ``--version``, as argparse does it.
    """
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help()
            return 0
        # Below, not above: torch and Lightning take seconds, which --help need not.
        if arguments.command == "doctor":
            from lightning_fastdata.cli.doctor import run_doctor

            return run_doctor(doctor_options(arguments))
        if arguments.command == "tune":
            return _tune(arguments)
        if arguments.command == "report":
            from lightning_fastdata.cli.report import run_report

            return run_report(report_options(arguments))
        if arguments.command == "compare":
            from lightning_fastdata.cli.compare import run_compare

            return run_compare(compare_options(arguments))
        options = demo_options(arguments)
        from lightning_fastdata.cli.demo import run_demo

        run_demo(options)
    except FastDataError as error:
        print(f"lightning-fastdata: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        print("\nlightning-fastdata: interrupted.", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _tune(arguments: argparse.Namespace) -> int:
    asked = tune_options(arguments)  # refuses before torch is imported
    from lightning_fastdata.cli.tune import run_forget, run_tune

    return run_forget(asked) if isinstance(asked, ForgetOptions) else run_tune(asked)
