"""Leases on slots: no byte changes under a reader, and what nobody reads is used again."""

import gc
import os
import queue
import random
import threading
import weakref
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sample_sets import loader_of
from torch.utils.data import Dataset

from lightning_fastdata.loader.ring.budget import MemoryBudget
from lightning_fastdata.loader.ring.memory import SlotFile
from lightning_fastdata.loader.ring.slots import SlotPool

ROW_BYTES = 4096
MANY = 2**40  # bytes, more than any test takes
DTYPES = [torch.uint8, torch.bool, torch.float32, torch.bfloat16, torch.uint16, torch.complex64]

WAYS: list[Callable[[torch.Tensor], Any]] = [
    lambda tensor: tensor,
    lambda tensor: tensor[len(tensor) // 2 :],
    lambda tensor: tensor.view(torch.uint8),
    lambda tensor: tensor.view(torch.uint8).numpy(),
    lambda tensor: tensor.view(torch.uint8).numpy()[::3],
    lambda tensor: tensor.view(torch.uint8).numpy().data,
    lambda tensor: tensor.unbind()[-1],
    lambda tensor: tensor.t().unsqueeze(0) if tensor.ndim == 2 else tensor.unsqueeze(0),
    lambda tensor: tensor.untyped_storage(),
    lambda tensor: torch.utils.dlpack.from_dlpack(tensor.view(torch.uint8)),
    lambda tensor: iter([tensor.detach()]),
]


def checksum(kept: Any) -> int:
    if isinstance(kept, torch.UntypedStorage):
        kept = torch.empty(0, dtype=torch.uint8).set_(kept)
    if isinstance(kept, torch.Tensor):
        kept = kept.contiguous().flatten().view(torch.uint8).numpy()
    if not isinstance(kept, (np.ndarray, memoryview)):
        (kept,) = kept.__reduce__()[1]  # a list iterator's list, which is not used up so
        return checksum(kept[0])
    return zlib.crc32(np.asarray(kept).tobytes())


class Noise(Dataset[Any]):
    """Sample ``i`` is a row of noise, its sum, and a small structure of other dtypes."""

    def __init__(self, length: int, row_bytes: int = ROW_BYTES) -> None:
        self.length, self.row_bytes = length, row_bytes

    def __len__(self) -> int:
        return self.length

    def row(self, index: int) -> torch.Tensor:
        bytes_ = np.random.default_rng(index).integers(0, 256, self.row_bytes, dtype=np.uint8)
        return torch.from_numpy(bytes_)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.row(index)
        return {"row": row, "index": index, "halves": (row[:64].half(), row[:64].int().numpy())}

    def is_right(self, batch: dict[str, Any]) -> bool:
        rows = torch.stack([self.row(index) for index in batch["index"].tolist()])
        halves, ints = batch["halves"]
        return (
            bool(torch.equal(batch["row"], rows))
            and bool(torch.equal(halves, rows[:, :64].half()))
            and bool(torch.equal(ints, rows[:, :64].int()))
        )


class Readers(RuleBasedStateMachine):
    """Workers that write whatever slot they are lent, and readers who keep what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = MemoryBudget(MANY)
        self.pool = SlotPool(self.budget, 2, lambda slot: None)
        self.loans: weakref.WeakSet[Any] = weakref.WeakSet()
        self.most_lent = 0
        self.held: list[tuple[Any, int]] = []
        gc.freeze()  # what is older is none of our cycles, and takes long to look through
        gc.disable()  # it runs where a rule says so: elsewhere it would change what is counted

    @rule(
        rows=st.integers(1, 3),
        dtypes=st.lists(st.sampled_from(DTYPES), min_size=1, max_size=3),
        content=st.integers(0, 2**32),
    )
    def deliver(self, rows: int, dtypes: list[torch.dtype], content: int) -> None:
        slot = self.pool.take(needs_one=True)
        assert slot is not None
        size = 1024 * len(dtypes)
        writer = SlotFile(os.dup(slot.file.descriptor))
        noise = np.random.default_rng(content).integers(0, 2, size, dtype=np.uint8)
        writer.mapped(size).bytes[:size].copy_(torch.from_numpy(noise))
        writer.close()
        loan = self.pool.lend(slot, slot.file.mapped(size))
        for number, dtype in enumerate(dtypes):
            tensor = loan.tensor(1024 * number, dtype, (rows, 5))
            of = noise[1024 * number :][: tensor.nbytes]
            self.held.append((tensor, zlib.crc32(of.tobytes())))
        self.loans.add(loan)
        self.most_lent = max(self.most_lent, len(self.loans))

    @precondition(lambda self: self.held)
    @rule(which=st.randoms(use_true_random=False), way=st.sampled_from(WAYS))
    def keep_only_a_part(self, which: random.Random, way: Callable[[Any], Any]) -> None:
        whole, was = self.held.pop(which.randrange(len(self.held)))
        assert checksum(whole) == was
        part = way(whole) if isinstance(whole, torch.Tensor) and whole.ndim == 2 else whole
        self.held.append((part, checksum(part)))

    @precondition(lambda self: self.held)
    @rule(which=st.randoms(use_true_random=False), how=st.sampled_from(["here", "thread", "cycle"]))
    def drop(self, which: random.Random, how: str) -> None:
        dying = [self.held.pop(which.randrange(len(self.held)))[0]]
        if how == "thread":
            thread = threading.Thread(target=dying.clear)
            thread.start()
            thread.join()
        elif how == "cycle":
            dying.append(dying)

    @rule()
    def collect_garbage(self) -> None:
        gc.collect()

    @invariant()
    def nothing_held_has_changed(self) -> None:
        for kept, was in self.held:
            assert checksum(kept) == was

    @invariant()
    def there_are_no_more_slots_than_were_ever_read_at_once(self) -> None:
        assert len(self.pool._slots) <= self.most_lent

    def teardown(self) -> None:
        self.nothing_held_has_changed()
        self.held.clear()
        self.pool.close()
        gc.collect()
        gc.enable()
        gc.unfreeze()
        assert self.budget.used_bytes == 0


TestWhateverReadersKeepNeverChanges = Readers.TestCase
TestWhateverReadersKeepNeverChanges.settings = settings(max_examples=40, stateful_step_count=25)


@pytest.mark.parametrize("chosen", range(3))
def test_what_is_kept_of_batches_from_workers_never_changes(chosen: int) -> None:
    """Dropped in this thread, in another one, and by the garbage collector."""
    luck, data = random.Random(chosen), Noise(600)
    grave: queue.SimpleQueue[Any] = queue.SimpleQueue()
    changed: list[Any] = []

    def bury() -> None:
        while (dying := grave.get()) is not None:
            if checksum(dying[0]) != dying[1]:
                changed.append(dying[1])
            del dying

    undertaker = threading.Thread(target=bury)
    undertaker.start()
    held: list[tuple[Any, int]] = []
    for batch in loader_of(data, 3, shuffle=True, num_workers=2, prefetch_factor=3):
        assert data.is_right(batch)
        for part in (batch["row"], *batch["halves"]):
            kept = luck.choice(WAYS)(part)
            held.append((kept, checksum(kept)))
        while held and luck.random() < 0.72:
            dying = held.pop(luck.randrange(len(held)))
            assert checksum(dying[0]) == dying[1]
            way = luck.randrange(3)
            if way == 1:
                grave.put(dying)
            elif way == 2:
                cycle: list[Any] = [dying]
                cycle.append(cycle)
            del dying
    grave.put(None)
    undertaker.join()

    assert not changed
    assert len(held) > 5
    assert all(checksum(kept) == was for kept, was in held)
