"""What ``tune`` weighed as a picture: stall and batches a second over the number of workers."""

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_fastdata.errors import MissingExtraError
from lightning_fastdata.plan import Candidate, LoaderPlan
from lightning_fastdata.report.tuning_words import (
    batches_per_s_of,
    chosen_of,
    stall_of,
    tuning_verdict,
    workers_words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PREDICTED, _MEASURED, _CHOSEN, _LIMIT = "#0072b2", "#d55e00", "#009e73", "#666666"
"""Of Okabe and Ito, whose colours colour-blind people tell apart; shapes differ as well."""
_TITLE_WIDTH = 90  # characters; guess: what fits above the panels
_MOST_MARKED = 40  # guess: more points on a line are a thick line


def plot_tuning(plan: LoaderPlan, max_stall_fraction: float) -> "Figure":
    """Draw what was predicted as a line, what was measured as points, the choice marked.

    Args:
        plan: What was chosen, with what was weighed.
        max_stall_fraction: The stall that was allowed, 0 to 1.

    Returns:
        A figure of its own: it is in no list of open windows, and goes when nobody keeps it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    knows_stall = any(stall_of(each) is not None for each in plan.candidates)
    figure = Figure(figsize=(8, 6.4 if knows_stall else 3.8), layout="constrained")
    sentence = textwrap.fill(tuning_verdict(plan, max_stall_fraction), _TITLE_WIDTH)
    figure.suptitle(sentence, fontweight="bold", fontsize=11)
    if knows_stall:
        stalls, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _draw_stalls(stalls, plan, max_stall_fraction)
    else:
        rates = figure.subplots()
    _draw_rates(rates, plan, has_legend=not knows_stall)
    rates.set_xlabel("workers")
    rates.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def write_plot(plan: LoaderPlan, max_stall_fraction: float, path: Path) -> None:
    """Write the picture in the format that its name ends in; an older file is replaced.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    figure = plot_tuning(plan, max_stall_fraction)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    figure.savefig(unfinished, format=path.suffix[1:].lower(), dpi=150)
    unfinished.replace(path)


def check_matplotlib() -> None:
    """Refuse where there is nothing to draw with.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401 - whether it can be imported is the question
    except ImportError as error:
        raise MissingExtraError(
            "found no matplotlib to draw with, wanted the extra 'plot'. "
            "Run: pip install 'lightning-fastdata[plot]'"
        ) from error


def _draw_stalls(axes: "Axes", plan: LoaderPlan, max_stall_fraction: float) -> None:
    limit = 100 * max_stall_fraction
    axes.axhline(limit, color=_LIMIT, linestyle="--", linewidth=1.2, label=f"limit ({limit:g} %)")
    points = [
        (each.num_workers, _percent(each.predicted_stall_fraction)) for each in plan.candidates
    ]
    _draw_predicted(axes, points, best=min)
    _draw_measured(
        axes,
        [(each.num_workers, _percent(each.measured_stall_fraction)) for each in plan.candidates],
    )
    chosen = chosen_of(plan)
    _draw_choice(axes, chosen, None if chosen is None else _percent(stall_of(chosen)))
    axes.set_ylabel("stall (% of a step)")
    _finish(axes, top=max(2 * limit, 1.0, axes.get_ylim()[1]))
    axes.legend(frameon=False)


def _draw_rates(axes: "Axes", plan: LoaderPlan, *, has_legend: bool) -> None:
    points = [(each.num_workers, each.predicted_batches_per_s) for each in plan.candidates]
    _draw_predicted(axes, points, best=max)
    _draw_measured(
        axes, [(each.num_workers, each.measured_batches_per_s) for each in plan.candidates]
    )
    chosen = chosen_of(plan)
    _draw_choice(axes, chosen, None if chosen is None else batches_per_s_of(chosen))
    axes.set_ylabel("batches/s")
    _finish(axes, top=axes.get_ylim()[1])
    if has_legend and axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _draw_predicted(
    axes: "Axes",
    points: Iterable[tuple[int, float | None]],
    *,
    best: Callable[[float, float], float],
) -> None:
    course: dict[int, float] = {}
    for number, value in points:
        if value is not None:  # several depths of prefetching: the line is of the best
            course[number] = best(course.get(number, value), value)
    if course:
        numbers = sorted(course)
        axes.plot(
            numbers,
            [course[number] for number in numbers],
            color=_PREDICTED,
            linewidth=2,
            marker="." if len(numbers) <= _MOST_MARKED else None,
            label="predicted",
            clip_on=False,  # a point at zero is drawn whole
        )


def _draw_measured(axes: "Axes", points: Iterable[tuple[int, float | None]]) -> None:
    known = [(number, value) for number, value in points if value is not None]
    if known:
        axes.scatter(
            [number for number, _ in known],
            [value for _, value in known],
            color=_MEASURED,
            marker="D",
            s=36,
            zorder=3,
            label="measured",
            clip_on=False,
        )


def _draw_choice(axes: "Axes", chosen: Candidate | None, value: float | None) -> None:
    if chosen is None or value is None:
        return
    axes.scatter(
        [chosen.num_workers],
        [value],
        facecolors="none",
        edgecolors=_CHOSEN,
        linewidths=2.2,
        s=210,
        zorder=4,
        label=f"chosen: {workers_words(chosen.num_workers)}",
        clip_on=False,
    )


def _finish(axes: "Axes", top: float) -> None:
    axes.set_ylim(-0.04 * top, top)  # below zero a little, for the marks at zero
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction
