"""Workers go to the cores near their rank's GPU, and anywhere where that is not known."""

from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numa_texts import DGX_ADDRESSES, DGX_CORES, L4, NPS4_CORES, dgx, machine_of, nps4

from lightning_fastdata.machine.numa import NearCores, numa_paths, parse_list, worker_cores


def near(
    texts: dict[str, str],
    environ: dict[str, str] | None = None,
    *,
    affinity: Collection[int] = range(224),
    share: float = 28,
    ranks: int = 8,
    device: int | str | None = None,
) -> NearCores:
    return worker_cores(
        texts,
        environ or {},
        affinity=affinity,
        share_cores=share,
        local_world_size=ranks,
        device=device,
    )


def cores_of(text: str) -> tuple[int, ...]:
    numbers = parse_list(text)
    assert numbers is not None
    return tuple(sorted(numbers))


@pytest.mark.parametrize("rank", range(8))
def test_each_rank_of_a_dgx_goes_to_the_half_near_its_gpu(rank: int) -> None:
    answer = near(dgx(), {"LOCAL_RANK": str(rank)})

    assert answer.cores == cores_of(DGX_CORES[rank // 4])
    address = f"0000:{DGX_ADDRESSES[rank]}:00.0"
    assert answer.reason == f"112 cores of memory node {rank // 4}, near GPU {address}"


def test_one_node_is_all_near() -> None:
    texts = machine_of(["0-31"], {"1b": 0})

    assert near(texts).cores is None
    assert numa_paths(texts) == []


def test_the_files_that_are_asked_for_are_those_that_are_read() -> None:
    texts = dgx()
    first = {path for path in texts if "nvidia" in path or path.endswith("online")}

    paths = numa_paths({path: texts[path] for path in first})

    assert set(paths) == texts.keys() - first


def test_a_rank_that_may_use_half_of_the_nodes_keeps_to_those_of_them_that_are_near() -> None:
    container = cores_of("0-63")  # all of node 0's first threads, and some of node 1's

    answer = near(dgx(), affinity=container, share=8, device=1)

    assert answer.cores == cores_of("0-55")


def test_a_rank_that_may_only_use_near_cores_needs_no_further_limit() -> None:
    answer = near(dgx(), affinity=cores_of(DGX_CORES[0]), share=14, device=0)

    assert answer == NearCores(cores=None, reason="every core of this process is near its GPU")


def test_a_rank_whose_cores_are_all_far_from_its_gpu_stays_there() -> None:
    """As SLURM binds tasks to cores that have nothing to do with their GPUs."""
    answer = near(dgx(), affinity=cores_of(DGX_CORES[0]), share=14, device=7)

    assert answer.cores is None
    assert "memory node 1, near GPU 0000:df:00.0, leaves this process 0 of its 112" in answer.reason


def test_a_rank_that_may_use_more_than_half_of_the_cores_is_not_cut_down() -> None:
    answer = near(dgx(), share=224, ranks=1, device=0)

    assert answer.cores is None
    assert answer.reason.endswith(
        "leaves this process 112 of its 224 cores for up to 1 ranks, and 224 are this rank's share"
    )


@pytest.mark.parametrize(("rank", "first_node"), [(0, 0), (3, 0), (4, 4), (7, 4)])
def test_an_epyc_in_four_nodes_gives_the_processor_where_one_node_is_too_small(
    rank: int, first_node: int
) -> None:
    """Two GPUs hang on a node of 32: its cores would be half of what two ranks may use."""
    answer = near(nps4(), affinity=range(256), share=32, device=rank)

    expected = cores_of(",".join(NPS4_CORES[first_node : first_node + 4]))
    assert answer.cores == expected


def test_an_epyc_in_four_nodes_gives_one_node_where_that_is_enough() -> None:
    answer = near(nps4(), affinity=range(256), share=16, device=0)

    assert answer.cores == cores_of(NPS4_CORES[3])


def test_without_distances_only_the_gpus_own_node_is_near() -> None:
    texts = {path: text for path, text in nps4().items() if not path.endswith("distance")}

    assert near(texts, affinity=range(256), share=32, device=0).cores is None
    assert near(texts, affinity=range(256), share=16, device=0).cores == cores_of(NPS4_CORES[3])


def test_minus_one_is_not_known() -> None:
    texts = machine_of(DGX_CORES, {"1b": -1, "43": -1})

    answer = near(texts, device=0)

    assert answer.cores is None
    assert answer.reason.startswith("the system does not say near which cores GPU 0000:1b:00.0")


def test_without_a_gpu_workers_run_anywhere() -> None:
    answer = near(machine_of(DGX_CORES, {}))

    assert answer == NearCores(cores=None, reason="no NVIDIA GPU is known to be this rank's")


def test_a_node_of_memory_only_is_none_to_choose_from() -> None:
    assert near(machine_of(["0-71", ""], {"1b": 0}), device=0).reason.startswith(
        "the machine shows"
    )


def test_several_gpus_and_no_word_of_the_rank_leave_it_open() -> None:
    answer = near(dgx())

    assert answer == NearCores(cores=None, reason="it is not known which of 8 GPUs is this rank's")


def test_which_gpu_does_not_matter_where_all_are_on_one_node() -> None:
    texts = machine_of(DGX_CORES, {"1b": 0, "43": 0}, models={"43": L4})

    assert near(texts).cores == cores_of(DGX_CORES[0])


def test_a_part_of_a_gpu_whose_name_does_not_tell_which_leaves_it_open() -> None:
    visible = {"CUDA_VISIBLE_DEVICES": "MIG-5e8d2f0a-0f0e-5b0c-9a55-2f0f9d2f3c11"}

    assert near(dgx(), visible, device=0).cores is None


@given(st.sets(st.integers(0, 300), max_size=60))
def test_a_list_is_read_as_the_kernel_writes_it(numbers: set[int]) -> None:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in runs)

    assert parse_list(f"{text}\n") == numbers


@pytest.mark.parametrize("text", ["x", "0-", "3-1", "0-3;5", "-1", "0-99999999", "٣"])
def test_a_text_that_is_no_list_is_not_known(text: str) -> None:
    assert parse_list(text) is None


@given(data=st.data())
def test_files_that_make_no_sense_never_raise_and_never_take_cores_that_are_not_there(
    data: st.DataObject,
) -> None:
    texts: dict[str, Any] = dict(data.draw(st.sampled_from([dgx(), nps4()])))
    odd = (
        st.sampled_from(["", "\n", "-1", "x", "0-1", "7-3", "10 21 30", "\x00", "999999"])
        | st.text()
    )
    for path in data.draw(st.lists(st.sampled_from(sorted(texts)), max_size=5)):
        texts[path] = data.draw(odd)
    names = ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK", "SLURM_LOCALID", "SLURM_JOB_ID")
    environ = data.draw(st.dictionaries(st.sampled_from(names), odd, max_size=4))
    affinity = data.draw(st.sets(st.integers(0, 255), min_size=1))
    share = data.draw(st.floats(0.001, len(affinity)))
    device = data.draw(st.none() | st.integers(-2, 9) | odd)

    answer = near(
        texts,
        environ,
        affinity=affinity,
        share=share,
        ranks=data.draw(st.integers(1, 9)),
        device=device,
    )

    assert answer.reason
    if answer.cores is not None:
        assert set(answer.cores) < affinity
        assert len(answer.cores) >= share
        assert list(answer.cores) == sorted(answer.cores)
