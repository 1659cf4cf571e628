import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.machine import whole_cores
from lightning_fastdata.machine.cores import (
    MINIMUM_CORES,
    CoreShare,
    LocalRanks,
    Quota,
    count_local_ranks,
    parse_quota_v1,
    parse_quota_v2,
    share_cores,
)
from lightning_fastdata.machine.slurm import SlurmShare, read_slurm, tasks_on_this_node

small = st.integers(1, 8)
maybe_small = st.none() | small
slurm_shares = st.builds(
    SlurmShare,
    tasks_on_node=maybe_small,
    cpus_per_task=maybe_small,
    cpus_on_node=maybe_small,
    cpus_per_gpu=maybe_small,
    gpus_on_node=maybe_small,
)


def share(
    affinity: int = 16,
    *,
    machine: int = 64,
    parent: int | None = None,
    quota: float | None = None,
    slurm: SlurmShare | None = None,
    ranks: int = 1,
) -> CoreShare:
    return share_cores(
        machine_cores=machine,
        affinity_cores=affinity,
        parent_affinity_cores=parent,
        quota=Quota(cores=quota, path="cpu.max" if quota else None),
        slurm=slurm or SlurmShare(),
        ranks=LocalRanks(count=ranks, source="local_world_size"),
    )


@given(small, maybe_small, st.none() | st.floats(0.001, 9), slurm_shares, small)
def test_a_share_is_positive_and_never_above_affinity(affinity, parent, quota, slurm, ranks):
    cores = share(affinity, parent=parent, quota=quota, slurm=slurm, ranks=ranks).cores

    assert MINIMUM_CORES <= cores <= affinity


@given(small, st.floats(0.001, 9), st.floats(0.001, 9), slurm_shares, small)
def test_a_larger_quota_never_gives_less(affinity, one, other, slurm, ranks):
    lower, higher = sorted((one, other))

    low = share(affinity, quota=lower, slurm=slurm, ranks=ranks).cores
    high = share(affinity, quota=higher, slurm=slurm, ranks=ranks).cores
    unlimited = share(affinity, quota=None, slurm=slurm, ranks=ranks).cores

    assert low <= high <= unlimited


@given(small, st.none() | st.floats(0.001, 9), small)
def test_equal_ranks_together_take_no_more_than_affinity_and_quota(affinity, quota, ranks):
    together = share(affinity, quota=quota, ranks=ranks).cores * ranks

    # The minimum may lift shares of tiny quotas; the last bits are the division's.
    assert together <= max(min(affinity, quota or affinity), MINIMUM_CORES * ranks) * (1 + 1e-12)


def test_ranks_share_an_affinity_that_is_not_shown_to_be_their_own():
    outcome = share(16, ranks=4)

    assert outcome.cores == 4
    assert outcome.reason == (
        "4 cores: affinity allows 16 cores, shared by 4 ranks (local_world_size)."
    )


def test_a_launcher_with_more_cores_shows_the_affinity_to_be_the_ranks_own():
    outcome = share(16, parent=64, ranks=4)

    assert outcome.cores == 16
    assert outcome.reason.startswith("16 cores: affinity allows 16 cores, this rank's own")


def test_a_launcher_with_the_same_cores_shows_nothing():
    assert share(16, parent=16, ranks=4).cores == 4


def test_slurm_task_that_is_not_bound_takes_its_cpus_per_task_only():
    slurm = SlurmShare(tasks_on_node=4, cpus_per_task=8)

    assert share(64, slurm=slurm, ranks=4).cores == 8


def test_torchrun_inside_one_slurm_task_shares_that_task():
    slurm = SlurmShare(tasks_on_node=1, cpus_per_task=32)

    assert share(32, slurm=slurm, ranks=4).cores == 8


def test_slurm_binding_without_cpus_per_task_is_known_from_the_node():
    slurm = SlurmShare(tasks_on_node=4, cpus_on_node=32)

    assert share(8, slurm=slurm, ranks=4).cores == 8
    assert share(32, slurm=slurm, ranks=4).cores == 8


def test_slurm_cpus_per_gpu_count_for_the_gpus_of_the_node():
    slurm = SlurmShare(tasks_on_node=1, cpus_per_gpu=6, gpus_on_node=4)

    assert share(64, slurm=slurm, ranks=4).cores == 6
    assert share(64, slurm=slurm, ranks=1).cores == 24


def test_one_core_of_many_is_reported_as_a_collapse():
    outcome = share(1, machine=16)

    assert outcome.reason == "1 core: affinity allows 1 core."
    assert outcome.notes[0].startswith("this process may run on 1 core only, of 16 on this machine")


def test_one_core_of_one_is_no_collapse():
    assert share(1, machine=1).notes == ()


def test_a_collapse_inside_slurm_names_the_option_of_srun():
    slurm = SlurmShare(tasks_on_node=4, cpus_per_task=8)

    assert "srun its own --cpus-per-task" in share(1, slurm=slurm, ranks=4).notes[0]


@pytest.mark.parametrize(("cores", "whole"), [(0.2, 1), (1.0, 1), (1.99, 1), (2.5, 2), (3.0, 3)])
def test_a_fraction_of_a_core_is_never_rounded_up_but_for_the_first(cores, whole):
    assert whole_cores(cores) == whole


@given(st.integers(1, 64), small)
def test_a_quota_of_whole_cores_a_rank_stays_whole(cores, ranks):
    quota = parse_quota_v2(f"{cores * ranks * 100000} 100000\n")

    assert whole_cores(share(10**6, quota=quota, ranks=ranks).cores) == cores


@pytest.mark.parametrize("text", ["max 100000\n", "max\n"])
def test_max_is_no_quota(text):
    assert parse_quota_v2(text) is None


def test_minus_one_is_no_quota_in_version_1():
    assert parse_quota_v1("-1\n", "100000\n") is None


def test_torchruns_count_wins_over_slurms_tasks():
    slurm = read_slurm({"SLURM_NTASKS_PER_NODE": "1"})

    assert count_local_ranks(None, {"LOCAL_WORLD_SIZE": "8"}, slurm).count == 8


def test_an_explicit_count_wins_over_all():
    slurm = read_slurm({"SLURM_NTASKS_PER_NODE": "2"})

    assert count_local_ranks(3, {"LOCAL_WORLD_SIZE": "8"}, slurm).count == 3


def test_a_launchers_count_that_makes_no_sense_is_a_note():
    ranks = count_local_ranks(None, {"LOCAL_WORLD_SIZE": "four"}, SlurmShare())

    assert ranks.count == 1
    assert ranks.notes[0].startswith("LOCAL_WORLD_SIZE='four' is not counted")


def test_slurm_tasks_outside_a_step_are_counted_and_told():
    ranks = count_local_ranks(None, {}, read_slurm({"SLURM_NTASKS_PER_NODE": "4"}))

    assert ranks.count == 4
    assert "no SLURM_STEP_ID" in ranks.notes[0]


@pytest.mark.parametrize(
    ("text", "node_id", "tasks"),
    [
        ("4", None, 4),
        ("4(x2)", "1", 4),
        ("4(x2),3", "0", 4),
        ("4(x2),3", "2", 3),
        ("2,4(x999999999)", "7", 4),
        ("2,8", None, 8),
        ("2,8", "5", 8),
        ("2,8", "one", 8),
    ],
)
def test_slurms_list_gives_the_tasks_of_this_node(text, node_id, tasks):
    assert tasks_on_this_node(text, node_id) == tasks


@given(st.lists(small, min_size=1, max_size=6))
def test_slurms_list_agrees_with_the_list_written_out(counts):
    text = ",".join(map(str, counts))

    assert [tasks_on_this_node(text, str(node)) for node in range(len(counts))] == counts


@pytest.mark.parametrize("text", ["x", "4(x", "0", "4,,3", "-1", "4(x2"])
def test_slurm_values_that_make_no_sense_are_notes(text):
    slurm = read_slurm({"SLURM_NTASKS_PER_NODE": text, "SLURM_CPUS_PER_TASK": text})

    assert (slurm.tasks_on_node, slurm.cpus_per_task) == (None, None)
    assert len(slurm.notes) == 2
