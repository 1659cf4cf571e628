"""Advice that was followed is set beside what came of it; advice that was not is left alone."""

from dataclasses import replace

import pytest
from run_records import MS, Run, recorded

from lightning_fastdata.stalls import StallSummary, conclude

STARVED = Run(num_workers=1, sample_ns=lambda epoch, index: 5 * MS)


def before() -> StallSummary:
    return conclude(recorded(STARVED))


def test_followed_advice_has_the_prediction_beside_the_measurement() -> None:
    after = conclude(recorded(replace(STARVED, num_workers=3)), before=before())

    (followed,) = after.followed
    assert followed.cause == "too_few_workers"
    assert followed.before_stall_fraction == pytest.approx(0.5, abs=0.01)
    assert followed.measured_stall_fraction == after.stall_fraction
    assert followed.predicted_stall_fraction == pytest.approx(
        followed.measured_stall_fraction, abs=0.02
    )


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_another_number_than_the_advised_one_is_not_followed(num_workers: int) -> None:
    run = replace(STARVED, num_workers=num_workers)

    assert conclude(recorded(run), before=before()).followed == ()


def test_what_held_before_was_not_done_for_the_advice() -> None:
    then = before()
    assert then.run is not None
    as_advised = replace(then.run.loaders[0], num_workers=3)
    odd = replace(then, run=replace(then.run, loaders=(as_advised,)))

    assert conclude(recorded(replace(STARVED, num_workers=3)), before=odd).followed == ()


def test_settings_of_the_trainer_are_compared_as_well() -> None:
    run = Run(logging_ns=10 * MS, num_workers=1, settings={"log_every_n_steps": 1})
    advised = {change.name: change.then for change in conclude(recorded(run)).findings[0].changes}

    after = conclude(
        recorded(replace(run, logging_ns=0, settings=advised)), before=conclude(recorded(run))
    )

    assert [each.cause for each in after.followed] == ["host_other"]


def test_without_an_earlier_run_nothing_was_followed() -> None:
    assert conclude(recorded(STARVED), before=None).followed == ()
