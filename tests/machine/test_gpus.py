"""A number means the GPU that CUDA means by it, or none for sure."""

import pytest
from numa_texts import DGX_ADDRESSES, DGX_CORES, L4, dgx, information, machine_of, uuid_of

from lightning_fastdata.machine.gpus import gpus_meant, parse_gpus


def meant(texts: dict[str, str], device: int | str | None = None, **environ: str) -> list[str]:
    """The buses of the GPUs that may be meant."""
    return [gpu.address[5:7] for gpu in gpus_meant(parse_gpus(texts), environ, device)]


@pytest.mark.parametrize(
    ("visible", "device", "bus"),
    [
        ("2,1", 0, "52"),
        ("2,1", 1, "43"),
        (" 4 , 5 ", 1, "c3"),
        (uuid_of("0000:d1:00.0"), 0, "d1"),
        (f"{uuid_of('0000:d1:00.0')},{uuid_of('0000:1b:00.0')}", 1, "1b"),
        (f"MIG-{uuid_of('0000:9d:00.0')}/5/0", 0, "9d"),
    ],
)
def test_visible_devices_are_numbered_in_the_order_of_their_list(
    visible: str, device: int, bus: str
) -> None:
    assert meant(dgx(), device, CUDA_VISIBLE_DEVICES=visible) == [bus]


@pytest.mark.parametrize(
    ("visible", "device"),
    [("", 0), ("-1", 0), ("0,-1,1", 1), ("0,9,1", 1), ("0", 1), ("NoDevFiles", 0), ("GPU-9", 0)],
)
def test_what_cuda_does_not_show_is_no_gpu(visible: str, device: int) -> None:
    """A name that fits several GPUs, as the last one, is none either."""
    assert meant(dgx(), device, CUDA_VISIBLE_DEVICES=visible) == []


def test_an_abbreviated_uuid_is_enough_where_it_fits_one_gpu() -> None:
    texts = machine_of(DGX_CORES, {"1b": 0})

    assert meant(texts, 0, CUDA_VISIBLE_DEVICES="GPU-9221d5d1") == ["1b"]


def test_a_migs_own_uuid_does_not_tell_its_gpu() -> None:
    visible = "MIG-5e8d2f0a-0f0e-5b0c-9a55-2f0f9d2f3c11"

    assert len(meant(dgx(), 0, CUDA_VISIBLE_DEVICES=visible)) == 8


def test_gpus_that_differ_are_numbered_by_speed_unless_told() -> None:
    texts = machine_of(DGX_CORES, {"1b": 0, "9d": 1}, models={"1b": L4})

    assert meant(texts, 0) == ["1b", "9d"]
    assert meant(texts, 0, CUDA_DEVICE_ORDER="PCI_BUS_ID") == ["1b"]
    assert meant(texts, 0, CUDA_VISIBLE_DEVICES=uuid_of("0000:9d:00.0")) == ["9d"]


def test_slurm_may_hide_gpus_that_the_driver_shows() -> None:
    """Under SLURM's cgroups, number 0 is the job's first, whichever of the machine's that is."""
    job = {"SLURM_JOB_ID": "4711", "CUDA_VISIBLE_DEVICES": "0,1", "SLURM_LOCALID": "0"}

    assert len(meant(dgx(), **job, SLURM_GPUS_ON_NODE="2")) == 8
    assert len(meant(dgx(), **job)) == 8
    assert meant(dgx(), **job, SLURM_GPUS_ON_NODE="8") == ["1b"]


@pytest.mark.parametrize(
    "device",
    [
        "0000:9d:00.0",
        "0000:9D:00.0",
        uuid_of("0000:9d:00.0"),
        uuid_of("0000:9d:00.0").removeprefix("GPU-"),
    ],
)
def test_an_address_or_a_uuid_leaves_no_doubt(device: str) -> None:
    hidden = {"SLURM_JOB_ID": "4711", "CUDA_VISIBLE_DEVICES": "0"}

    assert meant(dgx(), device, **hidden) == ["9d"]


def test_an_address_that_is_not_there_is_no_gpu() -> None:
    assert meant(dgx(), "0000:ff:00.0") == []


def test_no_name_at_all_is_no_gpu_even_where_uuids_are_not_known() -> None:
    texts = {"/proc/driver/nvidia/gpus/0000:1b:00.0/information": ""}

    assert meant(texts, "GPU-") == []


@pytest.mark.parametrize(
    ("environ", "buses"),
    [
        ({"LOCAL_RANK": "3"}, ["61"]),
        ({"SLURM_LOCALID": "2"}, ["52"]),
        ({"LOCAL_RANK": "1", "SLURM_LOCALID": "0"}, ["43"]),
        ({"LOCAL_RANK": "3", "CUDA_VISIBLE_DEVICES": "5"}, ["c3"]),
        ({"LOCAL_RANK": "3", "CUDA_VISIBLE_DEVICES": "5,6"}, []),
        ({"LOCAL_RANK": "three"}, list(DGX_ADDRESSES)),
        ({"CUDA_VISIBLE_DEVICES": "5"}, ["c3"]),
    ],
)
def test_a_rank_trains_on_the_gpu_of_its_number(environ: dict[str, str], buses: list[str]) -> None:
    assert meant(dgx(), **environ) == buses


def test_gpus_are_ordered_by_bus_also_where_domains_differ() -> None:
    places = ("0001:01:00.0", "0000:e1:00.0", "0000:0f:00.0", "00010000:00:00.0")
    texts = {f"/proc/driver/nvidia/gpus/{each}/information": "" for each in places}

    assert [gpu.address for gpu in parse_gpus(texts)] == [
        places[2],
        places[1],
        places[0],
        places[3],
    ]


def test_a_gpu_that_the_driver_leaves_out_has_no_number() -> None:
    texts = dgx()
    path = "/proc/driver/nvidia/gpus/0000:1b:00.0/information"
    texts[path] = information("0000:1b:00.0", excluded="Yes")

    assert meant(texts, 0) == ["43"]


def test_a_uuid_that_the_driver_does_not_know_yet_leaves_it_open() -> None:
    texts = dgx()
    path = "/proc/driver/nvidia/gpus/0000:1b:00.0/information"
    unknown = "GPU-????????-????-????-????-????????????"
    texts[path] = texts[path].replace(uuid_of("0000:1b:00.0"), unknown)

    assert len(meant(texts, 0, CUDA_VISIBLE_DEVICES=uuid_of("0000:43:00.0"))) == 8
