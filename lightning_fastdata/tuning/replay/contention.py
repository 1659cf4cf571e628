"""What workers lose to each other when they want more cores than there are."""

import math

from lightning_fastdata.errors import SettingsError

_HALVINGS = 60  # down to the last bit of a float


def service_factor(
    *,
    num_workers: int,
    cpu_fraction: float,
    cores: float,
    busy_elsewhere: float,
    needed: float | None = None,
) -> float:
    """By how much a worker's time for a batch stretches, 1 or more.

    Processor sharing: whatever wants to compute gets an equal share of the cores, so that computing
    takes ``x`` times as long and waiting does not. A worker then takes ``f = 1 - c + c * x`` times
    as long and uses ``c / f`` of a core; the training process, as ``t`` threads of ``e`` cores
    each, uses ``e / (1 - e + e * x)`` a thread. ``x`` is where all of it adds up to the cores.

    Limits. Averages only: several workers that compute at the same moment beyond the cores, while
    the average fits, cost nothing here. Caches, memory bandwidth and clock rates are left out, and
    two threads of one core count as two cores; all three make it worse. The training process slows
    as well, which is no part of the result.

    Args:
        num_workers: Workers there would be, 0 or more.
        cpu_fraction: Share (0 to 1) of a worker's time that computes when it is not disturbed.
        cores: Cores for workers and training process together.
        busy_elsewhere: Cores' worth that the training process computes when it is not disturbed.
        needed: Workers' worth of work that training asks for: the mean time to make a batch over
            the mean time of a step. With more workers than that, some are idle at any time; they
            take part only where the cores do not suffice. ``None``: all of them always work.

    Raises:
        SettingsError: If an argument is out of its range.
    """
    _refuse(num_workers, cpu_fraction, cores, busy_elsewhere)
    working = num_workers if needed is None else min(float(num_workers), needed)
    if working * cpu_fraction + busy_elsewhere <= cores:
        return 1.0
    # The cores do not suffice: the loader falls behind, and then none of its workers is idle.
    threads = max(1, math.ceil(busy_elsewhere))
    share = busy_elsewhere / threads
    low, high = 1.0, (num_workers + threads) / cores + 1.0
    for _ in range(_HALVINGS):
        stretch = (low + high) / 2
        used = num_workers * cpu_fraction / _slowed(cpu_fraction, stretch)
        used += threads * share / _slowed(share, stretch)
        low, high = (stretch, high) if used > cores else (low, stretch)
    return _slowed(cpu_fraction, high)


def _slowed(cpu_fraction: float, stretch: float) -> float:
    return 1.0 - cpu_fraction + cpu_fraction * stretch


def _refuse(num_workers: int, cpu_fraction: float, cores: float, busy_elsewhere: float) -> None:
    if num_workers < 0 or not 0.0 <= cpu_fraction <= 1.0 or cores <= 0.0 or busy_elsewhere < 0.0:
        raise SettingsError(
            f"num_workers {num_workers}, cpu_fraction {cpu_fraction}, cores {cores}, "
            f"busy_elsewhere {busy_elsewhere}; wanted are 0 or more workers, a share from 0 to 1, "
            "more than 0 cores, and 0 or more of them busy. Pass what was measured."
        )
