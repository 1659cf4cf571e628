"""Changes of the number of workers come into the summary, on its own clock and in their order."""

from dataclasses import replace

from run_records import Run, recorded

from lightning_fastdata.stalls import conclude
from lightning_fastdata.stalls.json_form import summary_from_json
from lightning_fastdata.trace import LoaderRecord, RunRecord
from lightning_fastdata.trace.changes import PlanChange

MS = 10**6


def a_change(at_ns: int, before: int = 1, after: int = 2) -> PlanChange:
    return PlanChange(
        at_ns=at_ns,
        kind="grow" if after > before else "shrink",
        before=before,
        after=after,
        reason="The loop waited 40.0 % of the time.",
        stall_fraction=0.4,
        predicted_stall_fraction=0.1,
    )


def first_step_ns(record: RunRecord) -> int:
    return record.stall.timeline.buckets[0].began_ns


def test_a_run_without_changes_has_none() -> None:
    assert conclude(recorded(Run())).worker_changes == ()


def test_times_are_after_the_first_step_and_nothing_else_is_changed() -> None:
    record = recorded(Run())
    change = a_change(first_step_ns(record) + 70 * MS)
    record.loaders[0].changes = (change,)

    [told] = conclude(record).worker_changes

    assert (told.at_ns, told.loader) == (70 * MS, "")
    for name in ("kind", "before", "after", "reason", "stall_fraction"):
        assert getattr(told, name) == getattr(change, name)
    assert (told.predicted_stall_fraction, told.measured_stall_fraction) == (0.1, None)


def test_a_change_before_the_first_step_is_at_its_beginning() -> None:
    record = recorded(Run())
    record.loaders[0].changes = (a_change(first_step_ns(record) - 5),)

    assert [each.at_ns for each in conclude(record).worker_changes] == [0]


def test_changes_of_several_loaders_stand_in_order_of_time_each_with_its_loader() -> None:
    record = recorded(Run())
    began_ns = first_step_ns(record)
    [only] = record.loaders
    record.loaders = [
        LoaderRecord(
            setup=replace(only.setup, name=name),
            work=only.work,
            changes=tuple(a_change(began_ns + at_ns) for at_ns in times_ns),
        )
        for name, times_ns in (("images", (1, 30)), ("words", (20, 40)))
    ]

    told = [(each.loader, each.at_ns) for each in conclude(record).worker_changes]

    assert told == [("images", 1), ("words", 20), ("images", 30), ("words", 40)]


def test_changes_without_a_recorded_step_count_from_the_first_of_them() -> None:
    record = recorded(Run())
    record.stall.timeline.buckets.clear()
    record.loaders[0].changes = (a_change(10**15), a_change(10**15 + 3))

    assert [each.at_ns for each in conclude(record).worker_changes] == [0, 3]


def test_changes_survive_the_json() -> None:
    record = recorded(Run())
    record.loaders[0].changes = (a_change(first_step_ns(record)),)
    summary = conclude(record)

    assert summary_from_json(summary.to_json()).worker_changes == summary.worker_changes != ()
