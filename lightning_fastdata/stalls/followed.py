"""Whether advice of an earlier run was followed, and whether its prediction held."""

from lightning_fastdata.stalls.figures import RunFacts
from lightning_fastdata.stalls.finding import FollowedAdvice, Setting, SettingChange
from lightning_fastdata.stalls.summary import StallSummary

OF_THE_LOADER = (
    "num_workers",
    "prefetch_factor",
    "persistent_workers",
    "pin_memory",
    "engine",
    "batch_size",
    "in_order",
)


def followed_advice(before: StallSummary | None, now: StallSummary) -> tuple[FollowedAdvice, ...]:
    """Set the predictions of an earlier run beside what this one measured.

    Advice counts as followed where all of its changes hold now, and did not hold then.
    """
    if before is None or before.stall_fraction is None or now.stall_fraction is None:
        return ()
    return tuple(
        FollowedAdvice(
            cause=finding.cause,
            changes=finding.changes,
            before_stall_fraction=before.stall_fraction,
            predicted_stall_fraction=finding.predicted_stall_fraction,
            measured_stall_fraction=now.stall_fraction,
        )
        for finding in before.findings
        if finding.changes
        and finding.predicted_stall_fraction is not None
        and all(_holds(change, now.run) for change in finding.changes)
        and not all(_holds(change, before.run) for change in finding.changes)
    )


def _holds(change: SettingChange, run: RunFacts | None) -> bool:
    return run is not None and any(_same(value, change.then) for value in _values(change.name, run))


def _same(value: Setting, wanted: Setting) -> bool:
    """``1`` and ``1.0`` are two things to a Trainer: a batch, and an epoch."""
    return type(value) is type(wanted) and value == wanted


def _values(name: str, run: RunFacts) -> list[Setting]:
    """What the loaders or the Trainer have an argument at."""
    if name in OF_THE_LOADER:
        values: list[Setting] = []
        for setup in run.loaders:
            if name == "prefetch_factor":
                workers = setup.num_workers
                values.append(setup.prefetch_batches // workers if workers else None)
            else:
                values.append(getattr(setup, name))
        return values
    return [value for key, value in run.settings if key == name]
