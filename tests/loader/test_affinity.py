"""Workers stay on the cores that they are given; the training process is left where it was."""

import os
import signal
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from ring_tools import answers
from sample_sets import Numbers

from lightning_fastdata.loader.make import recipe_of
from lightning_fastdata.loader.ring.ring_engine import RingEngine
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.plan import StartMethod

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")

FIRST = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
NO_CORE = 8191  # a number that the kernel takes, of a core that no machine of ours has


class Cores(Numbers):
    """Samples tell on which cores the worker's threads may run, and who the worker is."""

    def __getitem__(self, index: int) -> torch.Tensor:
        threads = torch.get_num_threads()
        allowed = sorted(os.sched_getaffinity(0))
        others = {
            core
            for task in os.listdir("/proc/self/task")
            for core in os.sched_getaffinity(int(task))
        }
        return torch.tensor([os.getpid(), len(allowed), allowed[0], len(others), threads])


class Threaded(Numbers):
    """Samples are made beside a thread that the dataset starts.

    Not one of torch's: in a fork of a process that computed with several, they may hang.
    """

    def __getitem__(self, index: int) -> torch.Tensor:
        end = threading.Event()
        beside = threading.Thread(target=end.wait)
        beside.start()
        tasks = [int(task) for task in os.listdir("/proc/self/task")]
        cores = {core for task in tasks for core in os.sched_getaffinity(task)}
        end.set()
        beside.join()
        return torch.tensor([len(tasks), len(cores), min(cores)])


def engine_on(
    cores: tuple[int, ...] | None,
    dataset: Numbers,
    *,
    num_workers: int = 2,
    start_method: StartMethod = "fork",
) -> RingEngine:
    return RingEngine(
        recipe_of(dataset, None, None, batched=True),
        RingSettings(num_workers=num_workers, chunk_samples=1, worker_cores=cores),
        start_method=start_method,
        depth=4,
        budget=None,
    )


def samples(engine: RingEngine, batches: int = 12) -> Iterator[np.ndarray]:
    for batch in answers(engine, batches, batch_size=2):
        yield from batch.data.numpy().copy()


@pytest.mark.parametrize("start_method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_every_worker_stays_on_its_cores_and_the_training_process_keeps_its_own(
    start_method: StartMethod,
) -> None:
    before = os.sched_getaffinity(0)
    engine = engine_on((FIRST,), Cores(400), start_method=start_method)

    rows = list(samples(engine))
    engine.close()

    assert {tuple(row[1:4]) for row in rows} == {(1, FIRST, 1)}
    assert os.sched_getaffinity(0) == before


def test_without_cores_workers_run_where_the_training_process_may() -> None:
    engine = engine_on(None, Cores(400))

    rows = list(samples(engine, 4))
    engine.close()

    assert {row[1] for row in rows} == {len(os.sched_getaffinity(0))}


def test_a_worker_computes_in_one_thread_whatever_its_cores() -> None:
    engine = engine_on(tuple(sorted(os.sched_getaffinity(0))), Cores(400))

    rows = list(samples(engine, 4))
    engine.close()

    assert {row[4] for row in rows} == {1}


def test_threads_that_a_worker_starts_stay_on_its_cores_too() -> None:
    engine = engine_on((FIRST,), Threaded(400), num_workers=1)

    *_, (threads, cores, first) = samples(engine, 4)
    engine.close()

    assert threads > 1
    assert (cores, first) == (1, FIRST)


def test_a_worker_that_replaces_a_dead_one_stays_there_too() -> None:
    engine = engine_on((FIRST,), Cores(400), num_workers=1)
    stream = samples(engine, 60)
    dead = int(next(stream)[0])
    os.kill(dead, signal.SIGKILL)

    with pytest.warns(UserWarning, match="worker"):
        rows = [row for row in stream if row[0] != dead]
    engine.close()

    assert {tuple(row[1:4]) for row in rows} == {(1, FIRST, 1)}


def test_cores_that_are_refused_are_said_once_and_workers_go_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    engine = engine_on((NO_CORE,), Cores(400), num_workers=2)

    rows = list(samples(engine))
    engine.close()

    assert {row[1] for row in rows} == {len(os.sched_getaffinity(0))}
    assert capfd.readouterr().err.count("workers run on any core: found") == 1
