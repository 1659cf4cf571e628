"""Machines with several memory nodes, as the files that say so.

The texts are written after the formats of the kernel (sysfs) and of NVIDIA's driver, with the core
lists and bus addresses that such machines are known to have; they are not copied from a machine.
"""

from collections.abc import Collection, Mapping

H100, L4 = "NVIDIA H100 80GB HBM3", "NVIDIA L4"
DGX_ADDRESSES = ("1b", "43", "52", "61", "9d", "c3", "d1", "df")
DGX_CORES = ("0-55,112-167", "56-111,168-223")
NPS4_CORES = [
    f"{16 * node}-{16 * node + 15},{16 * node + 128}-{16 * node + 143}" for node in range(8)
]


def information(address: str, model: str = H100, *, minor: int = 0, excluded: str = "No") -> str:
    return (
        f"Model: \t\t {model}\n"
        "IRQ:   \t\t 10\n"
        f"GPU UUID: \t {uuid_of(address)}\n"
        "Video BIOS: \t 96.00.99.00.01\n"
        "Bus Type: \t PCIe\n"
        "DMA Size: \t 52 bits\n"
        "DMA Mask: \t 0xfffffffffffff\n"
        f"Bus Location: \t {address}\n"
        f"Device Minor: \t {minor}\n"
        "GPU Firmware: \t 535.129.03\n"
        f"GPU Excluded:\t {excluded}\n"
    )


def uuid_of(address: str) -> str:
    return f"GPU-9221d5d1-b60b-a624-bf14-0a1819cfda{address[5:7]}"


def machine_of(
    cores: Collection[str],
    gpus: Mapping[str, int],
    *,
    distances: Collection[str] = (),
    models: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Write a machine's files: the cores of each node, and the node of each GPU by its bus."""
    last = len(cores) - 1
    nodes = "/sys/devices/system/node"
    texts = {f"{nodes}/online": f"0-{last}\n" if last else "0\n"}
    for node, cpulist in enumerate(cores):
        texts[f"{nodes}/node{node}/cpulist"] = f"{cpulist}\n"
    for node, row in enumerate(distances):
        texts[f"{nodes}/node{node}/distance"] = f"{row}\n"
    for minor, (bus, node) in enumerate(gpus.items()):
        address = f"0000:{bus}:00.0"
        model = (models or {}).get(bus, H100)
        texts[f"/proc/driver/nvidia/gpus/{address}/information"] = information(
            address, model, minor=minor
        )
        texts[f"/sys/bus/pci/devices/{address}/numa_node"] = f"{node}\n"
    return texts


def dgx() -> dict[str, str]:
    nodes = {bus: place // 4 for place, bus in enumerate(DGX_ADDRESSES)}
    return machine_of(DGX_CORES, nodes, distances=("10 21", "21 10"))


def nps4() -> dict[str, str]:
    """Two EPYC processors of four nodes each, and GPUs near every second node (DGX A100)."""
    gpus = {"07": 3, "0f": 3, "47": 1, "4e": 1, "87": 7, "90": 7, "b7": 5, "bd": 5}
    rows = []
    for node in range(8):
        row = [12 if node // 4 == other // 4 else 32 for other in range(8)]
        row[node] = 10
        rows.append(" ".join(map(str, row)))
    return machine_of(NPS4_CORES, gpus, distances=rows)
