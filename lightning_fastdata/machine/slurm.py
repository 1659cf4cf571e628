"""What SLURM gave to this task, read from its environment variables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TASK_VARIABLES = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_NTASKS_PER_NODE", "SLURM_TASKS_PER_NODE")


@dataclass(frozen=True, kw_only=True, slots=True)
class SlurmShare:
    """The numbers of one SLURM task; each is ``None`` where SLURM does not say."""

    tasks_on_node: int | None = None
    """Tasks that run on this node. Each has its own share of the cores."""
    tasks_source: str | None = None
    """The variable that told ``tasks_on_node``."""
    cpus_per_task: int | None = None
    """CPUs of one task, which all ranks inside that task share."""
    cpus_on_node: int | None = None
    """CPUs of the job on this node, which all tasks share."""
    cpus_per_gpu: int | None = None
    """CPUs that came with each GPU."""
    gpus_on_node: int | None = None
    """GPUs of the job on this node."""
    notes: tuple[str, ...] = ()
    """Values that could not be understood, and limits that are only told."""


def read_slurm(environ: Mapping[str, str]) -> SlurmShare:
    """Read SLURM's variables; a value that makes no sense becomes a note, never an error."""
    notes: list[str] = []
    tasks_source = next((name for name in _TASK_VARIABLES if environ.get(name)), None)
    tasks_on_node = None
    if tasks_source is not None:
        try:
            tasks_on_node = tasks_on_this_node(environ[tasks_source], environ.get("SLURM_NODEID"))
        except ValueError as error:
            notes.append(f"{tasks_source}={environ[tasks_source]!r} is not counted: {error}.")
            tasks_source = None
    return SlurmShare(
        tasks_on_node=tasks_on_node,
        tasks_source=tasks_source,
        cpus_per_task=positive_int(environ, "SLURM_CPUS_PER_TASK", notes),
        cpus_on_node=positive_int(environ, "SLURM_CPUS_ON_NODE", notes),
        cpus_per_gpu=positive_int(environ, "SLURM_CPUS_PER_GPU", notes),
        gpus_on_node=positive_int(environ, "SLURM_GPUS_ON_NODE", notes),
        notes=(*notes, *_memory_notes(environ)),
    )


def tasks_on_this_node(text: str, node_id: str | None) -> int:
    """Read SLURM's compressed list of tasks a node, such as ``4(x2),3``.

    Args:
        text: The list: ``4(x2),3`` is 4 tasks on nodes 0 and 1, and 3 on node 2.
        node_id: ``SLURM_NODEID``, the place of this node in the list. Without one, or with one past
            the end, the largest count is taken, which gives each rank the smallest share.

    Returns:
        The tasks on this node, at least 1.

    Raises:
        ValueError: ``text`` is not such a list, or a count is 0.
    """
    counts: list[tuple[int, int]] = []
    for group in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:\(x(\d{1,9})\))?\s*", group, re.ASCII)
        if match is None or int(match[1]) == 0:
            raise ValueError(f"{group!r} is not a count of tasks such as 4 or 4(x2)")
        counts.append((int(match[1]), int(match[2] or 1)))
    if node_id is not None and re.fullmatch(r"\d{1,9}", node_id, re.ASCII):
        nodes_before = 0
        for tasks, nodes in counts:
            nodes_before += nodes
            if int(node_id) < nodes_before:
                return tasks
    return max(tasks for tasks, _ in counts)


def positive_int(environ: Mapping[str, str], name: str, notes: list[str]) -> int | None:
    """Read one variable as a whole number above 0; anything else is added to ``notes``."""
    text = environ.get(name, "").strip()
    if not text:
        return None
    if re.fullmatch(r"\d{1,9}", text, re.ASCII) and int(text) > 0:
        return int(text)
    notes.append(f"{name}={text[:40]!r} is not counted: it is not a whole number above 0.")
    return None


def _memory_notes(environ: Mapping[str, str]) -> list[str]:
    """Tell what memory was asked for; the cgroup, where SLURM sets one, is what enforces it."""
    names = ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_GPU")
    return [
        f"{name}={environ[name]} (MiB) was asked of SLURM; it is told, not counted."
        for name in names
        if environ.get(name)
    ]
