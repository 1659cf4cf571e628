"""What is sent to loggers while training runs, under torchtitan's names so that dashboards fit."""

from lightning_fastdata.trace import StallWindow


def logger_metrics(window: StallWindow) -> dict[str, float]:
    """Return the stall of some steps: its percentage, and seconds a step. Empty without a step."""
    if not window.wall_ns:
        return {}
    return {
        "time_metrics/data_loading(%)": 100 * window.stall_ns / window.wall_ns,
        "time_metrics/data_loading(s)": window.stall_ns / window.steps / 1e9,
    }
