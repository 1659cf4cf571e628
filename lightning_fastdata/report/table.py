"""A table of words that draws itself: in colour on a terminal, as plain text anywhere else."""

from dataclasses import dataclass

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportTable:
    """A title, columns, rows and closing lines: ``print`` gives plain ASCII, rich draws it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """As many cells each as there are columns."""
    lines: tuple[str, ...] = ()
    """Sentences below the table."""
    words: tuple[int, ...] = (0,)
    """Which columns are words and stand left; the others are figures and stand right."""

    def __str__(self) -> str:
        widths = [
            max(len(row[column]) for row in (self.columns, *self.rows))
            for column in range(len(self.columns))
        ]

        def aligned(row: tuple[str, ...]) -> str:
            cells = zip(row, widths, strict=True)
            return "  ".join(
                cell.ljust(width) if position in self.words else cell.rjust(width)
                for position, (cell, width) in enumerate(cells)
            ).rstrip()

        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        table = [aligned(self.columns), rule, *(aligned(row) for row in self.rows)]
        return "\n".join([self.title, rule, *table, rule, *self.lines])

    def __rich__(self) -> Group:
        table = Table(title=Text(self.title, style="bold"), title_justify="left", box=box.ROUNDED)
        for position, column in enumerate(self.columns):
            table.add_column(Text(column), justify="left" if position in self.words else "right")
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        # Text objects throughout: a name with brackets in it must not be taken for markup.
        return Group(table, *(Text(line) for line in self.lines))


def show(table: ReportTable, console: Console | None = None) -> None:
    """Print ``table`` to ``console`` (standard output when ``None``), drawn only for people."""
    console = console or Console()
    if console.is_terminal or console.is_jupyter:
        console.print(table)
    else:
        print(table, file=console.file)
