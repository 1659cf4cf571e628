"""The piece of a run that pictures show: bounded, in order, on one clock."""

from dataclasses import replace

from run_records import MS, Run, recorded

from lightning_fastdata.stalls import RunDetail, conclude


def detail_of(run: Run) -> RunDetail:
    return conclude(recorded(run)).detail


def test_the_timeline_holds_every_step() -> None:
    timeline = detail_of(Run(batches=3_000, num_workers=1)).timeline

    assert sum(bucket.steps for bucket in timeline) == 2_999
    assert len(timeline) <= 512
    assert timeline[0].began_ns == 0
    assert sum(bucket.compute_ns for bucket in timeline) == 2_999 * 20 * MS


def test_the_piece_is_bounded_however_long_the_run() -> None:
    run = Run(num_workers=1, sample_ns=lambda epoch, index: 9 * MS, transfer_ns=MS)
    busy = replace(run, logging_ns=MS, other_ns=MS, checkpoint_ns=MS, validation_every=1)

    detail = detail_of(replace(busy, batches=600, validation_ns=MS))

    assert 1_000 < len(detail.spans) <= 1_500
    assert len(detail.depth) <= 512


def test_all_spans_lie_within_the_piece() -> None:
    detail = detail_of(Run(num_workers=2, sample_ns=lambda epoch, index: 9 * MS))

    assert all(0 <= span.began_ns <= span.ended_ns <= detail.piece_ns for span in detail.spans)
    assert all(0 <= point.at_ns <= detail.piece_ns for point in detail.depth)


def test_every_worker_has_a_lane_beside_the_training_process() -> None:
    detail = detail_of(Run(num_workers=2))

    assert {span.lane for span in detail.spans} == {"training process", "worker 0", "worker 1"}


def test_a_loader_that_keeps_up_has_all_its_batches_ready() -> None:
    detail = detail_of(Run(num_workers=2, prefetch_factor=2, sample_ns=lambda e, i: MS // 10))

    assert max(point.ready for point in detail.depth) == 4


def test_a_loader_that_is_too_slow_has_none_ready() -> None:
    detail = detail_of(Run(num_workers=1, sample_ns=lambda epoch, index: 9 * MS))

    assert {point.ready for point in detail.depth} == {0}
