"""The GPUs that torch sees, and whether page-locked memory works; asked in a process of its own.

CUDA that was once started breaks every later fork, so it is never started here.
"""

import glob
import json
import subprocess
import sys
from typing import Any

from lightning_fastdata.checkup.result import Check

_TIMEOUT_S = 120.0  # guess: the first start of a driver on eight GPUs takes half a minute
_PINNED_BYTES = 64 * 2**20
_DEVICE_FILES = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, Windows' Linux
NO_GPU: dict[str, Any] = {"built_for": None, "devices": [], "problem": None}
_PROGRAM = f"""
import json, time, torch
answer = {{"built_for": torch.version.cuda or torch.version.hip, "devices": [], "problem": None}}
if answer["built_for"] and torch.cuda.is_available():
    count = torch.cuda.device_count()
    answer["devices"] = [torch.cuda.get_device_name(i) for i in range(count)]
    try:
        began = time.perf_counter()
        pinned = torch.empty({_PINNED_BYTES}, dtype=torch.uint8, pin_memory=True)
        answer["pinning_s"] = time.perf_counter() - began
        for attempt in range(2):
            torch.cuda.synchronize()
            began = time.perf_counter()
            pinned.to("cuda", non_blocking=True)
            torch.cuda.synchronize()
        answer["copy_bytes_per_s"] = {_PINNED_BYTES} / (time.perf_counter() - began)
    except Exception as error:
        lines = str(error).splitlines() or [""]
        answer["problem"] = f"{{type(error).__name__}}: {{lines[0]}}"
print(json.dumps(answer))
"""


def may_have_gpu() -> bool:
    """Whether the system shows anything that may be a GPU for torch; asking torch takes seconds."""
    return sys.platform != "linux" or any(glob.glob(pattern) for pattern in _DEVICE_FILES)


def ask_cuda() -> dict[str, Any]:
    """Start an interpreter that looks for GPUs and page-locks some memory.

    Returns:
        ``built_for`` (the CUDA version of this torch), ``devices`` (names), ``problem`` (why
        page-locking failed), and where it worked ``copy_bytes_per_s``; or ``failed``.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer from the driver in {_TIMEOUT_S:g} s"}
    except (OSError, ValueError, IndexError):
        return {"failed": "the process that asked for GPUs ended without an answer"}
    return answer


def check_cuda(answer: dict[str, Any], accelerators: tuple[str, ...] | None) -> Check:
    """Judge what ``ask_cuda`` found, beside the GPUs that the driver shows."""
    shown = f"the driver shows {len(accelerators)} ({accelerators[0]})" if accelerators else ""
    if "failed" in answer:
        return Check(
            name="GPU",
            level="warning",
            found=f"{answer['failed']}{f'; {shown}' if shown else ''}",
            wanted="an answer",
            remedy='Run python -c "import torch; torch.zeros(1).cuda()" and read its error.',
        )
    if not answer["devices"]:
        if accelerators:
            built = answer["built_for"]
            return Check(
                name="GPU",
                level="warning",
                found=f"{shown}, torch sees none "
                f"({f'built for CUDA {built}' if built else 'built without CUDA'})",
                wanted="torch to see them",
                remedy="Look at CUDA_VISIBLE_DEVICES and the driver's version."
                if built
                else "Install a torch that is built for CUDA (pytorch.org/get-started).",
            )
        return Check(name="GPU", level="ok", found="none; batches stay on the host")
    devices = f"{len(answer['devices'])} ({', '.join(sorted(set(answer['devices'])))})"
    if answer["problem"]:
        return Check(
            name="GPU",
            level="warning",
            found=f"{devices}; page-locking memory failed: {answer['problem']}",
            wanted="page-locked memory, from which the GPU copies while it computes",
            remedy="Raise the container's memory or ulimit -l; without it batches are copied "
            "unpinned.",
        )
    speed = answer["copy_bytes_per_s"] / 1e9
    return Check(
        name="GPU", level="ok", found=f"{devices}; page-locked memory works ({speed:.1f} GB/s)"
    )
