"""The cores near a rank's GPU, where the machine has more than one memory node (NUMA).

A batch travels from the memory in which a worker wrote it to the GPU; where that memory belongs to
the other processor, it crosses the link between the two. Slots are faulted in by the workers, and
the kernel takes pages from the node on which they run: workers that stay near the GPU keep the
memory near it as well. What that gains has not been measured.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lightning_fastdata.machine.gpus import Gpu, gpus_meant, parse_gpus

_NODES = "/sys/devices/system/node"
ONLINE_NODES = f"{_NODES}/online"
_MOST = 65536  # cores or nodes in one list: more than any kernel is built for


@dataclass(frozen=True, kw_only=True, slots=True)
class NearCores:
    """Where a rank's workers should run, and why."""

    cores: tuple[int, ...] | None
    """The kernel's numbers of the cores; ``None`` is wherever the process may run."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Node:
    cores: frozenset[int]
    distances: Mapping[int, int]
    """To each node; empty where it is not known."""


def parse_list(text: str) -> frozenset[int] | None:
    """Read a list as the kernel writes it, ``0-3,8``; ``None`` where the text is no such list."""
    numbers: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part, re.ASCII)
        if match is None:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last >= _MOST:
            return None
        numbers.update(range(first, last + 1))
    return frozenset(numbers)


def numa_paths(texts: Mapping[str, str]) -> list[str]:
    """List the files that say what lies near what; ``texts`` holds the lists of nodes and GPUs."""
    nodes = parse_list(texts.get(ONLINE_NODES, "")) or ()
    if len(nodes) < 2:
        return []
    of_nodes = [f"{_NODES}/node{node}/{name}" for node in nodes for name in ("cpulist", "distance")]
    return of_nodes + [_node_path(gpu) for gpu in parse_gpus(texts)]


def worker_cores(
    texts: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    affinity: Collection[int],
    share_cores: float,
    local_world_size: int,
    device: int | str | None,
) -> NearCores:
    """Choose the cores for a rank's workers: those of the nodes nearest to its GPU.

    Where the GPU's own node has too few of them for the ranks whose GPUs hang on it, the nodes of
    the same processor are taken too (an EPYC may be cut into four), but never the whole machine.

    Args:
        texts: Path to text of the files in /sys and /proc; what is missing or odd is not known.
        environ: What CUDA's numbers mean, and which is this rank's: see ``gpus_meant``.
        affinity: The cores on which this process may run.
        share_cores: The cores that this rank may keep busy; it gets at least so many.
        local_world_size: Ranks on this machine.
        device: The GPU's number in CUDA, or its PCI address or uuid; ``None`` goes by the rank.

    Returns:
        The cores in ascending order, or ``None`` with the reason why workers go anywhere.
    """
    nodes = _parse_nodes(texts)
    if sum(bool(node.cores) for node in nodes.values()) < 2:
        return NearCores(cores=None, reason="the machine shows one memory node: all is near")
    gpus = parse_gpus(texts)
    meant = gpus_meant(gpus, environ, device)
    if not meant:
        return NearCores(cores=None, reason="no NVIDIA GPU is known to be this rank's")
    found = {_node_of(gpu, texts) for gpu in meant}
    home = found.pop()
    if found:
        return NearCores(
            cores=None, reason=f"it is not known which of {len(meant)} GPUs is this rank's"
        )
    if home is None or home not in nodes:
        return NearCores(
            cores=None, reason=f"the system does not say near which cores GPU {_names(meant)} is"
        )
    return _nearest(
        nodes,
        home,
        meant,
        neighbours=[node for node in (_node_of(gpu, texts) for gpu in gpus) if node is not None],
        affinity=frozenset(affinity),
        share_cores=share_cores,
        local_world_size=local_world_size,
    )


def _nearest(
    nodes: Mapping[int, _Node],
    home: int,
    meant: Sequence[Gpu],
    *,
    neighbours: Sequence[int],
    affinity: frozenset[int],
    share_cores: float,
    local_world_size: int,
) -> NearCores:
    distances = nodes[home].distances
    near: frozenset[int] = frozenset()
    too_few = ""
    for limit in sorted({distances.get(node, 0) for node in nodes} if distances else {0}):
        close = [node for node in nodes if _distance(nodes, home, node) <= limit]
        near = frozenset().union(*(nodes[node].cores for node in close)) & affinity
        if near == affinity:
            break
        # At most so many ranks train here: which GPUs the other ones have is not known.
        ranks = max(1, min(local_world_size, sum(node in close for node in neighbours)))
        where = f"{_nodes_text(close)}, near GPU {_names(meant)}"
        if near and len(near) / ranks >= share_cores:
            return NearCores(cores=tuple(sorted(near)), reason=f"{len(near)} cores of {where}")
        too_few = too_few or (
            f"{where}, leaves this process {len(near)} of its {len(affinity)} cores for up to "
            f"{ranks} ranks, and {share_cores:g} are this rank's share"
        )
    return NearCores(cores=None, reason=too_few or "every core of this process is near its GPU")


def _distance(nodes: Mapping[int, _Node], home: int, node: int) -> float:
    if node == home:
        return 0
    return nodes[home].distances.get(node, float("inf"))


def _parse_nodes(texts: Mapping[str, str]) -> dict[int, _Node]:
    online = sorted(parse_list(texts.get(ONLINE_NODES, "")) or ())
    nodes = {}
    for node in online:
        cores = parse_list(texts.get(f"{_NODES}/node{node}/cpulist", ""))
        row = texts.get(f"{_NODES}/node{node}/distance", "").split()
        is_row = len(row) == len(online) and all(re.fullmatch(r"\d{1,3}", each) for each in row)
        distances = dict(zip(online, map(int, row), strict=True)) if is_row else {}
        nodes[node] = _Node(cores=cores or frozenset(), distances=distances)
    return nodes


def _node_of(gpu: Gpu, texts: Mapping[str, str]) -> int | None:
    """Read a GPU's node; the kernel's -1 is "not known", as in many virtual machines."""
    text = texts.get(_node_path(gpu), "").strip()
    return int(text) if re.fullmatch(r"\d{1,6}", text, re.ASCII) else None


def _node_path(gpu: Gpu) -> str:
    return f"/sys/bus/pci/devices/{gpu.address}/numa_node"


def _names(gpus: Sequence[Gpu]) -> str:
    return gpus[0].address if len(gpus) == 1 else f"{gpus[0].address} or another like it"


def _nodes_text(nodes: Sequence[int]) -> str:
    if len(nodes) == 1:
        return f"memory node {nodes[0]}"
    return f"memory nodes {', '.join(map(str, nodes))}"
