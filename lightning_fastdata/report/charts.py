"""The geometry of the report's pictures: shapes in a box that is 1,000 wide, and where labels go.

A picture is stretched to the width of the page, text is not: labels are HTML beside it, placed by
percentages. No words are chosen here but those of tooltips.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lightning_fastdata.report.units import duration
from lightning_fastdata.report.words import PARTS, printable
from lightning_fastdata.stalls import DepthPoint, LaneSpan, TimelineBucket

WIDE = 1000.0
_MOST_LANES, _MOST_TIPS, _MOST_GROUPS = 40, 128, 5  # guess: a screen of lanes; what a pointer hits
_MOST_SPANS = 160  # guess: a few pixels each
_CUT_FROM_TIMES_THE_MEDIAN = 4  # guess: beyond it the rest of the run would be a flat line
_STEP_PARTS = [name for name in PARTS if name != "validation"]  # it is outside a step
_KINDS = ("host", "device", "worker")


class Tick(NamedTuple):
    """A label on an axis."""

    percent: float
    text: str


class Shape(NamedTuple):
    """A rectangle, or a path where ``path`` is there."""

    style: str
    """Class that colours it."""
    tip: str = ""
    path: str = ""
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Shapes over two axes."""

    height: float
    shapes: tuple[Shape, ...]
    tips: tuple[Shape, ...] = ()
    """Invisible rectangles that hold tooltips."""
    marks: tuple[Tick, ...] = ()
    """Moments worth a line from top to bottom."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    cut_ms: float | None = None
    """Where the picture is cut off, and only then."""


class Lane(NamedTuple):
    """One row of spans."""

    name: str
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lanes:
    """Rows of spans over one axis of time."""

    rows: tuple[Lane, ...]
    left_out: int
    legend: tuple[tuple[str, str], ...]
    """Style and name."""
    x_ticks: tuple[Tick, ...]


def timeline_chart(buckets: Sequence[TimelineBucket], height: float = 240) -> Chart:
    """Stack the parts of a step, milliseconds over steps, one step of the outline a bucket."""
    edges = [0]
    for bucket in buckets:
        edges.append(edges[-1] + bucket.steps)
    tops_ms = [_cumulated_ms(bucket) for bucket in buckets]
    totals_ms = sorted(tops[-1] for tops in tops_ms)
    typical_ms = _CUT_FROM_TIMES_THE_MEDIAN * totals_ms[len(totals_ms) // 2]
    is_cut = totals_ms[-1] > typical_ms > 0
    highest_ms = _nice_above(typical_ms if is_cut else totals_ms[-1])
    steps = max(1, edges[-1])
    across, up = WIDE / steps, height / highest_ms

    def outline(part: int) -> str:
        path = f"M0 {height:g}"
        for place, tops in enumerate(tops_ms):
            top = max(0.0, height - tops[part] * up)
            path += f"V{top:.1f}H{edges[place + 1] * across:.1f}"
        return f"{path}V{height:g}Z"

    # The tallest first, the others over it: areas side by side would show seams.
    order = reversed(range(len(_STEP_PARTS)))
    return Chart(
        height=height,
        shapes=tuple(
            Shape(style=f"p-{_STEP_PARTS[part]}", path=outline(part))
            for part in order
            if part == 0 or any(tops[part] > tops[part - 1] for tops in tops_ms)
        ),
        tips=_tips(buckets, edges, across, height),
        marks=tuple(
            Tick(round(100 * edges[place + 1] / steps, 2), "")
            for place, bucket in enumerate(buckets)
            if bucket.validation_ns
        ),
        x_ticks=_ticks(steps, lambda step: f"{step:,g}"),
        y_ticks=_ticks(highest_ms, lambda ms: f"{ms:g}", most=4),
        cut_ms=highest_ms if is_cut else None,
    )


def readable_from_ns(spans: Sequence[LaneSpan]) -> int:
    """Return from when on no lane has more spans than can be told apart; 0 is from the start."""
    began_ns: dict[str, list[int]] = {}
    for span in spans:
        began_ns.setdefault(span.lane, []).append(span.began_ns)
    crowded = [sorted(lane) for lane in began_ns.values() if len(lane) > _MOST_SPANS]
    return max((lane[-_MOST_SPANS] for lane in crowded), default=0)


def depth_chart(
    points: Sequence[DepthPoint], from_ns: int, until_ns: int, height: float = 90
) -> Chart:
    """Draw how many batches lay ready, over time."""
    until_ns = max(until_ns, points[-1].at_ns, from_ns + 1)
    whole_ns = until_ns - from_ns
    most = max(1, *(point.ready for point in points))

    def across(at_ns: int) -> float:
        return max(0, at_ns - from_ns) / whole_ns * WIDE

    path = f"M{across(points[0].at_ns):.1f} {height:g}"
    for place, point in enumerate(points):
        end_ns = points[place + 1].at_ns if place + 1 < len(points) else until_ns
        if end_ns > from_ns:
            path += f"V{height * (1 - point.ready / most):.1f}H{across(end_ns):.1f}"
    ticks = [Tick(100 * ready / most, str(ready)) for ready in sorted({0, most})]
    return Chart(
        height=height,
        shapes=(Shape(style="depth", path=f"{path}V{height:g}Z"),),
        x_ticks=_time_ticks(whole_ns),
        y_ticks=tuple(ticks),
    )


def lanes_of(spans: Sequence[LaneSpan], from_ns: int, until_ns: int) -> Lanes:
    """Lay spans into rows: the training process, the device, then each worker."""
    whole_ns = max(until_ns, from_ns + 1, *(span.ended_ns for span in spans)) - from_ns
    names = {span.lane: _KINDS.index(span.kind) for span in spans}
    ranked = sorted(names, key=lambda name: (names[name], _naturally(name)))
    styles = _Styles()
    rows = tuple(
        Lane(
            printable(name, 40),
            _row(
                [span for span in spans if span.lane == name and span.ended_ns > from_ns],
                from_ns,
                whole_ns,
                styles,
            ),
        )
        for name in ranked[:_MOST_LANES]
    )
    return Lanes(
        rows=rows,
        left_out=max(0, len(ranked) - _MOST_LANES),
        legend=styles.legend(),
        x_ticks=_time_ticks(whole_ns),
    )


class _Styles:
    """Gives each name of a span its class, and remembers which for the legend."""

    def __init__(self) -> None:
        self.used: dict[str, str] = {}

    def style_of(self, name: str, turn: int) -> str:
        if name in PARTS:
            return self.used.setdefault(PARTS[name], f"p-{name}")
        group = printable(re.sub(r"[\s#]*\d+$", "", name[:400]), 40) or "number"
        if group not in self.used:
            others = sum(style.startswith("g") for style in self.used.values())
            if others >= _MOST_GROUPS:
                group = "something else"
            self.used.setdefault(group, f"g{min(others, _MOST_GROUPS)}")
        # Numbered spans next to each other, such as batches, would otherwise look like one.
        return self.used[group] + (" odd" if turn % 2 else "")

    def legend(self) -> tuple[tuple[str, str], ...]:
        """Return style and name of all, the parts of a step first and in their order."""
        parts = [name for name in PARTS.values() if name in self.used]
        others = [name for name in self.used if name not in parts]
        return tuple((self.used[name], name) for name in (*parts, *others))


def _row(
    spans: Sequence[LaneSpan], from_ns: int, whole_ns: int, styles: _Styles
) -> tuple[Shape, ...]:
    shapes: list[Shape] = []
    outer_end_ns, turn = -1, 0
    for span in sorted(spans, key=lambda span: (span.began_ns, -span.ended_ns)):
        is_inner = span.ended_ns <= outer_end_ns
        if not is_inner:
            outer_end_ns, turn = span.ended_ns, turn + 1
        shown_from_ns = max(span.began_ns, from_ns)
        shapes.append(
            Shape(
                style=styles.style_of(span.name, turn if not is_inner else 0),
                tip=f"{printable(span.name, 60)}: {duration(span.ended_ns - span.began_ns)}",
                x=round((shown_from_ns - from_ns) / whole_ns * WIDE, 2),
                y=12 if is_inner else 0,
                width=round(max(0.3, (span.ended_ns - shown_from_ns) / whole_ns * WIDE), 2),
                height=8 if is_inner else 20,
            )
        )
    return tuple(shapes)


def _cumulated_ms(bucket: TimelineBucket) -> list[float]:
    tops_ms, top = [], 0.0
    for name in _STEP_PARTS:
        top += getattr(bucket, f"{name}_ns") / max(1, bucket.steps) / 1e6
        tops_ms.append(top)
    return tops_ms


def _tips(
    buckets: Sequence[TimelineBucket], edges: Sequence[int], across: float, height: float
) -> tuple[Shape, ...]:
    each = math.ceil(len(buckets) / _MOST_TIPS)
    tips = []
    for first in range(0, len(buckets), each):
        last = min(first + each, len(buckets))
        steps = max(1, edges[last] - edges[first])
        told = [f"steps {edges[first] + 1:,} to {edges[last]:,}, ms a step"]
        for name in PARTS:
            part_ns = sum(getattr(bucket, f"{name}_ns") for bucket in buckets[first:last])
            if part_ns:
                told.append(f"{PARTS[name]} {part_ns / steps / 1e6:.1f}")
        tips.append(
            Shape(
                style="tip",
                tip="; ".join(told),
                x=round(edges[first] * across, 1),
                width=round(steps * across, 1),
                height=height,
            )
        )
    return tuple(tips)


def _time_ticks(whole_ns: int) -> tuple[Tick, ...]:
    if whole_ns >= 2 * 10**9:
        return _ticks(whole_ns / 1e9, lambda seconds: f"{seconds:g} s")
    return _ticks(whole_ns / 1e6, lambda ms: f"{ms:g} ms")


def _ticks(highest: float, text: Callable[[float], str], most: int = 5) -> tuple[Tick, ...]:
    step = _nice_above(highest / most)
    count = math.floor(highest / step + 1e-9)
    return tuple(
        Tick(round(100 * number * step / highest, 2), text(round(number * step, 9)))
        for number in range(count + 1)
    )


def _nice_above(value: float) -> float:
    """Return the next number of the kind 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(nice * power for nice in (1, 2, 2.5, 5, 10, 20) if nice * power >= value)


def _naturally(name: str) -> list[tuple[int, int, str]]:
    """Sort ``worker 10`` after ``worker 9``."""
    parts = re.findall(r"\d{1,15}|\D+|\d+", name[:100])
    return [(0, int(part), "") if part[0].isdecimal() else (1, 0, part) for part in parts]
