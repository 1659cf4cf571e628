"""The nursery may be killed at any time: another one makes all again that was under way."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fault_passes import (
    Pass,
    end,
    go_over,
    kill_nursery_after,
    nursery,
    told_of,
    wait_until,
    workers_at_rest,
)
from fault_sets import ALWAYS, Good, Harmful, HarmfulDraws, SharedCount, nothing
from sample_sets import loader_of, plain
from torch.utils.data import BatchSampler, Dataset, SequentialSampler

from lightning_fastdata.errors import WorkerError, WorkerWarning

LENGTH = 60
WANTED = Good(LENGTH)


def kill_the_nursery() -> None:
    """From a worker, which is killed with it."""
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def from_a_sample(at: int, times: int = 1, **how: Any) -> Pass:
    dataset = HarmfulDraws(kill_the_nursery, at=at, times=times, length=LENGTH)
    return go_over(dataset, num_workers=2, **how)


@pytest.mark.parametrize("at", [0, 31, LENGTH - 1])
def test_a_nursery_killed_in_a_sample_changes_no_bit_of_an_epoch(at: int) -> None:
    told = from_a_sample(at)

    assert told.error is None
    assert told.batches == go_over(WANTED).batches


def test_the_death_of_a_nursery_is_told_with_its_signal() -> None:
    (words,) = from_a_sample(0).warned

    assert words.startswith("WorkerWarning: the process that runs the workers (")
    assert "was killed by SIGKILL" in words


def test_a_nursery_killed_thrice_before_any_batch_is_survived() -> None:
    told = from_a_sample(0, times=3)

    assert told.error is None
    assert told.batches == go_over(WANTED).batches


def test_a_nursery_killed_four_times_in_a_row_is_an_error_and_no_loop() -> None:
    told = from_a_sample(0, times=ALWAYS)

    assert type(told.error) is WorkerError
    assert "the 4th failure without a batch in between" in told.words


def test_a_nursery_killed_after_every_other_batch_is_survived() -> None:
    dataset = HarmfulDraws(nothing, length=LENGTH)

    told = go_over(dataset, num_workers=2, during=kill_nursery_after(*range(0, 15, 2)))

    assert told.error is None
    assert told.batches == go_over(WANTED).batches


def test_a_nursery_killed_between_two_passes_changes_no_bit_of_the_next() -> None:
    loader = loader_of(
        HarmfulDraws(nothing, length=LENGTH), num_workers=2, engine="ring", shuffle=True
    )
    came = [plain(batch) for batch in loader]

    with told_of(WorkerWarning, match="SIGKILL"):
        end(nursery())
        came += [plain(batch) for batch in loader]

    loader.close()
    assert came == go_over(WANTED, shuffle=True, passes=2).batches


def test_a_nursery_killed_with_in_order_false_loses_and_repeats_nothing() -> None:
    told = from_a_sample(31, in_order=False)

    assert sorted(told.numbers) == list(range(LENGTH))


def test_a_nursery_killed_while_bad_samples_are_skipped_changes_no_bit() -> None:
    class Worse(HarmfulDraws):
        def __getitem__(self, index: int) -> Any:
            if index in (3, 40):
                raise OSError("broken")
            return super().__getitem__(index)

    how: dict[str, Any] = {"on_bad_sample": "skip", "max_bad_fraction": 0.1, "shuffle": True}
    wanted = go_over(Worse(nothing, length=LENGTH), **how)

    told = go_over(Worse(kill_the_nursery, length=LENGTH), num_workers=2, **how)

    assert told.error is None
    assert told.batches == wanted.batches
    assert told.bad == wanted.bad


def test_kept_batches_stay_as_they_are_when_the_nursery_dies() -> None:
    dataset = Harmful(nothing, length=LENGTH)
    loader = loader_of(dataset, num_workers=2, engine="ring")
    kept = []

    with told_of(WorkerWarning):
        for number, batch in enumerate(loader):
            kept.append(batch)
            if number in (1, 4):
                end(nursery())
            del batch
    loader.close()

    assert [plain(batch) for batch in kept] == go_over(dataset).batches


def test_a_nursery_that_was_stopped_and_killed_leaves_no_worker() -> None:
    """The kernel ends the workers with it; the test's own fixture sees that none is left."""
    loader = loader_of(Harmful(nothing), num_workers=2, engine="ring")
    batches = iter(loader)
    next(batches)

    with told_of(WorkerWarning):
        workers = workers_at_rest()
        nursery().send_signal(signal.SIGSTOP)
        end(nursery())
        wait_until(lambda: not any(one.is_running() for one in workers))
        rest = list(batches)

    loader.close()
    assert len(rest) == 99


class Record:
    """A batch of a class of its own."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values


class ByName(Dataset[Any]):
    def __len__(self) -> int:
        return 26

    def __getitem__(self, name: str) -> Any:
        return name, ord(name)


NAMES = [chr(ord("a") + k) for k in range(26)]


def test_a_fresh_interpreter_makes_the_rest_to_the_bit() -> None:
    told = go_over(WANTED, num_workers=2, during=kill_nursery_after(2))

    assert told.error is None
    assert told.batches == go_over(WANTED).batches


@pytest.mark.slow
def test_a_fresh_interpreter_is_given_the_keys_of_a_sampler_and_makes_objects() -> None:
    how: dict[str, Any] = {
        "batch_sampler": BatchSampler(NAMES, 2, False),
        "collate_fn": lambda samples: Record(samples),
        "prefetch_factor": 4,
    }
    values: list[Any] = []
    loader = loader_of(ByName(), num_workers=1, engine="ring", **how)

    with told_of(WorkerWarning):
        for number, batch in enumerate(loader):
            assert type(batch) is Record
            values += batch.values
            if number == 0:
                end(nursery())
    loader.close()

    assert values == [(name, ord(name)) for name in NAMES]


def test_a_sampler_that_gives_indices_is_not_asked_again_for_what_it_gave() -> None:
    asked = SharedCount()

    class Asked(SequentialSampler):
        def __iter__(self) -> Any:
            for index in super().__iter__():
                asked.add()
                yield index

    dataset = HarmfulDraws(kill_the_nursery, length=LENGTH)
    told = go_over(dataset, num_workers=2, sampler=Asked(range(LENGTH)))

    assert told.error is None
    assert int(asked) == LENGTH


MAIN = """
import os, signal, sys, warnings
import psutil
from torch.utils.data import Dataset
from lightning_fastdata import FastDataLoader

warnings.simplefilter("ignore")


class Key:
    def __init__(self, number):
        self.number = number


class Of(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, key):
        return Pair(key.number)


class Pair:
    def __init__(self, number):
        self.number = number


keys = [Key(number) for number in range(40)]
loader = FastDataLoader(
    Of(), 4, sampler=keys, num_workers=2, engine="ring", multiprocessing_context="fork",
    collate_fn=lambda samples: samples,
)
came = []
for number, batch in enumerate(loader):
    assert all(type(one) is Pair for one in batch)
    came += [one.number for one in batch]
    if number == 1:
        psutil.Process().children()[0].kill()
loader.close()
print(came == list(range(40)))
"""


@pytest.mark.slow
def test_keys_and_samples_of_the_main_module_survive_the_nursery(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(MAIN)

    ran = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False
    )

    assert ran.stdout == "True\n", ran.stderr
