"""Workers never push the training process off its core, and leave other choices alone."""

import os
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
from sample_sets import Numbers, loader_of


def policies() -> set[int]:
    family = psutil.Process().children(recursive=True)
    assert len(family) == 3  # the nursery and two workers
    return {os.sched_getscheduler(each.pid) for each in family}


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_nursery_and_workers_wait_for_a_core_and_the_training_process_stays_as_it_was(
    method: str,
) -> None:
    loader = loader_of(Numbers(40), num_workers=2, multiprocessing_context=method)
    batches = iter(loader)
    next(batches)

    assert policies() == {os.SCHED_BATCH}
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    loader.close()


IDLE = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
from sample_sets import Numbers, loader_of
from test_ring_priority import policies
loader = loader_of(Numbers(40), num_workers=2)
batches = iter(loader)
next(batches)
print(policies() == {os.SCHED_IDLE})
loader.close()
"""


@pytest.mark.slow
def test_who_runs_a_program_at_idle_priority_has_idle_workers() -> None:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])

    said = subprocess.check_output(
        [sys.executable, "-c", IDLE], text=True, env={**os.environ, "PYTHONPATH": path}
    )

    assert said == "True\n"


def test_where_the_system_refuses_batches_come_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("seccomp")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    loader = loader_of(Numbers(40), num_workers=2)

    assert [number for batch in loader for number in batch.tolist()] == list(range(40))
    assert policies() == {os.SCHED_OTHER}
    loader.close()
