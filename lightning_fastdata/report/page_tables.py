"""The tables of the report's page, as cells of text. A table without rows is left out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from lightning_fastdata.report.changes_text import CHANGE_COLUMNS, WHY_LENGTH, change_cells
from lightning_fastdata.report.units import NOT_MEASURED, duration, percent, size
from lightning_fastdata.report.words import PARTS, place, printable
from lightning_fastdata.stalls import LineShare, RankFigures, StallSummary, WorkerFigures

_ROWS_SHOWN = 64  # guess: the JSON has all
_PATH_SHOWN = 600
_LEAST_FRACTION = 0.01  # guess: of a step; less is not worth a look


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A table with a heading."""

    key: str
    """Its place in the page."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)
    """Which columns are words and stand left; the others are figures and stand right."""
    code: tuple[int, ...] = ()
    """Which columns are code or paths."""
    note: str = ""
    bars: int | None = None
    """The column of percentages that is drawn as well."""
    wraps: bool = False
    """Whether what stands right may be broken over lines, since it holds names."""


def tables_of(summary: StallSummary) -> dict[str, Grid]:
    """Return every table that has rows, by its key."""
    makers = (
        _workers,
        _worker_changes,
        _stages,
        _worker_lines,
        _host_lines,
        _slow_samples,
        _epochs,
        _ranks,
        _loaders,
        _settings,
        _machine,
        _bad_samples,
    )
    grids = (make(summary) for make in makers)
    return {grid.key: grid for grid in grids if grid.rows}


def _workers(summary: StallSummary) -> Grid:
    rows = () if summary.workers is None else _worker_rows(summary.workers)
    return Grid(key="workers", title="What the workers did", columns=("", ""), rows=rows)


def _worker_rows(workers: WorkerFigures) -> tuple[tuple[str, str], ...]:
    rows: list[tuple[str, str]] = [
        ("workers", str(workers.num_workers)),
        ("batches, samples", f"{workers.batches:,}, {workers.samples:,}"),
        ("busy", percent(workers.busy_fraction)),
        ("of their work computing", percent(workers.cpu_fraction)),
        ("of their work waiting for a core", percent(workers.core_wait_fraction)),
        ("batches ready when wanted", percent(workers.ready_fraction)),
        ("a sample, median", duration(workers.sample_p50_ns)),
        ("a sample, 1 in 100 over", duration(workers.sample_p99_ns)),
        ("a batch", size(workers.batch_bytes)),
        ("from worker to trainer, median", duration(workers.transit_p50_ns)),
        ("read from storage", size(workers.read_bytes)),
        ("read from memory (page cache)", size(workers.cached_bytes)),
        ("mapped pages read from storage", f"{workers.major_faults:,}"),
        ("waiting for a free slot", percent(workers.slot_wait_fraction)),
    ]
    if workers.why_no_change is not None:
        rows.insert(1, ("why their number stays", printable(workers.why_no_change, WHY_LENGTH)))
    return tuple(row for row in rows if row[1] != NOT_MEASURED)


def _worker_changes(summary: StallSummary) -> Grid:
    changes = summary.worker_changes[-_ROWS_SHOWN:]
    several = any(change.loader for change in changes)
    return Grid(
        key="worker_changes",
        title="How the number of workers changed",
        columns=(*(["loader"] if several else []), *CHANGE_COLUMNS),
        rows=tuple(
            (*([printable(change.loader, 60)] if several else []), *change_cells(change))
            for change in changes
        ),
        words=(0, 2, 3) if several else (1, 2),
        note=_newest(len(changes), len(summary.worker_changes)),
    )


def _stages(summary: StallSummary) -> Grid:
    stages = sorted(summary.worker_stage_fractions.items(), key=lambda stage: -stage[1])
    return Grid(
        key="stages",
        title="Workers' time by stage",
        columns=("stage", "share"),
        rows=tuple((printable(name, 80), percent(part)) for name, part in stages[:_ROWS_SHOWN]),
        bars=1,
    )


def _worker_lines(summary: StallSummary) -> Grid:
    return Grid(
        key="worker_lines",
        title="Workers' time by line of code",
        columns=("line", "code", "share"),
        rows=tuple(
            (_where(line), _code(line), percent(line.fraction))
            for line in summary.worker_lines[:_ROWS_SHOWN]
        ),
        words=(0, 1),
        code=(0, 1),
        bars=2,
    )


def _host_lines(summary: StallSummary) -> Grid:
    parts = _part_fractions(summary)
    found = [(parts.get(line.part, 0.0) * line.fraction, line) for line in summary.host_lines]
    found.sort(key=lambda entry: -entry[0])
    return Grid(
        key="host_lines",
        title="The training process outside forward and backward",
        columns=("doing", "line", "code", "of a step"),
        rows=tuple(
            (
                PARTS.get(line.part, printable(line.part, 40)),
                _where(line),
                _code(line),
                percent(fraction),
            )
            for fraction, line in found[:_ROWS_SHOWN]
            if fraction >= _LEAST_FRACTION
        ),
        words=(0, 1, 2),
        code=(1, 2),
        note="With the validation between steps." if summary.validation_ns else "",
        bars=3,
    )


def _part_fractions(summary: StallSummary) -> dict[str, float]:
    """Give the share of each part of a step in which the training process itself does something."""
    parts_ns = {
        "wait": summary.exposed_stall_ns,
        "transfer": summary.transfer_ns,
        "other": summary.other_host_ns - summary.checkpoint_ns - summary.logging_ns,
        "checkpoint": summary.checkpoint_ns,
        "logging": summary.logging_ns,
        "validation": summary.validation_ns,
    }
    loaders = summary.run.loaders if summary.run else ()
    if loaders and all(loader.num_workers for loader in loaders):
        del parts_ns["wait"]  # it only polls for what the workers make
    whole_ns = max(1, summary.wall_ns + summary.validation_ns)
    return {name: part_ns / whole_ns for name, part_ns in parts_ns.items()}


def _slow_samples(summary: StallSummary) -> Grid:
    return Grid(
        key="slow_samples",
        title="Slowest samples",
        columns=("sample", "file", "time", "times the median"),
        rows=tuple(
            (
                printable(one.index, _PATH_SHOWN),
                "" if one.path is None else printable(one.path, _PATH_SHOWN),
                duration(one.time_ns),
                f"{one.times_the_median:,.0f}",
            )
            for one in summary.slow_samples[:_ROWS_SHOWN]
        ),
        words=(0, 1),
        code=(1,),
    )


def _epochs(summary: StallSummary) -> Grid:
    epochs = summary.epochs[-_ROWS_SHOWN:]
    return Grid(
        key="epochs",
        title="Epochs",
        columns=("epoch", "stall", "to its first batch", "time", "steps"),
        rows=tuple(
            (
                str(one.epoch),
                percent(one.stall_fraction),
                duration(one.start_ns),
                duration(one.wall_ns),
                f"{one.steps:,}",
            )
            for one in epochs
        ),
        note=_newest(len(epochs), len(summary.epochs)),
        bars=1,
    )


def _ranks(summary: StallSummary) -> Grid:
    ranks: Sequence[RankFigures] = summary.ranks
    if len(ranks) > _ROWS_SHOWN:
        ranks = sorted(ranks, key=lambda one: -one.straggled_fraction)[:_ROWS_SHOWN]
    return Grid(
        key="ranks",
        title="Training processes",
        columns=("rank", "stall", "waited for data (host)", "held up the others"),
        rows=tuple(
            (
                str(one.rank),
                percent(one.stall_fraction),
                duration(one.host_wait_ns),
                percent(one.straggled_fraction),
            )
            for one in ranks
        ),
        note=_of_all(len(ranks), len(summary.ranks)),
        bars=1,
    )


def _loaders(summary: StallSummary) -> Grid:
    loaders = summary.run.loaders if summary.run else ()
    columns = ["setting", *(printable(one.name, 60) or "loader" for one in loaders)]
    names = [field.name for field in fields(loaders[0])] if loaders else []
    rows = [
        (name, *(printable(getattr(one, name), 120) for one in loaders))
        for name in names
        if name != "name"
    ]
    return Grid(key="loaders", title="Loader", columns=tuple(columns), rows=tuple(rows), wraps=True)


def _settings(summary: StallSummary) -> Grid:
    settings = summary.run.settings if summary.run else ()
    return Grid(
        key="settings",
        title="Trainer",
        columns=("setting", "value"),
        rows=tuple(
            (printable(name, 80), printable(value, 120)) for name, value in settings[:_ROWS_SHOWN]
        ),
        wraps=True,
    )


def _machine(summary: StallSummary) -> Grid:
    machine = summary.run.machine if summary.run else None
    rows: list[tuple[str, str]] = []
    if machine is not None:
        rows = [
            ("device", printable(machine.device, 120)),
            ("CPU", printable(machine.cpu, 120)),
            ("cores for this process", f"{machine.cores:g}"),
            ("training processes here", str(machine.local_ranks)),
            ("memory", size(machine.memory_bytes)),
            *((printable(name, 60), printable(text, 60)) for name, text in machine.versions),
        ]
    known = tuple(row for row in rows if row[1] != NOT_MEASURED)
    return Grid(key="machine", title="Machine", columns=("", ""), rows=known, wraps=True)


def _bad_samples(summary: StallSummary) -> Grid:
    shown = summary.bad_samples[:_ROWS_SHOWN]
    return Grid(
        key="bad_samples",
        title="Samples that could not be made",
        columns=("sample and error",),
        rows=tuple((printable(bad, _PATH_SHOWN),) for bad in shown),
        code=(0,),
        note=_of_all(len(shown), len(summary.bad_samples)),
    )


def _where(line: LineShare) -> str:
    return f"{place(line)} {printable(line.function, 40)}"


def _code(line: LineShare) -> str:
    return printable(line.text, 120)


def _newest(shown: int, all_of_them: int) -> str:
    return "" if shown == all_of_them else f"The newest {shown} of {all_of_them:,}."


def _of_all(shown: int, all_of_them: int) -> str:
    return "" if shown == all_of_them else f"{shown} of {all_of_them:,}; the JSON has all."
