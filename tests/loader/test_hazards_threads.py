"""Native libraries compute in one thread of a forked process, once that is told so."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import json, os, sys, types
import numpy as np
import threadpoolctl
from lightning_fastdata.loader.hazards.threads import THREAD_VARIABLES, limit_native_threads

matrix = np.ones((400, 400))
matrix @ matrix  # the threads of BLAS run before the fork
told = []
sys.modules["cv2"] = types.SimpleNamespace(setNumThreads=told.append)

def threads():
    return len(os.listdir("/proc/self/task"))

def worker():
    matrix @ matrix
    limits = [library["num_threads"] for library in threadpoolctl.threadpool_info()]
    variables = {name: os.environ[name] for name in THREAD_VARIABLES}
    facts = {"threads": threads(), "limits": limits, "variables": variables, "opencv": told}
    print(json.dumps(facts), flush=True)

def nursery():
    limit_native_threads()
    in_child(worker)

def in_child(run):
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(0)
    os.waitpid(child, 0)

in_child(nursery)
"""


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    """What a worker says whose nursery set the limits."""
    environment = {**os.environ, "MKL_NUM_THREADS": "3"}
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_worker_of_a_limited_nursery_multiplies_in_its_only_thread(facts: dict[str, Any]) -> None:
    assert facts["threads"] == 1
    assert facts["limits"]
    assert set(facts["limits"]) == {1}


def test_libraries_that_are_imported_later_find_the_limit(facts: dict[str, Any]) -> None:
    assert facts["variables"]["OMP_NUM_THREADS"] == "1"


def test_a_limit_of_the_users_is_kept(facts: dict[str, Any]) -> None:
    assert facts["variables"]["MKL_NUM_THREADS"] == "3"


def test_opencv_is_told_where_it_was_imported(facts: dict[str, Any]) -> None:
    assert facts["opencv"] == [0]
