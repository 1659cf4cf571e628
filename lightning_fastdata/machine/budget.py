"""The most workers that a rank may have, whatever training asks for."""

import math

WORKERS_A_CORE = 2  # guess: workers that wait for storage half of the time fill the cores


def most_workers_on(cores: float) -> int:
    """Say how many workers may share so many cores: never more than twice as many, and 1 at least.

    Args:
        cores: Of one rank, above 0; a fraction is CPU time.
    """
    return max(1, math.floor(WORKERS_A_CORE * cores))


def worker_budget(cores: float, cores_reason: str) -> tuple[int, str]:
    """Say how many workers a rank may have at most, and why.

    The ranks of a machine together never pass twice its cores, but that each may have one worker.

    Args:
        cores: That this rank may keep busy. Its share of a ``Machine`` already counts containers,
            SLURM and the other ranks.
        cores_reason: Why so many.

    Returns:
        The number, 1 or more, and the sentence.
    """
    most = most_workers_on(cores)
    return most, f"at most {most}, {WORKERS_A_CORE} a core of {cores_reason}"
