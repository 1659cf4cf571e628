"""The geometry of pictures: shapes stay in their box and are as large as what they stand for."""

import re
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.report.charts import (
    WIDE,
    depth_chart,
    lanes_of,
    readable_from_ns,
    timeline_chart,
)
from lightning_fastdata.stalls import DepthPoint, LaneSpan, TimelineBucket

MS = 10**6
small_ns = st.integers(0, 3).map(lambda ms: ms * MS)


def a_bucket(wait_ms: int, compute_ms: int = 0, *, steps: int = 1) -> TimelineBucket:
    return TimelineBucket(
        steps=steps,
        began_ns=0,
        wait_ns=wait_ms * MS,
        transfer_ns=0,
        compute_ns=compute_ms * MS,
        other_ns=0,
        validation_ns=0,
        checkpoint_ns=0,
        logging_ns=0,
    )


def a_span(began_ms: int, ended_ms: int, *, lane: str = "worker 0", name: str = "x") -> LaneSpan:
    return LaneSpan(
        lane=lane, kind="worker", name=name, began_ns=began_ms * MS, ended_ns=ended_ms * MS
    )


def points_of(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"[\d.]+", path)]


def test_the_parts_of_a_step_are_stacked_to_scale() -> None:
    chart = timeline_chart([a_bucket(10, 30), a_bucket(20, 30, steps=1)], height=100)

    paths = {shape.style: shape.path for shape in chart.shapes}
    # 50 ms are the whole height: 10 and 20 ms of waiting, 40 and 50 ms with computing on top.
    assert paths == {
        "p-compute": "M0 100V20.0H500.0V0.0H1000.0V100Z",
        "p-wait": "M0 100V80.0H500.0V60.0H1000.0V100Z",
    }


def test_a_bucket_of_more_steps_is_wider_and_shows_their_mean() -> None:
    chart = timeline_chart([a_bucket(10), a_bucket(30, steps=3)], height=100)

    assert chart.shapes[-1].path == "M0 100V0.0H250.0V0.0H1000.0V100Z"


@given(
    st.lists(
        st.builds(
            TimelineBucket,
            steps=st.integers(0, 3),
            began_ns=small_ns,
            **{
                field.name: small_ns
                for field in fields(TimelineBucket)
                if field.name not in ("steps", "began_ns")
            },
        ),
        min_size=1,
        max_size=8,
    )
)
def test_a_timeline_stays_in_its_box(buckets: list[TimelineBucket]) -> None:
    chart = timeline_chart(buckets, height=50)

    for shape in chart.shapes:
        assert all(0 <= number <= WIDE for number in points_of(shape.path))
        heights = re.findall(r"V([\d.]+)", shape.path)
        assert all(0 <= float(height) <= 50 for height in heights)
    for tick in (*chart.x_ticks, *chart.y_ticks):
        assert 0 <= tick.percent <= 100


def test_one_step_that_took_very_long_is_cut_and_said() -> None:
    chart = timeline_chart([*[a_bucket(10)] * 9, a_bucket(10_000)], height=100)

    assert chart.cut_ms == 50
    assert timeline_chart([a_bucket(10)] * 9).cut_ms is None


def test_lanes_stand_in_the_order_of_their_numbers_below_the_training_process() -> None:
    host = LaneSpan(lane="training process", kind="host", name="wait", began_ns=0, ended_ns=1)
    spans = [a_span(0, 1, lane=f"worker {number}") for number in (10, 9, 0)]

    lanes = lanes_of([*spans, host], 0, 10 * MS)

    assert [lane.name for lane in lanes.rows] == [
        "training process",
        "worker 0",
        "worker 9",
        "worker 10",
    ]


def test_a_span_inside_another_is_drawn_smaller_on_top_of_it() -> None:
    [lane] = lanes_of([a_span(2, 4, name="decode"), a_span(0, 8, name="batch 1")], 0, 8 * MS).rows

    outer, inner = lane.shapes
    assert (outer.x, outer.width, outer.height) == (0, 1000, 20)
    assert (inner.x, inner.width) == (250, 250)
    assert inner.height < outer.height


def test_numbered_spans_share_a_name_in_the_legend_and_differ_from_their_neighbours() -> None:
    lanes = lanes_of([a_span(0, 1, name="batch 7"), a_span(1, 2, name="batch 8")], 0, 2 * MS)

    assert [name for _, name in lanes.legend] == ["batch"]
    assert len({shape.style for shape in lanes.rows[0].shapes}) == 2


def test_more_names_than_colours_share_the_last_one() -> None:
    spans = [a_span(k, k + 1, name="stage " + "abcdefgh"[k]) for k in range(8)]

    legend = lanes_of(spans, 0, 8 * MS).legend

    assert [name for _, name in legend][-1] == "something else"
    assert len({style for style, _ in legend}) == len(legend) == 6


def test_a_crowded_piece_is_shown_from_where_it_can_be_read() -> None:
    spans = [a_span(k, k + 1) for k in range(500)]

    from_ns = readable_from_ns(spans)

    assert from_ns == 340 * MS
    [lane] = lanes_of(spans, from_ns, 500 * MS).rows
    assert len(lane.shapes) == 160
    assert readable_from_ns(spans[:160]) == 0


@given(
    spans=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6),
    from_ms=st.integers(0, 12),
)
def test_spans_stay_in_their_box(spans: list[tuple[int, int]], from_ms: int) -> None:
    lanes = lanes_of([a_span(min(span), max(span)) for span in spans], from_ms * MS, 10 * MS)

    for shape in (shape for lane in lanes.rows for shape in lane.shapes):
        assert 0 <= shape.x <= WIDE
        assert shape.x + shape.width <= WIDE + 0.4  # the least width of what is seen


def test_the_depth_of_the_queue_is_drawn_as_steps() -> None:
    points = [DepthPoint(at_ns=0, ready=0), DepthPoint(at_ns=5 * MS, ready=4)]

    chart = depth_chart(points, 0, 10 * MS, height=100)

    assert chart.shapes[0].path == "M0.0 100V100.0H500.0V0.0H1000.0V100Z"
    assert [tick.text for tick in chart.y_ticks] == ["0", "4"]
