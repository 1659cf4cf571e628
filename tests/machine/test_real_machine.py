"""The reader on the machine that runs the tests, against what others say of the same machine."""

import contextlib
import os
import subprocess
import sys

import psutil
import pytest

from lightning_fastdata.machine import read_machine


@pytest.mark.skipif(sys.platform != "linux", reason="needs affinity, which only Linux has")
def test_the_affinity_is_what_the_system_says_and_bounds_the_cores():
    machine = read_machine({})

    assert machine.affinity_cores <= len(os.sched_getaffinity(0))
    assert 0 < machine.cores <= machine.affinity_cores


def test_available_memory_lies_between_nothing_and_all_of_the_machine():
    machine = read_machine(os.environ)

    assert machine.memory_available_bytes is not None
    assert 0 < machine.memory_available_bytes <= psutil.virtual_memory().total


def is_open(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(descriptor)
        return True
    return False


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such descriptors")
def test_open_files_are_counted_without_the_counting_itself():
    machine = read_machine({})

    # Descriptors are given out from the lowest, so a test run holds none above these.
    assert machine.file_descriptors_open == sum(map(is_open, range(4096)))


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs /dev/shm")
def test_shared_memory_has_a_size_and_no_more_free_than_that():
    machine = read_machine({})

    assert machine.shm_total_bytes is not None
    assert machine.shm_free_bytes is not None
    assert 0 <= machine.shm_free_bytes <= machine.shm_total_bytes


def test_reading_imports_no_torch():
    program = (
        "import os, sys\n"
        "from lightning_fastdata.machine import facts, read_machine\n"
        "facts(read_machine(os.environ))\n"
        "assert 'torch' not in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True)
