"""One sentence on whether the data keeps up: the same in every report."""

from lightning_fastdata.stalls.level import stall_level


def verdict_sentence(stall_fraction: float | None) -> str:
    """Say how much of the time training waits for data.

    The sentence holds a percentage, which is otherwise the business of ``report/``: a notebook
    shows a summary without asking that room.
    """
    if stall_fraction is None:
        return "too short to judge; no step ran after the first of an epoch."
    lost = f"{100 * stall_fraction:.1f} %"
    level = stall_level(stall_fraction)
    if level == "keeps_up":
        return f"the data keeps up; training waits for it {lost} of the time."
    if level == "waits":
        return f"training waits for data {lost} of the time."
    return f"training is starved of data; it waits {lost} of the time."
