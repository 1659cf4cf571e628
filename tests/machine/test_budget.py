"""The most workers of a rank, under the limits that launchers and containers set."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_captured_systems import readings_of

from lightning_fastdata.machine import worker_budget
from lightning_fastdata.machine.readings import Readings, machine_from

CGROUP_TEXTS = {
    "/proc/self/cgroup": "0::/\n",
    "/proc/self/mountinfo": (
        "1028 1027 0:29 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw\n"
    ),
}
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_CPUS_PER_TASK": "8",
    "SLURM_CPUS_ON_NODE": "32",
    "SLURM_STEP_TASKS_PER_NODE": "4",
}


def budget_of(readings: Readings) -> tuple[int, str]:
    machine = machine_from(readings)
    return worker_budget(machine.cores, machine.cores_reason)


def test_a_container_with_2_5_of_64_cores_has_5_workers() -> None:
    texts = CGROUP_TEXTS | {"/sys/fs/cgroup/cpu.max": "250000 100000\n"}

    most, why = budget_of(readings_of(texts, 64))

    assert most == 5
    assert why == (
        "at most 5, 2 a core of 2.5 cores: the cgroup quota in /sys/fs/cgroup/cpu.max is 2.5 cores "
        "of CPU time (no tighter: affinity allows 64 cores)."
    )


@pytest.mark.parametrize("bound", [8, 64])
def test_a_slurm_task_of_8_cpus_has_16_workers_bound_to_them_or_not(bound: int) -> None:
    readings = replace(
        readings_of({}, 64), affinity_cores=bound, parent_affinity_cores=bound, environ=SLURM
    )

    assert budget_of(readings)[0] == 16


def test_torchrun_shares_128_cores_among_8_ranks() -> None:
    readings = replace(readings_of({}, 128), environ={"LOCAL_WORLD_SIZE": "8", "LOCAL_RANK": "3"})

    most, why = budget_of(readings)

    assert most == 32
    assert "shared by 8 ranks (LOCAL_WORLD_SIZE)" in why


def test_one_core_of_affinity_has_2_workers() -> None:
    readings = replace(readings_of({}, 64), affinity_cores=1)

    assert budget_of(readings)[0] == 2


def test_a_share_below_half_a_core_still_has_one_worker() -> None:
    texts = CGROUP_TEXTS | {"/sys/fs/cgroup/cpu.max": "25000 100000\n"}

    assert budget_of(readings_of(texts, 64))[0] == 1


@given(
    cores=st.integers(1, 300),
    ranks=st.integers(1, 16),
    quota=st.none() | st.integers(1, 3000),
)
def test_the_ranks_of_a_machine_together_never_pass_twice_its_cores(
    cores: int, ranks: int, quota: int | None
) -> None:
    texts = dict(CGROUP_TEXTS)
    allowed = float(cores)
    if quota is not None:
        texts["/sys/fs/cgroup/cpu.max"] = f"{quota * 10_000} 100000\n"
        allowed = min(allowed, quota / 10)
    readings = replace(readings_of(texts, cores), environ={"LOCAL_WORLD_SIZE": str(ranks)})

    together = budget_of(readings)[0] * ranks

    assert together <= max(2 * allowed, ranks)  # each may have one
