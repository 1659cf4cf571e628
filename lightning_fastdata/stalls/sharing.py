"""How a loader's workers and the training process share the cores."""

import math
from dataclasses import dataclass

from lightning_fastdata.stalls.work_figures import core_wait_fraction
from lightning_fastdata.stalls.workload import Workload
from lightning_fastdata.tuning.replay import service_factor

LEAST_CORES = 0.1
LEAST_COMPUTING = 0.01  # of a worker's time
MOST_UNKNOWN = 64  # workers where nobody knows the cores


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a steady step took in the whole run, by its mean."""

    stall_ns: float
    """For this loader."""
    seen_ns: float
    """The same, of the piece of the run that is replayed."""
    other_stall_ns: float
    """For other loaders."""
    busy_ns: float
    """All the rest, validation left out."""
    cores: float | None
    """That there are for workers and training process; ``None`` is not known."""
    host_cores: float = 1.0
    """That the training process keeps busy while it does not wait."""
    is_scarce_from: float = 1.0
    """Share of the workers' time that they wait for a core, from which on none is ever free."""
    host_trains: bool = False
    """Whether the training process itself is what computes, on the cores that workers share."""


@dataclass(frozen=True)
class Sharing:
    """What workers and training process got of the cores, and would get otherwise."""

    workload: Workload
    measured: Measured

    def host_stretch(self, num_workers: int) -> float:
        """Return by how much training's own time changes with another number of workers.

        Where it computes on the cores that workers keep busy, fewer of them let it go faster, so
        that it comes for the next batch earlier. Of its time off a core, it waited for one as far
        as the workers' own wait explains that; the rest it slept, and would again.
        """
        cores, measured = self.cores, self.measured
        if cores is None or not measured.host_trains or not self._is_scarce:
            return 1.0
        computed = measured.host_cores / max(1, math.ceil(measured.host_cores))
        totals = self.workload.loader.work.totals
        slower = 1.0 + (totals.core_wait_ns or 0) / max(1, totals.cpu_ns)
        slept = max(0.0, 1.0 - computed * slower)
        undisturbed_ns = measured.busy_ns * (slept + computed)
        now, then = (
            self._crowding(workers, undisturbed_ns)
            for workers in (self.workload.loader.setup.num_workers, num_workers)
        )
        return slept + max(computed, (1.0 - slept) * then / now)

    def _crowding(self, num_workers: int, step_ns: float) -> float:
        """By how much computing takes longer than with a core of its own, 1 or more."""
        work_ns = self.workload.work_ns * self._contention()
        at_work = min(num_workers, work_ns / max(1.0, step_ns))
        threads = max(1, math.ceil(self.measured.host_cores))
        return max(1.0, (at_work * self.cpu_fraction + threads) / (self.cores or 1.0))

    @property
    def cpu_fraction(self) -> float:
        """Share of a worker's undisturbed time that computes."""
        chunks = self.workload.chunks
        cpu_ns = sum(chunk.cpu_ns for chunk in chunks)
        wall_ns = sum(chunk.ended_ns - chunk.began_ns for chunk in chunks)
        return min(1.0, max(0.0, cpu_ns / max(1.0, wall_ns * self._contention())))

    @property
    def busy_cores(self) -> float:
        """Cores that this loader's workers used in the run, by its mean."""
        step_ns = self.measured.stall_ns + self.measured.other_stall_ns + self.measured.busy_ns
        batches = sum(len(each.batches) for each in self.workload.passes)
        cpu_ns = sum(chunk.cpu_ns for chunk in self.workload.chunks) / max(1, batches)
        return cpu_ns / step_ns if step_ns > 0 else 0.0

    @property
    def core_wait_fraction(self) -> float:
        """Share of the workers' time (0 to 1) in which they waited for a core; 0 if not known."""
        return core_wait_fraction(self.workload.loader.work.totals)

    @property
    def cores(self) -> float | None:
        """Cores for workers and training process; ``None`` is not known.

        Where workers have to wait for one, others use the rest: there are no more than were used.
        """
        cores, usable = self.measured.cores, self.usable_cores
        if cores is None or usable is None or not self._is_scarce:
            return cores
        return max(LEAST_CORES, min(cores, cores * self.used_cores / usable))

    @property
    def usable_cores(self) -> float | None:
        """Cores that workers and training process can keep busy; ``None`` is not known.

        Without workers that is one, however many there are.
        """
        if self.measured.cores is None:
            return None
        threads = max(1, math.ceil(self.measured.host_cores))
        return min(self.measured.cores, self.workload.loader.setup.num_workers + threads)

    @property
    def used_cores(self) -> float:
        """Cores that workers and training process used in the run, by its mean."""
        measured = self.measured
        lost_ns = measured.stall_ns + measured.other_stall_ns
        host = measured.host_cores * measured.busy_ns / max(1.0, lost_ns + measured.busy_ns)
        return self.busy_cores + host

    def slow_from(self, times: float) -> float:
        """From how many times the usual time on a sample is slow by its own doing."""
        return times / self._contention()

    @property
    def _is_scarce(self) -> bool:
        return self.core_wait_fraction >= self.measured.is_scarce_from

    def _contention(self) -> float:
        """The share of the workers' time that would be left if each always had a core."""
        return 1.0 - self.core_wait_fraction

    def _workers_for_all_cores(self) -> int:
        """More than these only wait for each other."""
        cores = self.cores
        if cores is None:
            return MOST_UNKNOWN
        return math.ceil(cores / max(LEAST_COMPUTING, self.cpu_fraction))

    def _factor(self, num_workers: int) -> float:
        cores = self.cores
        if cores is None:
            return 1.0
        needed = self.workload.work_ns * self._contention() / max(1.0, self.measured.busy_ns)
        return service_factor(
            num_workers=num_workers,
            cpu_fraction=self.cpu_fraction,
            cores=cores,
            busy_elsewhere=self.measured.host_cores,
            needed=needed,
        )
