"""What is sent to loggers while training runs, under torchtitan's names so that dashboards fit."""

from collections.abc import Sequence

from lightning_fastdata.trace import RankWindow, StallWindow


def logger_metrics(window: StallWindow, ranks: Sequence[RankWindow] = ()) -> dict[str, float]:
    """Return the stall of some steps: its percentage, and seconds a step. Empty without a step.

    Args:
        window: The steps, of the rank that logs.
        ranks: What every rank measured in the newest interval that is known of all; the largest
            percentage of them is added, which is what the others wait for in the end.
    """
    if not window.wall_ns:
        return {}
    metrics = {
        "time_metrics/data_loading(%)": 100 * window.stall_ns / window.wall_ns,
        "time_metrics/data_loading(s)": window.stall_ns / window.steps / 1e9,
    }
    shares = [each.stall_ns / each.wall_ns for each in ranks if each.wall_ns]
    if shares:
        metrics["time_metrics/data_loading_max(%)"] = 100 * max(shares)
    return metrics
