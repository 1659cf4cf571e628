"""The most stall that a run may have: a gate for tests of speed."""

from typing import Any

from lightning_fastdata.errors import SettingsError, StallLimitError
from lightning_fastdata.stalls import StallSummary


def check_limit(fail_above: Any) -> None:
    """Refuse what is no share of a step.

    Raises:
        SettingsError: It is none.
    """
    is_number = isinstance(fail_above, (int, float)) and not isinstance(fail_above, bool)
    if fail_above is None or (is_number and 0 <= fail_above < 1):
        return
    raise SettingsError(
        f"fail_above is {fail_above!r}, but a share of a step from 0 to below 1 is wanted. "
        "Pass 0.05 to allow a stall of 5 %, or None for no limit."
    )


def hold_to_limit(summary: StallSummary | None, fail_above: float) -> None:
    """End the run with an error where it waited too long; of several ranks the worst one counts.

    Raises:
        StallLimitError: It did, or it was not measured, which a gate must not pass in silence.
    """
    known = [] if summary is None else [summary.stall_fraction]
    known += [] if summary is None else [rank.stall_fraction for rank in summary.ranks]
    stalls = [stall for stall in known if stall is not None]
    if summary is None or not stalls:
        raise StallLimitError(
            f"the stall of this run was not measured, wanted at most {fail_above:g} of a step. "
            "Train for at least two steps an epoch, or pass fail_above=None."
        )
    worst = max(stalls)
    if worst > fail_above:
        what = summary.findings[0].advice if summary.findings else "Look at the stall report."
        raise StallLimitError(
            f"training waited for data {worst:.3f} of its time, wanted at most {fail_above:g} "
            f"(fail_above). {what}"
        )
