"""``lightning-fastdata compare``: two runs side by side, and whether the second is worse."""

from lightning_fastdata.cli.report import find_summary, read_summary
from lightning_fastdata.cli.report_arguments import CompareOptions
from lightning_fastdata.report import compare_runs, show
from lightning_fastdata.report.words import origin_line
from lightning_fastdata.stalls import StallSummary

NOT_WORSE, WORSE = 0, 1


def run_compare(options: CompareOptions) -> int:
    """Print both runs and the verdict.

    Returns:
        The exit status: 0 where B is not worse, 1 where it is by more than is tolerated.

    Raises:
        SettingsError: A run has no report, or is too short to compare.
    """
    paths = (find_summary(options.before), find_summary(options.after))
    before, after = (read_summary(path) for path in paths)
    comparison = compare_runs(
        before,
        after,
        stall_tolerance=options.tolerance,
        rate_tolerance=options.rate_tolerance,
        lines=tuple(
            f"{name}: {path}{_origin(run)}"
            for name, path, run in zip("AB", paths, (before, after), strict=True)
        ),
    )
    show(comparison.table)
    return WORSE if comparison.is_worse else NOT_WORSE


def _origin(run: StallSummary) -> str:
    line = origin_line(run.run)
    return f" ({line})" if line else ""
