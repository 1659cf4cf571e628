"""What a summary looks like, to people and to machines. Percent exists only here."""

from lightning_fastdata.report.comparison import compare_table
from lightning_fastdata.report.files import write_json
from lightning_fastdata.report.metrics import logger_metrics
from lightning_fastdata.report.table import ReportTable
from lightning_fastdata.report.terminal import render_terminal, say, summary_table

__all__ = [
    "ReportTable",
    "compare_table",
    "logger_metrics",
    "render_terminal",
    "say",
    "summary_table",
    "write_json",
]
