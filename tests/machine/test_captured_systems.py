"""Each system's answer is what its operator meant.

The texts in ``captured/`` follow the kernel's, Docker's, Kubernetes' and SLURM's formats; they are
written after those formats, with short names and round numbers, not copied from one machine.
"""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.machine import facts
from lightning_fastdata.machine.readings import Readings, limit_paths, machine_from

GIB = 2**30


def readings_of(texts: dict[str, str], cores: int = 16, **changes: object) -> Readings:
    readings = Readings(
        platform="linux",
        environ={},
        texts=texts,
        unreadable={},
        machine_cores=cores,
        affinity_cores=cores,
        parent_affinity_cores=cores,
        psutil_memory_bytes=(5 * GIB, 8 * GIB),
        shm_bytes=(8 * GIB, 7 * GIB),
        file_descriptor_limits=(1024, 1048576),
        file_descriptors_open=12,
    )
    return replace(readings, **changes)


def test_docker_with_2_5_cpus_has_2_5_cores(captured):
    machine = machine_from(readings_of(captured("docker_v2")))

    assert machine.cores == machine.quota_cores == 2.5
    assert machine.cores_reason == (
        "2.5 cores: the cgroup quota in /sys/fs/cgroup/cpu.max is 2.5 cores of CPU time "
        "(no tighter: affinity allows 16 cores)."
    )
    assert machine.notes == (
        "the quota of 2.5 cores is CPU time over 16 cores: more than 2 busy at once are stopped "
        "for part of each period.",
    )


def test_docker_leaves_its_limit_less_what_is_used_and_not_droppable(captured):
    machine = machine_from(readings_of(captured("docker_v2")))

    assert machine.memory_available_bytes == 3 * GIB
    assert machine.memory_total_bytes == 65536000 * 1024
    assert machine.memory_reason == (
        "3.00 GiB left of the limit of 4.00 GiB in /sys/fs/cgroup/memory.max (1.00 GiB in use)."
    )


def test_four_ranks_in_one_container_share_its_quota(captured):
    readings = readings_of(captured("docker_v2"), environ={"LOCAL_WORLD_SIZE": "4"})

    machine = machine_from(readings)

    assert machine.cores == 0.625
    assert "shared by 4 ranks (LOCAL_WORLD_SIZE)" in machine.cores_reason


def test_kubernetes_v1_container_sees_its_own_limits_at_the_mount_points(captured):
    machine = machine_from(readings_of(captured("kubernetes_v1")))

    assert machine.cores == 4
    assert machine.memory_available_bytes == 6 * GIB
    assert "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us" in machine.cores_reason


def test_kubernetes_v2_limit_on_the_pod_holds_for_its_container(captured):
    machine = machine_from(readings_of(captured("kubernetes_v2")))

    assert machine.cores == 6
    assert machine.memory_available_bytes == 12 * GIB
    assert "kubepods-burstable-pod7f3c.slice/memory.max" in machine.memory_reason


SLURM_STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_NODEID": "0",
    "SLURM_CPUS_PER_TASK": "8",
    "SLURM_CPUS_ON_NODE": "32",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_MEM_PER_NODE": "65536",
}


def test_slurm_task_bound_to_its_cpuset_keeps_all_of_it(captured):
    readings = readings_of(
        captured("slurm_v2"), machine_cores=64, affinity_cores=8, environ=SLURM_STEP
    )

    machine = machine_from(readings)

    assert (machine.cores, machine.local_world_size) == (8, 4)
    assert machine.cores_reason.startswith(
        "8 cores: affinity allows 8 cores, this task's own (SLURM_CPUS_PER_TASK=8)"
    )
    assert machine.notes == (
        "SLURM_MEM_PER_NODE=65536 (MiB) was asked of SLURM; it is told, not counted.",
    )


def test_slurm_job_memory_limit_on_an_ancestor_holds(captured):
    machine = machine_from(readings_of(captured("slurm_v2"), environ=SLURM_STEP))

    assert machine.memory_available_bytes == 68719476736 - 4831838208
    assert "/job_4711/memory.max" in machine.memory_reason


def test_bare_metal_without_limits_has_every_core_and_what_is_available(captured):
    machine = machine_from(readings_of(captured("bare_metal")))

    assert (machine.cores, machine.quota_cores) == (16, None)
    assert machine.memory_available_bytes == 32 * GIB
    assert machine.memory_reason == (
        "32.00 GiB: MemAvailable of /proc/meminfo; no cgroup limit leaves less."
    )
    assert machine.notes == ()


def test_systemd_quota_on_a_parent_slice_is_the_tightest(captured):
    machine = machine_from(readings_of(captured("systemd_slice"), cores=32))

    assert machine.cores == 12
    assert machine.memory_available_bytes == 22 * GIB
    assert "/sys/fs/cgroup/training.slice/cpu.max" in machine.cores_reason
    assert "/sys/fs/cgroup/training.slice/memory.high" in machine.memory_reason


def test_hybrid_takes_the_quota_from_v1_and_ignores_the_empty_v2_tree(captured):
    machine = machine_from(readings_of(captured("hybrid")))

    assert machine.cores == 3.5
    assert machine.memory_available_bytes == 16 * GIB


def test_a_quota_above_the_affinity_changes_nothing(captured):
    machine = machine_from(readings_of(captured("systemd_slice"), cores=4))

    assert (machine.cores, machine.quota_cores) == (4, 12)
    assert machine.notes == ()


@pytest.mark.parametrize(
    "odd_text", ["", "\n", "a lot\n", "-5 100000\n", "1 0\n", "1 2 3\n", "\0", "9" * 5000]
)
@pytest.mark.parametrize("path", ["/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/memory.max"])
def test_a_limit_that_makes_no_sense_is_a_note(captured, path, odd_text):
    texts = captured("docker_v2") | {path: odd_text}

    machine = machine_from(readings_of(texts))

    assert any(note.startswith(f"{path} is not counted: ") for note in machine.notes)


def test_a_file_that_cannot_be_read_is_a_note(captured):
    texts = captured("docker_v2")
    del texts["/sys/fs/cgroup/cpu.max"]
    unreadable = {"/sys/fs/cgroup/cpu.max": "Permission denied"}

    machine = machine_from(readings_of(texts, unreadable=unreadable))

    assert machine.cores == 16
    assert machine.notes == (
        "/sys/fs/cgroup/cpu.max could not be read (Permission denied); what it limits is not "
        "counted.",
    )


def test_without_cgroup_files_on_linux_the_note_says_so():
    machine = machine_from(readings_of({"/proc/meminfo": "MemAvailable: 1024 kB\n"}))

    assert machine.notes[0].startswith("/proc/self/cgroup and /proc/self/mountinfo were not both")


@given(
    cgroup=st.text(alphabet="0:/.a,\n", max_size=30),
    mounts=st.text(alphabet="0 -/.cgroup2\n\\", max_size=60),
    limit=st.text(alphabet="-019max \n", max_size=12),
)
def test_no_text_makes_it_fail(cgroup, mounts, limit):
    texts = {"/proc/self/cgroup": cgroup, "/proc/self/mountinfo": mounts, "/proc/meminfo": limit}
    texts |= dict.fromkeys(limit_paths(texts), limit)

    machine = machine_from(readings_of(texts))

    assert 0 < machine.cores <= 16


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_platforms_count_every_core_and_say_so(platform):
    readings = readings_of(
        {},
        platform=platform,
        affinity_cores=None,
        parent_affinity_cores=None,
        shm_bytes=None,
        file_descriptor_limits=None,
    )

    machine = machine_from(readings)

    assert (machine.cores, machine.memory_available_bytes) == (16, 5 * GIB)
    assert (machine.shm_total_bytes, machine.shm_free_bytes) == (None, None)
    assert machine.notes[0].startswith(f"on {platform} affinity, CPU quotas and memory limits")


def test_when_nothing_at_all_can_be_read_one_core_is_assumed_and_said():
    readings = readings_of({}, machine_cores=None, affinity_cores=None, psutil_memory_bytes=None)

    machine = machine_from(readings)

    assert (machine.cores, machine.memory_available_bytes) == (1, None)
    assert "the number of cores could not be read: 1 is assumed." in machine.notes


def test_a_container_with_the_default_shared_memory_is_told(captured):
    readings = readings_of(captured("bare_metal"), shm_bytes=(64 * 2**20, 64 * 2**20))

    machine = machine_from(readings)

    assert machine.shm_total_bytes == 64 * 2**20
    assert machine.notes[0].startswith("/dev/shm holds 64 MiB, a container's default")


def test_an_impossible_number_of_ranks_is_refused(captured):
    with pytest.raises(SettingsError, match=r"^local_world_size is 0, but"):
        machine_from(readings_of(captured("bare_metal")), local_world_size=0)


def test_facts_are_plain_json_with_names_and_versions(captured):
    machine = machine_from(readings_of(captured("docker_v2")))

    values = facts(machine)

    assert json.loads(json.dumps(values)) == values
    assert values["cpu_model"] == "Intel(R) Xeon(R) Platinum 8480+"
    assert values["accelerators"] == ["NVIDIA H100 80GB HBM3"] * 2
    assert values["torch_version"]
    assert values["cores"] == 2.5


def test_without_the_driver_accelerators_are_not_measured(captured):
    assert machine_from(readings_of(captured("bare_metal"))).accelerators is None
