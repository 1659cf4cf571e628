"""A summary as a matplotlib figure."""

import io
from typing import TYPE_CHECKING, Any

from lightning_fastdata.errors import MissingExtraError
from lightning_fastdata.stalls.verdict import verdict_sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lightning_fastdata.stalls.detail import TimelineBucket
    from lightning_fastdata.stalls.summary import StallSummary

_STEP_PARTS = (
    ("wait_ns", "waiting for data", "#d55e00"),
    ("transfer_ns", "transfer", "#cc79a7"),
    ("compute_ns", "compute", "#0072b2"),
    ("other_ns", "other host work", "#999999"),
    ("checkpoint_ns", "checkpoints", "#f0e442"),
    ("logging_ns", "logging", "#009e73"),
)  # Okabe and Ito's colours, which colour-blind people tell apart


def plot_summary(summary: "StallSummary") -> "Figure":
    """Draw where the time of a step went, and below it the same over the run where it is known.

    Returns:
        A figure of its own: it is in no list of open windows, and goes when nobody keeps it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "summary.plot() found no matplotlib, wanted the extra 'plot'. "
            "Run: pip install 'lightning-fastdata[plot]'"
        ) from error

    class Picture(Figure):
        """Shows itself in a notebook, where pyplot would show it twice."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", dpi=110)
            return file.getvalue()

    timeline = summary.detail.timeline
    figure = Picture(figsize=(9, 5 if timeline else 2.2), layout="constrained")
    sentence = verdict_sentence(summary.stall_fraction)
    figure.suptitle(sentence[0].upper() + sentence[1:], fontweight="bold")
    if timeline:
        bar, course = figure.subplots(2, 1, height_ratios=(1, 3))
        _draw_course(course, timeline)
    else:
        bar = figure.subplots()
    _draw_bar(bar, summary)
    # Without constrained layout's help a legend outside the axes would be cut off.
    figure.legend(*bar.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _draw_bar(axes: "Axes", summary: "StallSummary") -> None:
    steps = summary.steps or 1
    rest_ns = summary.other_host_ns - summary.checkpoint_ns - summary.logging_ns
    sums_ns = (
        summary.exposed_stall_ns,
        summary.transfer_ns,
        summary.compute_ns,
        rest_ns,
        summary.checkpoint_ns,
        summary.logging_ns,
    )
    left = 0.0
    for (field, name, color), part_ns in zip(_STEP_PARTS, sums_ns, strict=True):
        if not part_ns and not any(getattr(each, field) for each in summary.detail.timeline):
            continue  # the legend names what the picture shows
        width = part_ns / steps / 1e6
        hatch = "//" if name == "waiting for data" else None
        axes.barh(0, width, left=left, color=color, label=name, hatch=hatch, edgecolor="white")
        left += width
    axes.set_yticks([])
    axes.set_xlabel("ms a step")


def _draw_course(axes: "Axes", timeline: "tuple[TimelineBucket, ...]") -> None:
    ends: list[int] = []
    for bucket in timeline:
        ends.append((ends[-1] if ends else 0) + bucket.steps)
    edges = [0, *ends]
    bottom = [0.0] * len(timeline)
    for field, name, color in _STEP_PARTS:
        heights = [getattr(bucket, field) / bucket.steps / 1e6 for bucket in timeline]
        tops = [low + height for low, height in zip(bottom, heights, strict=True)]
        style: Any = {"color": color, "hatch": "//" if name == "waiting for data" else None}
        axes.stairs(tops, edges, baseline=bottom, fill=True, edgecolor="white", lw=0, **style)
        bottom = tops
    axes.set(xlabel="step", ylabel="ms a step", xlim=(0, ends[-1]))
    axes.set_ylim(bottom=0)
