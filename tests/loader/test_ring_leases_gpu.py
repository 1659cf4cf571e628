"""Leases on page-locked slots: none is written again before the device has read it."""

import contextlib
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from sample_sets import loader_of
from torch.utils.data import Dataset

from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.loader.ring.memory import Mapping, SlotFile, new_file
from lightning_fastdata.loader.ring.pinned import pin
from lightning_fastdata.loader.ring.ring import IN_USE

pytestmark = pytest.mark.gpu

CUDA: Any = torch.cuda  # half of it has no types

BATCHES = 60
ROW = 250_000  # float32: 2 MB a batch of 2, so that a copy takes longer than handing one over
BUSY_CYCLES = 20_000_000  # about 10 ms of an H100: far longer than workers take for a batch


class Rows(Dataset[torch.Tensor]):
    """Sample ``i`` is a row of the number ``i``."""

    def __len__(self) -> int:
        return 2 * BATCHES

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((ROW,), float(index))


@pytest.fixture
def loader() -> Iterator[FastDataLoader]:
    torch.zeros(1, device="cuda")  # slots are page-locked only where CUDA is in use
    loader = loader_of(Rows(), 2, num_workers=2, pin_memory=True)
    yield loader
    loader.close()
    torch.cuda.synchronize()


def wanted(number: int) -> list[float]:
    return [2.0 * number, 2.0 * number + 1]


def sums_of(copies: list[torch.Tensor]) -> list[tuple[list[float], list[float]]]:
    """The least and the largest of each row, which are equal where nothing was overwritten."""
    torch.cuda.synchronize()
    return [(copy.amin(1).tolist(), copy.amax(1).tolist()) for copy in copies]


def assert_right(copies: list[torch.Tensor]) -> None:
    assert sums_of(copies) == [(wanted(number), wanted(number)) for number in range(BATCHES)]


def test_slots_are_page_locked_from_the_second_batch_on(loader: FastDataLoader) -> None:
    pinned = [batch.is_pinned() for batch in loader]

    assert all(pinned[10:])
    assert not pinned[0]  # it is waited for, and page-locking takes long


def test_copies_of_batches_dropped_at_once_are_right_though_the_stream_is_busy(
    loader: FastDataLoader,
) -> None:
    copies = []
    for batch in loader:
        CUDA._sleep(BUSY_CYCLES)
        copies.append(batch.to("cuda", non_blocking=True))
        del batch

    assert_right(copies)


def test_copies_of_parts_of_dropped_batches_are_right(loader: FastDataLoader) -> None:
    copies = []
    for batch in loader:
        first, second = batch.unbind()
        del batch
        CUDA._sleep(BUSY_CYCLES)
        parts = [part.to("cuda", non_blocking=True) for part in (first, second)]
        del first, second
        copies.append(torch.stack(parts))

    assert_right(copies)


def test_copies_on_a_side_stream_that_is_current_when_the_batch_dies_are_right(
    loader: FastDataLoader,
) -> None:
    side, copies = CUDA.Stream(), []
    for batch in loader:
        with torch.cuda.stream(side):
            CUDA._sleep(BUSY_CYCLES)
            copies.append(batch.to("cuda", non_blocking=True))
            del batch

    assert_right(copies)


def test_copies_on_a_side_stream_are_right_where_the_loop_waits_for_them_before_dropping(
    loader: FastDataLoader,
) -> None:
    side, copies = CUDA.Stream(), []
    for batch in loader:
        with torch.cuda.stream(side):
            CUDA._sleep(BUSY_CYCLES)
            copies.append(batch.to("cuda", non_blocking=True))
        torch.cuda.current_stream().wait_stream(side)
        del batch

    assert_right(copies)


def test_copies_of_batches_that_another_thread_drops_are_right(loader: FastDataLoader) -> None:
    copies = []
    for batch in loader:
        CUDA._sleep(BUSY_CYCLES)
        copies.append(batch.to("cuda", non_blocking=True))
        dying = [batch]
        del batch
        thread = threading.Thread(target=dying.clear)
        thread.start()
        thread.join()

    assert_right(copies)


def test_copies_of_batches_that_the_garbage_collector_drops_are_right(
    loader: FastDataLoader,
) -> None:
    copies = []
    for batch in loader:
        CUDA._sleep(BUSY_CYCLES)
        copies.append(batch.to("cuda", non_blocking=True))
        cycle: list[Any] = [batch]
        cycle.append(cycle)
        del batch, cycle
        gc.collect(0)

    assert_right(copies)


def test_a_batch_may_die_while_a_graph_is_captured(loader: FastDataLoader) -> None:
    """An event recorded then would become a part of the graph."""
    copies, static = [], torch.zeros(2, ROW, device="cuda")
    for batch in loader:
        CUDA._sleep(BUSY_CYCLES)
        copies.append(batch.to("cuda", non_blocking=True))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            static.add_(1)
            del batch
        graph.replay()

    assert_right(copies)
    assert static.eq(BATCHES).all()


@pytest.mark.parametrize("when", ["before", "after"])
def test_copies_still_queued_when_the_loader_ends_are_right(
    loader: FastDataLoader, when: str
) -> None:
    batches: Any = iter(loader)
    for _ in range(9):
        next(batches)
    batch = next(batches)
    assert batch.is_pinned()

    for _ in range(100):
        CUDA._sleep(BUSY_CYCLES)
    copy = batch.to("cuda", non_blocking=True)
    if when == "before":
        del batch
    loader.close()
    batches.close()
    batch = None  # its slot is unmapped now, and the copy still waits in the queue

    assert sums_of([copy]) == [(wanted(9), wanted(9))]


def test_copies_to_a_device_that_is_not_the_current_one_are_right(
    loader: FastDataLoader,
) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    copies = []
    for batch in loader:
        with torch.cuda.device(1):
            CUDA._sleep(BUSY_CYCLES)
        copies.append(batch.to("cuda:1", non_blocking=True))
        del batch

    torch.cuda.synchronize(1)
    assert_right(copies)


def forget_last_error() -> None:
    """CUDA keeps the error of a refused call for the next kernel, which is none of its business."""
    with contextlib.suppress(RuntimeError):
        torch.ones(1, device="cuda")


def can_be_registered(mapping: Mapping) -> bool:
    runtime = CUDA.cudart()
    if int(runtime.cudaHostRegister(mapping.address, mapping.size, 0)) != 0:
        forget_last_error()
        return False
    runtime.cudaHostUnregister(mapping.address)
    return True


def end_of_its_name(mapping: Mapping) -> None:
    """Call what the mapping's end calls, while its memory is still there to look at."""
    mapping.__del__()
    mapping._unpin = None


def test_a_slot_is_unregistered_at_its_end() -> None:
    torch.zeros(1, device="cuda")
    file = SlotFile(new_file())
    mapping = file.mapped(2**20)
    mapping.bytes.fill_(0)

    assert pin(mapping) is None
    assert not can_be_registered(mapping)
    end_of_its_name(mapping)

    assert can_be_registered(mapping)
    file.close()


def test_a_slot_that_cannot_be_page_locked_breaks_nothing_else() -> None:
    torch.zeros(1, device="cuda")
    file = SlotFile(new_file())
    mapping = file.mapped(2**20)
    mapping.bytes.fill_(0)
    assert pin(mapping) is None
    same = Mapping.__new__(Mapping)
    same.address, same.size, same._unpin = mapping.address, mapping.size, None

    refused = pin(same)

    assert refused is not None
    assert refused.startswith("cudaHostRegister of 1.05 MB gave ")
    assert torch.ones(3, device="cuda").sum().item() == 3.0
    file.close()


def test_no_slot_stays_registered_after_its_loader_and_its_batches(
    loader: FastDataLoader,
) -> None:
    places = {batch.data_ptr() for batch in loader}
    assert len(places) < BATCHES

    loader.close()
    gc.collect()

    errors = [int(CUDA.cudart().cudaHostUnregister(place)) for place in places]
    forget_last_error()
    assert 0 not in errors


def test_slots_of_pinned_batches_are_used_again(loader: FastDataLoader) -> None:
    places = set()
    for batch in loader:
        places.add(batch.data_ptr())
        batch.to("cuda", non_blocking=True)

    assert len(places) <= loader.plan.prefetch_batches + IN_USE
