"""What keeps a CUDA device waiting although batches are there."""

from lightning_fastdata.stalls.case import Case
from lightning_fastdata.stalls.finding import Finding, SettingChange
from lightning_fastdata.stalls.thresholds import percent, spent
from lightning_fastdata.stalls.work_figures import lines_of_part
from lightning_fastdata.trace import Part

LEAST_SYNC_FRACTION = 0.01  # guess: less is not worth a line


def exposed_transfer(case: Case) -> Finding | None:
    """Blame copies to the device, and pageable memory where batches lie in it."""
    summary = case.summary
    if not case.is_cuda or not summary.wall_ns or not summary.steps:
        return None
    share = summary.transfer_ns / summary.wall_ns
    if share < case.limits.transfer_fraction:
        return None
    each = f"Copies to the device take {spent(summary.transfer_ns / summary.steps)} of a step"
    unpinned = [each for each in case.record.loaders if not each.setup.pin_memory]
    if unpinned:
        return Finding(
            cause="pinning",
            stall_fraction=min(1.0, share),
            evidence=(
                f"{each}, {percent(share)} of the time, and come from pageable memory, "
                "for which the process waits each time.",
            ),
            advice="pin_memory False -> True: copies from page-locked memory run beside the "
            "model's work.",
            changes=(SettingChange(name="pin_memory", now=False, then=True),),
        )
    return Finding(
        cause="transfer",
        stall_fraction=min(1.0, share),
        evidence=(f"{each}, {percent(share)} of the time, with nothing computing meanwhile.",),
        advice="Send less, or earlier: uint8 instead of float32 is a quarter, and a "
        "FastDataLoader copies the next batch while the model works on this one.",
    )


def waits_for_device(case: Case) -> Finding | None:
    """Blame a loop that waits for the device in each step, so that nothing is queued ahead."""
    summary, limits = case.summary, case.limits
    if not case.is_cuda or not summary.wall_ns or not case.waits_for_device:
        return None
    if summary.exposed_stall_ns > limits.sync_wait_fraction * summary.wall_ns:
        return None  # the device is idle for want of a batch, and would be in any loop
    other_ns = summary.other_host_ns - summary.checkpoint_ns - summary.logging_ns
    share = (summary.exposed_stall_ns + other_ns) / summary.wall_ns
    if share < LEAST_SYNC_FRACTION:
        return None
    evidence = [
        f"At {percent(summary.drained_fraction or 0.0)} of steps the device had done all its work "
        "before the loop asked for the next batch: nothing is queued ahead.",
        f"So {percent(share)} of the time, that in which the process fetches and prepares, is lost "
        "on the device.",
    ]
    lines = [*lines_of_part(case.record, Part.COMPUTE), *lines_of_part(case.record, Part.OTHER)]
    lines = [line for line in lines if _waits(line.text)]
    where = "something in the training step, such as `.item()`, `.cpu()` or `print(loss)`"
    if lines:
        where = f"{lines[0].file}:{lines[0].line} `{lines[0].text}`"
        evidence.append(f"{percent(lines[0].fraction)} of looks found the process at {where}.")
    return Finding(
        cause="host_sync",
        stall_fraction=min(1.0, share),
        evidence=tuple(evidence),
        advice=f"Take out what waits for the device each step: {where}. Keep values as tensors, "
        "and read them every 50 steps.",
        predicted_stall_fraction=0.0,
    )


def _waits(text: str) -> bool:
    return any(sign in text for sign in (".item()", ".cpu()", ".numpy()", ".tolist()", "synchron"))
