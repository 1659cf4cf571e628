"""What a dataset's samples are like: from what was counted to checks, without reading anything."""

from collections.abc import Sequence

from lightning_fastdata.checkup.again import Repeats
from lightning_fastdata.checkup.machine_checks import gib
from lightning_fastdata.checkup.result import Check, Outlier, SlowSample
from lightning_fastdata.checkup.subjects import Subject
from lightning_fastdata.checkup.tally import Tally
from lightning_fastdata.machine import Machine

BATCHES_IN_FLIGHT = 8  # what a ring has in flight with one or two workers
SLOW_TIMES = 20  # guess: a sample that takes as long as 20 others holds up its batch
SLOW_NS = 50_000_000  # guess: below it, a late sample hides behind a training step
_WAITS_FRACTION = 0.5  # of a sample's time; guess


def samples_of(count: int) -> str:
    """Return a number of samples in words."""
    return f"{count:,} sample{'' if count == 1 else 's'}"


def check_samples(subject: Subject, tally: Tally, stopped: str | None) -> list[Check]:
    """Say whether every sample can be made."""
    checks = []
    if stopped is not None:
        checks.append(
            Check(
                name="workers",
                level="error",
                found=f"the look at the samples ended after {tally.samples:,}: {stopped}",
                wanted="workers that make every sample",
                remedy="Try num_workers=0 (--num-workers 0) to meet the sample in this process.",
                dataset=subject.name,
            )
        )
    of_all = "" if subject.length in (None, tally.samples) else f", {subject.length:,} there are"
    seen = f"{tally.samples:,} looked at{of_all}"
    if tally.bad:
        count, first = len(tally.bad), min(tally.bad)
        checks.append(
            Check(
                name="samples",
                level="error",
                found=f"{samples_of(count)} cannot be made, the first is {first} ({seen})",
                wanted="samples that can all be made",
                remedy="Repair it, or leave it out in the dataset: the stream ends there."
                if subject.length is None
                else 'Repair or remove what is listed below, or train with on_bad_sample="skip".',
                dataset=subject.name,
            )
        )
    elif tally.samples:
        checks.append(
            Check(
                name="samples",
                level="ok",
                found=f"every one can be made ({seen})",
                dataset=subject.name,
            )
        )
    if tally.warned:
        first = min(tally.warned)
        checks.append(
            Check(
                name="warnings",
                level="note",
                found=f"{samples_of(len(tally.warned))} with a warning, the first is {first}: "
                f"{tally.warned[first][:200]}",
                remedy="Look at these samples; a warning may be damage that was read over.",
                dataset=subject.name,
            )
        )
    return checks


def check_shapes(subject: Subject, tally: Tally, outliers: Sequence[Outlier]) -> list[Check]:
    """Say whether the samples fit together into batches."""
    if tally.usual is None:
        return []
    refused = [
        Check(
            name="batches",
            level="error",
            found=f"sample {index} is {spec}, which torch's default collation refuses: {why[:200]}",
            wanted="tensors, arrays, numbers, strings, or lists, tuples and dicts of them",
            remedy="Convert it in the dataset, or pass a collate_fn.",
            dataset=subject.name,
        )
        for spec, (index, why) in list(tally.uncollatable.items())[:1]
    ]
    unlike = [one for one in outliers if one.found not in tally.uncollatable]
    if not unlike:
        alike = f"each sample is {tally.usual}"
        return refused or [Check(name="batches", level="ok", found=alike, dataset=subject.name)]
    found = (
        f"{samples_of(len(unlike))} unlike the others; most are {tally.usual}, "
        f"sample {unlike[0].index} is {unlike[0].found}"
    )
    own = not subject.collates_by_default
    return [
        *refused,
        Check(
            name="batches",
            level="note" if own else "error",
            found=found,
            wanted="what your collate_fn takes"
            if own
            else "equal samples, which torch's default collation can put into one batch",
            remedy=""
            if own
            else "Make them equal in the dataset (resize, pad, convert), or pass a collate_fn.",
            dataset=subject.name,
        ),
    ]


def check_times(subject: Subject, tally: Tally, slowest: Sequence[SlowSample]) -> list[Check]:
    """Say whether some samples take much longer than the others."""
    median_ns = tally.median_ns
    if median_ns is None or not slowest:
        return []
    top = slowest[0]
    found = (
        f"median {median_ns / 1e6:.3g} ms, slowest {top.wall_ns / 1e6:.3g} ms (sample {top.index})"
    )
    if top.wall_ns < SLOW_NS or top.wall_ns < SLOW_TIMES * median_ns:
        return [Check(name="times", level="ok", found=found, dataset=subject.name)]
    waits = top.cpu_ns < _WAITS_FRACTION * top.wall_ns
    return [
        Check(
            name="times",
            level="note",
            found=f"{found}, {'most of it waiting' if waits else 'most of it computing'}",
            wanted=f"under {SLOW_TIMES} times the median: a slow sample makes its batch late",
            remedy="Look at its file's size and at the storage, and run the doctor again: a cold "
            "disk is slow only once."
            if waits
            else "Look at the slowest samples below; make large files smaller beforehand.",
            dataset=subject.name,
        )
    ]


def check_batch_memory(subject: Subject, tally: Tally, machine: Machine) -> list[Check]:
    """Say whether the batches in flight fit into memory."""
    free_bytes = machine.memory_available_bytes
    batch_bytes = tally.sample_bytes * subject.batch_size
    if not batch_bytes or free_bytes is None:
        return []
    need_bytes = BATCHES_IN_FLIGHT * batch_bytes
    found = (
        f"a batch of {subject.batch_size} takes {gib(batch_bytes)}, "
        f"{BATCHES_IN_FLIGHT} in flight {gib(need_bytes)} of {gib(free_bytes)} free"
    )
    if need_bytes <= free_bytes // 2:
        return [Check(name="batch memory", level="ok", found=found, dataset=subject.name)]
    return [
        Check(
            name="batch memory",
            level="warning",
            found=found,
            wanted="at most half of the free memory",
            remedy="Use a smaller batch_size, fewer workers, or prefetch_factor=1.",
            dataset=subject.name,
        )
    ]


def check_repeats(subject: Subject, repeats: Repeats | None) -> list[Check]:
    """Say whether samples are the same for any number of workers."""
    if repeats is None:
        return []
    differing = sorted({*repeats.at_once, *repeats.elsewhere})
    if not differing:
        return [
            Check(
                name="repeats",
                level="ok",
                found=f"{repeats.samples} samples are the same to the bit in other processes and "
                "another order",
                dataset=subject.name,
            )
        ]
    count = f"{len(differing)} of {repeats.samples} samples, the first is {differing[0]},"
    if repeats.generators:
        why = f"draws come from {', '.join(repeats.generators[:3])}, which nobody seeds"
        remedy = "Draw from torch's default generator, numpy.random or random instead."
    elif repeats.at_once:
        why = (
            "made twice in a row from the same seeds, they differ: the dataset draws from another "
            "generator, counts or keeps something, or decodes differently each time"
        )
        remedy = (
            "Draw from torch's default generator, numpy.random or random, and change nothing in "
            "the dataset while a sample is made."
        )
    else:
        why = (
            "they depend on what was made before or on the process: the dataset keeps state from "
            "sample to sample, or uses the worker's number, the process or the time"
        )
        remedy = "Make each sample from its index and the three seeded generators alone."
    return [
        Check(
            name="repeats",
            level="warning",
            found=f"{count} differ when made again; {why}",
            wanted="the same samples for any number of workers and after a resume",
            remedy=remedy,
            dataset=subject.name,
        )
    ]
