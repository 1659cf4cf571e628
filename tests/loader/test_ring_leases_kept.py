"""Batches that are kept: right however many, alive without a loader, freed with their readers."""

import contextlib
import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ring_tools import answers, engine_of
from sample_sets import loader_of
from test_ring_leases import ROW_BYTES, Noise

from lightning_fastdata.loader.ring.budget import MemoryBudget
from lightning_fastdata.loader.ring.ring import IN_USE

MANY = 2**40  # bytes, more than any test takes


@pytest.fixture(autouse=True)
def _no_garbage_of_earlier_tests() -> None:
    gc.collect()


def slot_maps() -> int:
    """How many slots this process has mapped."""
    with open("/proc/self/maps") as maps:
        return sum("memfd:lightning_fastdata" in line for line in maps)


def slot_descriptors() -> int:
    """How many slots this process holds open."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            count += "memfd:lightning_fastdata" in os.readlink(f"/proc/self/fd/{number}")
    return count


def ring_of(dataset: Any, budget: MemoryBudget, *, depth: int = 4, batch_size: int = 2) -> Any:
    """All batches of one pass, through an engine with two workers."""
    engine = engine_of(dataset, budget, depth=depth)
    try:
        for answer in answers(engine, len(dataset) // batch_size, batch_size):
            yield answer.data
    finally:
        engine.close()


def test_slots_of_dropped_batches_are_used_again() -> None:
    loader = loader_of(Noise(300), 3, num_workers=2)

    places = [batch["row"].data_ptr() for batch in loader]

    assert len(places) == 100
    assert len(set(places)) <= slot_maps() <= loader.plan.prefetch_batches + IN_USE


def test_a_view_kept_of_each_batch_keeps_its_slot() -> None:
    data = Noise(60)

    kept = [batch["row"][1:, 3:9] for batch in loader_of(data, 3, num_workers=2)]

    assert len({view.data_ptr() for view in kept}) == 20
    for first, view in zip(range(0, 60, 3), kept, strict=True):
        assert torch.equal(view, torch.stack([data.row(first + 1), data.row(first + 2)])[:, 3:9])


def test_a_reader_who_keeps_all_batches_has_them_in_slots_within_the_budget() -> None:
    data, budget = Noise(80), MemoryBudget(MANY)

    batches = list(ring_of(data, budget))

    assert all(data.is_right(batch) for batch in batches)
    assert slot_maps() == len(batches) == 40


def test_a_reader_who_keeps_all_batches_gets_copies_beyond_the_budget() -> None:
    data, budget = Noise(400), MemoryBudget(40 * 2 * ROW_BYTES)

    used_bytes, batches = 0, []
    for batch in ring_of(data, budget):
        batches.append(batch)
        used_bytes = max(used_bytes, budget.used_bytes)

    assert all(data.is_right(batch) for batch in batches)
    assert used_bytes <= budget.total_bytes
    assert 4 <= slot_maps() < 40
    assert len({batch["row"].data_ptr() for batch in batches}) == len(batches) == 200


def test_more_batches_can_be_kept_than_this_process_may_open_files() -> None:
    """Each slot takes a descriptor, in this process and in others; 1,024 is the usual limit."""
    data, (soft, hard) = Noise(1200, 64), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 300, hard))

    try:
        batches = list(ring_of(data, MemoryBudget(MANY)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert len(batches) == 600
    assert all(data.is_right(batch) for batch in batches)


def close(loader: Any) -> None:
    loader.close()


def leave(loader: Any) -> None:
    """Do nothing: the caller drops it."""


@pytest.mark.parametrize("end", [close, leave])
@pytest.mark.parametrize("seen", [3, 20], ids=["half way", "to its end"])
def test_batches_outlive_their_loader_and_free_its_memory(
    seen: int, end: Callable[[Any], None]
) -> None:
    data = Noise(60)
    gc.collect()
    gc.disable()  # memory is free when the last name dies, not some time later
    try:
        loader = loader_of(data, 3, num_workers=2)
        batches: Any = iter(loader)
        kept = [next(batches) for _ in range(seen)]
        end(loader)
        del batches, loader

        assert all(data.is_right(batch) for batch in kept)
        assert slot_maps() == seen
        kept[1:] = [kept[1]["halves"][0][1:]]
        assert slot_maps() == 2
        kept.clear()
        assert slot_maps() == 0
    finally:
        gc.enable()


@pytest.mark.slow
def test_batches_may_still_be_held_when_the_interpreter_ends() -> None:
    """Leases then die in an interpreter that is half gone."""
    code = (
        "import torch; from torch.utils.data import TensorDataset\n"
        "from lightning_fastdata.loader.fast_data_loader import FastDataLoader\n"
        "data = TensorDataset(torch.arange(40))\n"
        "loader = FastDataLoader(data, 4, num_workers=1, engine='ring')\n"
        "batches = iter(loader); kept = [next(batches), next(batches)[0].numpy()]\n"
        "kept.append(kept); print(kept[1].tolist())\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout, done.stderr) == (0, "[4, 5, 6, 7]\n", "")


def test_a_batch_that_is_kept_holds_no_file_open() -> None:
    loader = loader_of(Noise(60), 3, num_workers=2)
    kept = list(loader)

    loader.close()

    assert slot_descriptors() == 0
    assert len(kept) == 20


def test_a_loader_serves_in_a_process_with_many_open_files() -> None:
    """``select`` refuses descriptors from 1,024 on."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2000:
        pytest.skip("needs a limit of 2,000 open files")
    data = Noise(12)
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]

    try:
        loader = loader_of(data, 3, num_workers=2, timeout=30)
        seen = [data.is_right(batch) for batch in loader]
        loader.close()
    finally:
        for descriptor in opened:
            os.close(descriptor)

    assert seen == 4 * [True]
