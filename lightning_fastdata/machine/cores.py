"""How many cores this rank may keep busy, and the sentence that says why."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.machine.slurm import SlurmShare, positive_int

MINIMUM_CORES = 0.001
"""The smallest share reported: the kernel's smallest quota, 1 ms of CPU time in a period of 1 s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """CPU time that a cgroup grants, in cores: 2.5 is 250 ms in every 100 ms."""

    cores: float | None = None
    """``None`` where no cgroup limits the CPU time."""
    path: str | None = None
    """The file that sets it: of all ancestors, the tightest."""
    notes: tuple[str, ...] = ()
    """Files that could not be understood."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalRanks:
    """How many ranks of the run share this machine."""

    count: int
    source: str
    """What told so: an argument, a variable, or nothing."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CoreShare:
    """The cores of one rank."""

    cores: float
    """Never more than the affinity allows; below 1 where ranks or a quota share a core."""
    reason: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bound:
    cores: float
    sentence: str


def whole_cores(cores: float) -> int:
    """Round a share down to the processes that can be busy at once, at least 1.

    A quota is CPU time, not parallelism: under 2.5 cores, 2 busy processes run freely, while 3 are
    all stopped by the kernel for the last part of every period. So a fraction is never rounded up.
    """
    return max(1, math.floor(cores))


def parse_quota_v2(text: str) -> float | None:
    """Read ``cpu.max`` (``250000 100000`` or ``max 100000``) as cores; ``None`` is unlimited.

    Raises:
        ValueError: The text is neither.
    """
    fields = text.split()
    if fields[:1] == ["max"] and len(fields) <= 2:
        return None
    if len(fields) != 2:
        raise ValueError(f"found {text.strip()[:40]!r}, wanted QUOTA PERIOD or max PERIOD")
    return _quota_cores(*fields)


def parse_quota_v1(quota_text: str, period_text: str) -> float | None:
    """Read ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` as cores; ``None`` (-1) is unlimited.

    Raises:
        ValueError: A text is not a number, or a number makes no sense.
    """
    if quota_text.strip() == "-1":
        return None
    return _quota_cores(quota_text, period_text)


def _quota_cores(quota_text: str, period_text: str) -> float:
    found = f"{quota_text.strip()[:20]!r} and {period_text.strip()[:20]!r}"
    # 18 digits are 30,000 years: what is longer was not written by a kernel.
    if not all(
        re.fullmatch(r"0*[1-9]\d{0,17}\s*", text, re.ASCII) for text in (quota_text, period_text)
    ):
        raise ValueError(f"found {found}, wanted a quota and a period in microseconds, above 0")
    return int(quota_text) / int(period_text)


def tightest_quota(directories: Sequence[str], texts: Mapping[str, str]) -> Quota:
    """Find the smallest CPU quota among a cgroup's directories, itself and all ancestors.

    Args:
        directories: The directories, in any order.
        texts: Path to text of the files that could be read.

    Returns:
        The tightest quota; files that make no sense are notes.
    """
    tightest = Quota()
    notes: list[str] = []
    for directory in directories:
        path_v2, path_v1 = f"{directory}/cpu.max", f"{directory}/cpu.cfs_quota_us"
        path = path_v2 if path_v2 in texts else path_v1
        if path not in texts:
            continue
        try:
            if path == path_v2:
                cores = parse_quota_v2(texts[path])
            else:
                cores = parse_quota_v1(texts[path], texts.get(f"{directory}/cpu.cfs_period_us", ""))
        except ValueError as error:
            notes.append(f"{path} is not counted: {error}.")
            continue
        if cores is not None and (tightest.cores is None or cores < tightest.cores):
            tightest = Quota(cores=cores, path=path)
    return Quota(cores=tightest.cores, path=tightest.path, notes=tuple(notes))


def count_local_ranks(
    argument: int | None, environ: Mapping[str, str], slurm: SlurmShare
) -> LocalRanks:
    """Count the ranks on this machine: the argument, else torchrun's variable, else SLURM's tasks.

    Raises:
        SettingsError: ``argument`` is below 1.
    """
    if argument is not None:
        if argument < 1:
            raise SettingsError(
                f"local_world_size is {argument}, but at least this one rank runs on the machine. "
                "Pass the number of ranks on this machine, or None to read it from the environment."
            )
        return LocalRanks(count=argument, source="local_world_size")
    notes: list[str] = []
    count = positive_int(environ, "LOCAL_WORLD_SIZE", notes)
    if count is not None:
        return LocalRanks(count=count, source="LOCAL_WORLD_SIZE")
    if slurm.tasks_on_node is not None and slurm.tasks_source is not None:
        if slurm.tasks_on_node > 1 and not environ.get("SLURM_STEP_ID"):
            notes.append(
                f"{slurm.tasks_source} tells of {slurm.tasks_on_node} tasks, though srun did not "
                "start this process (no SLURM_STEP_ID); they are counted. If it runs alone, pass "
                "local_world_size=1."
            )
        source = slurm.tasks_source
        return LocalRanks(count=slurm.tasks_on_node, source=source, notes=tuple(notes))
    return LocalRanks(count=1, source="no launcher found", notes=tuple(notes))


def share_cores(
    *,
    machine_cores: int,
    affinity_cores: int,
    parent_affinity_cores: int | None,
    quota: Quota,
    slurm: SlurmShare,
    ranks: LocalRanks,
) -> CoreShare:
    """Work out the cores of this rank: the tightest of affinity, quota and SLURM's grant.

    Args:
        machine_cores: Cores of the machine.
        affinity_cores: Cores that this process may run on, at least 1.
        parent_affinity_cores: The same of the launcher that started this rank; ``None`` where none
            is known. Where it is larger, the launcher bound each rank to cores of its own.
        quota: The tightest cgroup quota; all local ranks share it.
        slurm: What SLURM gave.
        ranks: The ranks on this machine.

    Returns:
        The share of this rank, the reason, and what the user should know beside it.
    """
    ranks_per_task = math.ceil(ranks.count / (slurm.tasks_on_node or 1))
    bounds = [_affinity_bound(affinity_cores, parent_affinity_cores, slurm, ranks, ranks_per_task)]
    if quota.cores is not None:
        sentence = f"the cgroup quota in {quota.path} is {quota.cores:g} cores of CPU time"
        bounds.append(_shared(quota.cores, sentence, ranks.count, ranks.source))
    bounds += _slurm_bounds(slurm, ranks, ranks_per_task)
    bounds.sort(key=lambda bound: bound.cores)
    cores = max(MINIMUM_CORES, bounds[0].cores)
    reason = f"{_count(round(cores, 3), 'core')}: {bounds[0].sentence}"
    if bounds[1:]:
        reason += f" (no tighter: {'; '.join(bound.sentence for bound in bounds[1:])})"
    notes = _share_notes(machine_cores, affinity_cores, quota, slurm)
    return CoreShare(cores=cores, reason=f"{reason}.", notes=tuple(notes))


def _affinity_bound(
    affinity_cores: int,
    parent_affinity_cores: int | None,
    slurm: SlurmShare,
    ranks: LocalRanks,
    ranks_per_task: int,
) -> _Bound:
    """Share the affinity among the local ranks, unless it shows to be this task's or rank's own."""
    sentence = f"affinity allows {_count(affinity_cores, 'core')}"
    if parent_affinity_cores is not None and affinity_cores < parent_affinity_cores:
        own = f"{sentence}, this rank's own (its launcher has {parent_affinity_cores})"
        return _Bound(cores=affinity_cores, sentence=own)
    if ranks_per_task < ranks.count:
        if slurm.cpus_per_task is not None and affinity_cores <= slurm.cpus_per_task:
            sentence += f", this task's own (SLURM_CPUS_PER_TASK={slurm.cpus_per_task})"
            return _shared(affinity_cores, sentence, ranks_per_task, ranks.source)
        tasks_affinity_cores = affinity_cores * (slurm.tasks_on_node or 1)
        if slurm.cpus_on_node is not None and tasks_affinity_cores <= slurm.cpus_on_node:
            sentence += f", this task's own (SLURM_CPUS_ON_NODE={slurm.cpus_on_node})"
            return _shared(affinity_cores, sentence, ranks_per_task, ranks.source)
    return _shared(affinity_cores, sentence, ranks.count, ranks.source)


def _slurm_bounds(slurm: SlurmShare, ranks: LocalRanks, ranks_per_task: int) -> list[_Bound]:
    bounds = []
    if slurm.cpus_per_task is not None:
        sentence = f"SLURM_CPUS_PER_TASK={slurm.cpus_per_task} is this task's"
        bounds.append(_shared(slurm.cpus_per_task, sentence, ranks_per_task, ranks.source))
    if slurm.cpus_on_node is not None:
        sentence = f"SLURM_CPUS_ON_NODE={slurm.cpus_on_node} is this node's"
        bounds.append(_shared(slurm.cpus_on_node, sentence, ranks.count, ranks.source))
    if slurm.cpus_per_gpu is not None and slurm.gpus_on_node is not None:
        cores = slurm.cpus_per_gpu * slurm.gpus_on_node
        sentence = f"SLURM_CPUS_PER_GPU={slurm.cpus_per_gpu} is {cores} for this node's GPUs"
        bounds.append(_shared(cores, sentence, ranks.count, ranks.source))
    elif slurm.cpus_per_gpu is not None:
        sentence = f"SLURM_CPUS_PER_GPU={slurm.cpus_per_gpu}, taking one GPU a rank"
        bounds.append(_Bound(cores=slurm.cpus_per_gpu, sentence=sentence))
    return bounds


def _shared(cores: float, sentence: str, ranks: int, source: str) -> _Bound:
    if ranks > 1:
        sentence += f", shared by {ranks} ranks ({source})"
    return _Bound(cores=cores / ranks, sentence=sentence)


def _share_notes(
    machine_cores: int, affinity_cores: int, quota: Quota, slurm: SlurmShare
) -> list[str]:
    notes = []
    if affinity_cores == 1 and machine_cores > 1:
        remedy = "look for taskset, OMP_PROC_BIND, GOMP_CPU_AFFINITY or KMP_AFFINITY"
        if slurm.cpus_per_task is not None or slurm.tasks_on_node is not None:
            remedy = (
                "give srun its own --cpus-per-task (since 22.05 it does not take sbatch's), "
                f"and {remedy}"
            )
        notes.append(
            f"this process may run on 1 core only, of {machine_cores} on this machine, and every "
            f"worker inherits that. If it is not meant, {remedy}."
        )
    if quota.cores is not None and quota.cores < affinity_cores:
        notes.append(
            f"the quota of {quota.cores:g} cores is CPU time over {affinity_cores} cores: more "
            f"than {whole_cores(quota.cores)} busy at once are stopped for part of each period."
        )
    return notes


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"
