"""What the start of a run and of each epoch costs."""

from lightning_fastdata.stalls.case import Case
from lightning_fastdata.stalls.finding import Finding, SettingChange
from lightning_fastdata.stalls.thresholds import percent, spent


def slow_starts(case: Case) -> Finding | None:
    """Blame the time to the first batch of later epochs, or of the run."""
    return _later_epochs(case) or _first_batch(case)


def _later_epochs(case: Case) -> Finding | None:
    epochs = [
        each for each in case.record.stall.epochs if each.epoch > 0 and each.start_ns is not None
    ]
    start_ns = sum(each.start_ns or 0 for each in epochs)
    wall_ns = start_ns + sum(each.wall_ns for each in epochs)
    if not epochs or not wall_ns or start_ns < case.limits.epoch_start_fraction * wall_ns:
        return None
    share = start_ns / wall_ns
    evidence = [
        f"Each later epoch took {spent(start_ns / len(epochs))} to its first batch, "
        f"{percent(share)} of the epoch."
    ]
    restarted = [
        loader.setup
        for loader in case.record.loaders
        if loader.setup.num_workers and not loader.setup.persistent_workers
    ]
    changes: tuple[SettingChange, ...] = ()
    if case.record.settings.get("reload_dataloaders_every_n_epochs"):
        now = case.record.settings["reload_dataloaders_every_n_epochs"]
        changes = (SettingChange(name="reload_dataloaders_every_n_epochs", now=now, then=0),)
        advice = f"reload_dataloaders_every_n_epochs {now} -> 0: loaders are made anew each time."
    elif restarted:
        workers = sum(setup.num_workers for setup in restarted)
        changes = (SettingChange(name="persistent_workers", now=False, then=True),)
        advice = f"persistent_workers False -> True: {workers} workers start again each epoch."
    else:
        advice = (
            'Make epochs longer, or let several workers make each batch (engine="ring"): an '
            "epoch's first batch is waited for in full."
        )
    return Finding(
        cause="epoch_start",
        stall_fraction=min(1.0, share),
        evidence=tuple(evidence),
        advice=advice,
        changes=changes,
    )


def _first_batch(case: Case) -> Finding | None:
    first_ns, limits = case.summary.first_batch_ns, case.limits
    if first_ns is None or first_ns < limits.first_batch_ns:
        return None
    epochs = case.record.stall.epochs
    whole_ns = first_ns + sum(each.wall_ns for each in epochs)
    whole_ns = max(whole_ns, first_ns + case.summary.wall_ns)
    share = first_ns / whole_ns
    if share < limits.first_batch_fraction:
        return None
    return Finding(
        cause="epoch_start",
        stall_fraction=min(1.0, share),
        evidence=(f"The run's first batch took {spent(first_ns)}, {percent(share)} of the run.",),
        advice="Move what workers do at their start out of it: imports, reading indexes, opening "
        "files. Starting by fork instead of spawn imports nothing again.",
    )
