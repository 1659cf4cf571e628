"""Several runs side by side."""

from collections.abc import Callable, Mapping, Sequence

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.report.table import ReportTable
from lightning_fastdata.report.units import NOT_MEASURED, duration, percent, rate, step_ms
from lightning_fastdata.stalls import StallSummary

_ROWS: tuple[tuple[str, Callable[[StallSummary], str]], ...] = (
    ("samples/s", lambda run: rate(run.samples_per_s)),
    ("stall", lambda run: percent(run.stall_fraction)),
    ("ms/step", lambda run: step_ms(run.wall_ns, run.steps)),
    ("  waiting for data", lambda run: step_ms(run.exposed_stall_ns, run.steps)),
    ("  transfer", lambda run: step_ms(run.transfer_ns, run.steps)),
    ("  compute", lambda run: step_ms(run.compute_ns, run.steps)),
    ("  other host work", lambda run: step_ms(run.other_host_ns, run.steps)),
    ("first batch", lambda run: duration(run.first_batch_ns)),
)


def compare_table(
    runs: Mapping[str, StallSummary],
    *,
    extra_rows: Mapping[str, Sequence[str | int | float | None]] | None = None,
    title: str = "Runs side by side",
) -> ReportTable:
    """Set runs side by side: a column for each run, a row for each figure.

    Args:
        runs: Name of the run to its summary, in the order of the columns.
        extra_rows: Name of a further row to its cells, one for each run; ``None`` is not measured.
        title: Stands above the table.

    Returns:
        A table to ``print`` (plain) or to hand to a rich console (drawn).

    Raises:
        SettingsError: There is no run, or an extra row has not one cell for each run.
    """
    if not runs:
        raise SettingsError("runs is empty, but a comparison needs a run. Pass {name: summary}.")
    rows = [(name, *(cell(run) for run in runs.values())) for name, cell in _ROWS]
    for name, cells in (extra_rows or {}).items():
        if len(cells) != len(runs):
            raise SettingsError(
                f"extra row {name!r} has {len(cells)} cells, but there are {len(runs)} runs. "
                "Give one cell for each run, None where nothing was measured."
            )
        rows.append((name, *(_cell(cell) for cell in cells)))
    return ReportTable(title=title, columns=("", *runs), rows=tuple(rows))


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return NOT_MEASURED
    return f"{value:.2f}" if isinstance(value, float) else str(value)
