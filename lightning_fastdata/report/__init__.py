"""What a summary looks like, to people and to machines. Percent exists only here."""

from lightning_fastdata.report.chrome import chrome_trace, write_chrome_trace
from lightning_fastdata.report.comparison import compare_table
from lightning_fastdata.report.files import write_json
from lightning_fastdata.report.html import render_html, write_html
from lightning_fastdata.report.metrics import logger_metrics
from lightning_fastdata.report.table import ReportTable, show
from lightning_fastdata.report.terminal import render_terminal, say, summary_table
from lightning_fastdata.report.verdict import Comparison, compare_runs

__all__ = [
    "Comparison",
    "ReportTable",
    "chrome_trace",
    "compare_runs",
    "compare_table",
    "logger_metrics",
    "render_html",
    "render_terminal",
    "say",
    "show",
    "summary_table",
    "write_chrome_trace",
    "write_html",
    "write_json",
]
