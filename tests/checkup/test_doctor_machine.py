"""What the doctor says of machines: each limit that costs speed or a run has its level."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from check_sets import looked_at

from lightning_fastdata.checkup.cuda import ask_cuda, check_cuda
from lightning_fastdata.checkup.machine_checks import check_machine, gib
from lightning_fastdata.checkup.result import Check
from lightning_fastdata.checkup.versions import check_versions, installed_versions
from lightning_fastdata.machine import Machine
from lightning_fastdata.machine.limits import Limits, read_limits

GOOD = Machine(
    cores=8.0,
    cores_reason="8 cores: affinity allows 8 cores.",
    affinity_cores=8,
    quota_cores=None,
    local_world_size=1,
    memory_available_bytes=60 * 2**30,
    memory_total_bytes=64 * 2**30,
    memory_reason="60 GiB: MemAvailable.",
    shm_total_bytes=32 * 2**30,
    shm_free_bytes=32 * 2**30,
    file_descriptors_soft=20_000,
    file_descriptors_hard=20_000,
    file_descriptors_open=10,
    platform="linux",
    cpu_model=None,
    accelerators=None,
)
UNLIMITED = Limits(
    address_space_bytes=None, data_bytes=None, locked_memory_bytes=None, processes=None
)


def checks(
    machine: Machine = GOOD,
    limits: Limits | None = UNLIMITED,
    *,
    oom_kills: int | None = 0,
    ring_problem: str | None = None,
    start_method: str = "fork",
    threads: int = 1,
) -> dict[str, Check]:
    found = check_machine(
        machine,
        limits,
        oom_kills=oom_kills,
        ring_problem=ring_problem,
        start_method=start_method,
        threads=threads,
    )
    return {check.name: check for check in found}


def test_a_good_machine_has_nothing_to_remark() -> None:
    assert {check.level for check in checks().values()} == {"ok"}


def test_what_is_not_ok_always_says_what_to_do() -> None:
    poor = replace(GOOD, cores=1.0, memory_available_bytes=2**20, shm_free_bytes=0)
    poor = replace(poor, file_descriptors_soft=256)
    tight = replace(UNLIMITED, address_space_bytes=2**30, processes=20)

    found = checks(poor, tight, oom_kills=3, ring_problem="this is no Linux", threads=4).values()

    assert all(check.wanted and check.remedy for check in found if check.level != "ok")
    assert sum(check.level != "ok" for check in found) == 9


def test_a_quota_below_the_affinity_is_a_note() -> None:
    cores = checks(replace(GOOD, cores=4.0, quota_cores=4.0, affinity_cores=64))["cores"]

    assert cores.level == "note"
    assert "programs that count cores see 64" in cores.found
    assert "OMP_NUM_THREADS=4" in cores.remedy


def test_little_shared_memory_matters_only_without_the_ring() -> None:
    small = replace(GOOD, shm_total_bytes=64 * 2**20, shm_free_bytes=64 * 2**20)

    assert checks(small)["/dev/shm"].level == "note"
    assert checks(small, ring_problem="no memfd")["/dev/shm"].level == "warning"


def test_few_open_files_name_the_limit_that_can_be_set() -> None:
    files = checks(replace(GOOD, file_descriptors_soft=256, file_descriptors_hard=4096))

    assert files["open files"].level == "warning"
    assert "ulimit -n 4096" in files["open files"].remedy


def test_kills_for_memory_are_told_with_their_number() -> None:
    assert "3 times" in checks(oom_kills=3)["kills for memory"].found
    assert checks(oom_kills=None)["kills for memory"].found == "not measured"


def test_a_fork_beside_other_threads_is_a_note() -> None:
    assert checks(threads=2)["start method"].level == "note"
    assert checks(threads=2, start_method="spawn")["start method"].level == "ok"


ANSWER: dict[str, Any] = {"built_for": "12.8", "devices": [], "problem": None}


@pytest.mark.parametrize(
    ("answer", "accelerators", "level", "words"),
    [
        (ANSWER, None, "ok", "none; batches stay on the host"),
        (
            ANSWER,
            ("H100",),
            "warning",
            "the driver shows 1 (H100), torch sees none (built for CUDA",
        ),
        (
            {**ANSWER, "built_for": None},
            ("H100",),
            "warning",
            "torch sees none (built without CUDA",
        ),
        ({"failed": "no answer"}, None, "warning", "no answer"),
        (
            {**ANSWER, "devices": ["H100"] * 2, "copy_bytes_per_s": 5.2e10},
            ("H100",) * 2,
            "ok",
            "2 (H100); page-locked memory works (52.0 GB/s)",
        ),
        (
            {**ANSWER, "devices": ["H100"], "problem": "RuntimeError: out of memory"},
            ("H100",),
            "warning",
            "1 (H100); page-locking memory failed: RuntimeError: out of memory",
        ),
    ],
)
def test_gpus_and_page_locking_are_judged(
    answer: dict[str, Any], accelerators: Any, level: str, words: str
) -> None:
    check = check_cuda(answer, accelerators)

    assert check.level == level
    assert words in check.found


@pytest.mark.slow
def test_torch_is_asked_for_gpus_in_a_process_of_its_own() -> None:
    answer = ask_cuda()

    assert answer["problem"] is None
    assert answer["built_for"] == (torch.version.cuda or torch.version.hip)


@pytest.mark.gpu
def test_page_locking_is_tried_without_starting_cuda_here() -> None:
    program = (
        "import torch; from lightning_fastdata import doctor\n"
        "print(doctor().facts['gpu']['copy_bytes_per_s'] > 0, torch.cuda.is_initialized())"
    )

    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "True False\n"


def test_a_stolen_release_is_an_error_and_a_missing_package_a_warning() -> None:
    versions: dict[str, str | None] = {"python": "3.11", "lightning": "2.6.3"}

    assert check_versions(versions)[0].level == "error"
    assert check_versions({"torch": None})[0].level == "warning"
    assert check_versions({"torch": "2.14"})[0].level == "ok"


def test_versions_name_what_is_installed_here() -> None:
    versions = installed_versions()

    assert {"python", "torch", "torchvision", "lightning", "simplejpeg"} <= versions.keys()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_limits_are_what_the_shell_says() -> None:
    program = (
        "import resource; from lightning_fastdata.machine.limits import read_limits\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**36, 2**36))\n"
        "print(read_limits().address_space_bytes)"
    )

    printed = subprocess.check_output([sys.executable, "-c", program], text=True)

    assert int(printed) == 2**36
    assert read_limits() is not None


def test_a_look_at_the_machine_alone_names_no_dataset() -> None:
    report = looked_at(None)

    assert {check.dataset for check in report.checks} == {None}
    assert report.facts["datasets"] == []


def test_the_programs_start_method_stays_open() -> None:
    program = (
        "import multiprocessing; from lightning_fastdata import doctor; doctor()\n"
        "multiprocessing.set_start_method('spawn')"
    )

    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ})


@pytest.mark.parametrize(
    ("number_bytes", "text"),
    [(0, "0 bytes"), (2048, "2 KiB"), (3 * 2**20, "3 MiB"), (1.5 * 2**30, "1.5 GiB")],
)
def test_bytes_come_in_the_unit_that_suits_them(number_bytes: float, text: str) -> None:
    assert gib(number_bytes) == text
