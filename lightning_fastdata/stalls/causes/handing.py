"""Batches that are made in time, and take long to come over to the training process."""

from lightning_fastdata.stalls.case import LoaderCase
from lightning_fastdata.stalls.finding import Finding, SettingChange
from lightning_fastdata.stalls.thresholds import data_size, percent, spent


def slow_handing(about: LoaderCase, share_fraction: float) -> Finding | None:
    """Blame the way from a worker to the training process."""
    what_if = about.what_if
    if what_if is None:
        return None
    work, setup = what_if.workload, about.loader.setup
    sizes = [batch.size_bytes for batch in work.steady if batch.size_bytes]
    evidence = [
        f"{percent(work.handed_fraction)} of the waiting was for batches that a worker had made "
        f"already: {spent(work.handed_ns)} a step on average."
    ]
    way_ns = work.transit_ns + work.next_ns
    if sizes:
        size_bytes = sorted(sizes)[len(sizes) // 2]
        text = f"A batch holds {data_size(size_bytes)}."
        if way_ns:
            rate = data_size(size_bytes * 1e9 / way_ns)
            text = (
                f"A batch of {data_size(size_bytes)} takes {spent(way_ns)} to reach the training "
                f"process, {rate} a second."
            )
        evidence.append(text)
    changes: tuple[SettingChange, ...] = ()
    advice = "Send less: uint8 instead of float32 is a quarter"
    if about.case.has_device:
        advice += ", and the device can convert it"
    if setup.engine == "torch" or not setup.is_ours:
        where = "" if setup.is_ours else " of a FastDataLoader"
        advice = f'Use engine="ring"{where}, whose workers write into memory that is shared'
        changes = (SettingChange(name="engine", now=setup.engine, then="ring"),)
    return about.finding(
        "ipc",
        share_fraction,
        evidence,
        f"{advice}.",
        changes=changes,
        predicted=what_if.predicted_without_handing(),
    )
