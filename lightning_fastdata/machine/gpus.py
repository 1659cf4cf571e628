"""Which of the machine's NVIDIA GPUs a number means, without starting a driver."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning_fastdata.machine.hardware import parse_accelerators

_INFORMATION = re.compile(
    r"/proc/driver/nvidia/gpus/([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])/information",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU that the driver shows."""

    address: str
    """Its place on the PCI bus, as /sys/bus/pci/devices spells it: ``0000:62:00.0``."""
    uuid: str | None
    """``GPU-`` and what follows; ``None`` where the driver has not looked at it yet."""
    model: str | None


def parse_gpus(texts: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Read the GPUs that CUDA may use from the driver's texts, in the order of the PCI bus.

    Args:
        texts: Path to text; only ``/proc/driver/nvidia/gpus/ADDRESS/information`` is looked at.
    """
    found: list[tuple[tuple[int, ...], Gpu]] = []
    for path, text in texts.items():
        match = _INFORMATION.fullmatch(path)
        if match is None or re.search(r"^GPU Excluded:\s*Yes", text, re.MULTILINE):
            continue
        place = tuple(int(digits, 16) for digits in match.groups())
        uuid = re.search(r"^GPU UUID:\s*(GPU-[0-9a-f-]+)\s*$", text, re.MULTILINE)
        models = parse_accelerators([text])
        gpu = Gpu(
            address=path.split("/")[-2].lower(),
            uuid=uuid[1] if uuid else None,
            model=models[0] if models else None,
        )
        found.append((place, gpu))
    return tuple(gpu for _, gpu in sorted(found, key=lambda each: each[0]))


def gpus_meant(
    gpus: Sequence[Gpu], environ: Mapping[str, str], device: int | str | None
) -> Sequence[Gpu]:
    """Find the GPU that this rank trains on, or all that it may be.

    Args:
        gpus: All that the driver shows, in the order of the PCI bus.
        environ: ``CUDA_VISIBLE_DEVICES`` and ``CUDA_DEVICE_ORDER`` say what CUDA's numbers mean,
            ``LOCAL_RANK`` or ``SLURM_LOCALID`` which number is this rank's.
        device: The number by which CUDA knows the GPU; or its PCI address or uuid (with ``GPU-`` or
            without), which leave no doubt; ``None`` goes by the local rank, as launchers do.

    Returns:
        One, where the number leaves no doubt; else all that it may be; none where no GPU is meant.
    """
    if isinstance(device, str):
        wanted = device.lower().removeprefix("gpu-")  # torch writes uuids without it
        return [gpu for gpu in gpus if wanted in (gpu.address, (gpu.uuid or "GPU-?")[4:])]
    visible = _visible(gpus, environ)
    number = _local_rank(environ) if device is None else device
    if number is None:
        return visible[0] if len(visible) == 1 else sorted(set(sum(visible, ())), key=_by_address)
    # Where each task is given one GPU of its own, that one is number 0 in every task.
    if device is None and len(visible) == 1:
        number = 0
    return visible[number] if 0 <= number < len(visible) else ()


def _visible(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> list[tuple[Gpu, ...]]:
    """List CUDA's devices in CUDA's order; each is the GPUs that it may be."""
    every = tuple(gpus)
    numbered = [(gpu,) if _numbers_are_clear(gpus, environ) else every for gpu in gpus]
    names = environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return numbered
    visible: list[tuple[Gpu, ...]] = []
    for name in names.split(","):
        meant = _named(name.strip(), gpus, numbered)
        if not meant:
            break  # CUDA shows those before the first name that means nothing
        visible.append(meant)
    return visible


def _named(name: str, gpus: Sequence[Gpu], numbered: list[tuple[Gpu, ...]]) -> tuple[Gpu, ...]:
    if re.fullmatch(r"\d{1,4}", name, re.ASCII):
        return numbered[int(name)] if int(name) < len(gpus) else ()
    if name.startswith("MIG-GPU-"):  # until driver 470: MIG-, the GPU's uuid, /, two numbers
        name = name.removeprefix("MIG-").partition("/")[0]
    elif name.startswith("MIG-"):  # a uuid of its own, which does not tell the GPU's
        return tuple(gpus)
    if not re.fullmatch(r"GPU-[0-9a-f-]+", name):
        return ()
    if any(gpu.uuid is None for gpu in gpus):
        return tuple(gpus)
    meant = tuple(gpu for gpu in gpus if gpu.uuid is not None and gpu.uuid.startswith(name))
    return meant if len(meant) == 1 else ()


def _numbers_are_clear(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> bool:
    """Whether CUDA's numbers follow the PCI bus over just these GPUs."""
    on_node = environ.get("SLURM_GPUS_ON_NODE", "")
    if environ.get("SLURM_JOB_ID") and on_node != str(len(gpus)):
        return False  # a cgroup may hide the others from CUDA, though /proc shows them
    # Unless told, CUDA takes the fastest first; alike, they stay in the order of the bus.
    are_alike = len({gpu.model for gpu in gpus}) <= 1
    return are_alike or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"


def _local_rank(environ: Mapping[str, str]) -> int | None:
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        text = environ.get(name, "")
        if re.fullmatch(r"\d{1,6}", text, re.ASCII):
            return int(text)
    return None


def _by_address(gpu: Gpu) -> str:
    return gpu.address
