"""What a run would have waited for, had one thing been different."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from lightning_fastdata.stalls.costs import EVERYTHING, Kept
from lightning_fastdata.stalls.sharing import Sharing
from lightning_fastdata.stalls.workload import Pass
from lightning_fastdata.trace import LoaderSetup
from lightning_fastdata.tuning.choose import HANDOVER_BYTES_PER_S, HANDOVER_NS
from lightning_fastdata.tuning.forecast import usual_prefetch
from lightning_fastdata.tuning.replay import (
    BatchCost,
    Dispatch,
    InlineDispatch,
    RingDispatch,
    Steps,
    TorchDispatch,
    fewest_workers,
    handing_ns_of,
    replay,
    scaled,
)
from lightning_fastdata.tuning.supply import RING_HANDING_NS

HEADROOM = 1.1  # guess: the next run is not this one to the millisecond
MOST_SEARCHED = 512  # batches: the search replays them about ten times


@dataclass(frozen=True)
class WhatIf(Sharing):
    """Replays of what one loader did.

    A replay of the run as it was is set beside what was measured. What the replay does not explain
    stays in every prediction, but for waits for batches that were already made; what it says too
    much of is taken off in proportion.
    """

    @cached_property
    def as_it_was_ns(self) -> float:
        """The mean loss a steady step, replayed without any change."""
        return self.lost_ns()

    def lost_ns(
        self,
        kept: Kept = EVERYTHING,
        *,
        num_workers: int | None = None,
        is_handed: bool = True,
        gaps: Sequence[Sequence[int]] | None = None,
    ) -> float:
        """Replay, and give the mean loss a steady step.

        Args:
            kept: What is left of the batches' costs.
            num_workers: Another number of workers, who share the cores.
            is_handed: Whether batches take time to come over.
            gaps: Other times between batches, by pass.
        """
        costs = self.workload.costs(kept)
        if num_workers is not None:
            factor = self._factor(num_workers)
            undisturbed = self.workload.costs(_alone(kept, self._contention()))
            costs = [[scaled(cost, factor) for cost in each] for each in undisturbed]
            stretch = self.host_stretch(num_workers)
            gaps = [[round(gap_ns * stretch) for gap_ns in each] for each in gaps or self._gaps()]
        dispatch = self._dispatch(num_workers, is_handed=is_handed)
        transit_ns = self.workload.transit_ns if is_handed else 0
        return self._play(costs, dispatch, transit_ns, gaps)

    def predicted(
        self, lost_ns: float, *, num_workers: int | None = None, saved_ns: float = 0.0
    ) -> float:
        """Return the run's stall for a replayed loss a step.

        Args:
            lost_ns: As ``lost_ns`` gives it.
            num_workers: Of that replay, where it was another number.
            saved_ns: What a step would take less besides.
        """
        if num_workers is not None:
            saved_ns += self.measured.busy_ns * (1.0 - self.host_stretch(num_workers))
        return self._stall_fraction(self.corrected_ns(lost_ns), saved_ns)

    def predicted_without_handing(self) -> float:
        """Return the run's stall if batches took no time to come over.

        The measured share of waits for batches that were already made goes away; a replay cannot
        tell how long a full pipe holds a batch up. What remains is the rest of the waiting, or what
        making batches as they are wanted would cost then, if that is more.
        """
        base_ns, seen_ns = self.as_it_was_ns, self.measured.seen_ns
        making_ns = self.lost_ns(is_handed=False) * min(1.0, seen_ns / max(1.0, base_ns))
        left_ns = max(making_ns, seen_ns * (1.0 - self.workload.handed_fraction))
        return self._stall_fraction(self._of_the_run_ns(left_ns), 0.0)

    def corrected_ns(self, lost_ns: float) -> float:
        """Return a replayed loss as it would be measured."""
        base_ns, seen_ns = self.as_it_was_ns, self.measured.seen_ns
        expected_ns = lost_ns + (seen_ns - base_ns)
        if lost_ns < base_ns > seen_ns:
            expected_ns = lost_ns * seen_ns / base_ns
        return self._of_the_run_ns(expected_ns)

    def _of_the_run_ns(self, expected_ns: float) -> float:
        """The run as a whole may have lost more or less than the piece that is replayed."""
        seen_ns = self.measured.seen_ns
        if expected_ns < seen_ns:
            return self.measured.stall_ns * expected_ns / seen_ns
        return self.measured.stall_ns + expected_ns - seen_ns

    def _stall_fraction(self, own_stall_ns: float, saved_ns: float) -> float:
        stall_ns = self.measured.other_stall_ns + own_stall_ns
        whole_ns = stall_ns + max(0.0, self.measured.busy_ns - saved_ns)
        return min(1.0, stall_ns / whole_ns) if whole_ns > 0 else 0.0

    def fewest(
        self, most_stall_fraction: float, most_workers: int, *, headroom: float = HEADROOM
    ) -> tuple[int, float]:
        """Return how few workers would do, or help at all, and the loss a step with them.

        Args:
            most_stall_fraction: That is aimed at.
            most_workers: That are tried.
            headroom: By how much longer batches may take, for the number; not for the loss.
        """
        most = min(most_workers, self._workers_for_all_cores())
        kept = _alone(Kept(factor=headroom), self._contention())
        longest = max(range(len(self.workload.passes)), key=lambda k: len(self._gaps()[k]))
        costs = self.workload.costs(kept)[longest][-MOST_SEARCHED:]
        steps = self._steps(self.workload.passes[longest], self._gaps()[longest][-MOST_SEARCHED:])
        found, _ = fewest_workers(
            costs,
            steps,
            lambda num_workers: self._dispatch(num_workers, is_handed=True),
            most=max(1, most),
            max_stall_fraction=most_stall_fraction + self.handover_fraction,
            transit_ns=self.workload.transit_ns,
            factor=self._factor,
        )
        return found, self.lost_ns(num_workers=found)

    @property
    def handover_fraction(self) -> float:
        """Share of a step that taking a batch costs, with any number of workers."""
        has_workers = self.workload.loader.setup.num_workers > 0
        next_ns = self.workload.next_ns if has_workers else self._first_handover_ns()
        return next_ns / (next_ns + max(1.0, self.measured.busy_ns))

    def _dispatch(self, num_workers: int | None, *, is_handed: bool) -> Dispatch:
        setup = self.workload.loader.setup
        workers = setup.num_workers if num_workers is None else num_workers
        if workers == 0:
            return InlineDispatch()
        next_ns = self.workload.next_ns if setup.num_workers else self._first_handover_ns()
        next_ns = next_ns if is_handed else 0
        handing_ns = self._handing_ns if is_handed else 0
        if setup.is_ours and setup.engine != "torch":
            return RingDispatch(
                num_workers=workers,
                depth=_depth(setup, workers),
                is_cut=any(len(batch.chunks) > 1 for batch in self.workload.steady),
                in_order=setup.in_order,
                next_ns=next_ns,
                handing_ns=RING_HANDING_NS if handing_ns is None else handing_ns,
            )
        return TorchDispatch(
            num_workers=workers,
            prefetch_factor=_prefetch_factor(setup),
            handing_ns=handing_ns or 0,
            in_order=setup.in_order,
            next_ns=next_ns,
        )

    @cached_property
    def _handing_ns(self) -> int | None:
        """A worker's time from one chunk to the next, where one lay ready."""
        return handing_ns_of(self.workload.steady)

    def _first_handover_ns(self) -> int:
        """What taking a batch from workers will cost where there were none."""
        sizes = [batch.size_bytes for batch in self.workload.steady if batch.size_bytes]
        size_bytes = sizes[-1] if sizes and not self.workload.loader.setup.is_ours else 0
        return HANDOVER_NS + round(1e9 * size_bytes / HANDOVER_BYTES_PER_S)

    def _gaps(self) -> list[Sequence[int]]:
        return [each.gaps_ns for each in self.workload.passes]

    def _steps(self, each: Pass, gaps_ns: Sequence[int]) -> Steps:
        device_ns = self.workload.device_ns
        if device_ns is None:
            return Steps(host_ns=gaps_ns)
        return Steps(host_ns=gaps_ns, device_ns=device_ns[-len(each.batches) :])

    def _play(
        self,
        costs: list[list[BatchCost]],
        dispatch: Dispatch,
        transit_ns: int,
        gaps: Sequence[Sequence[int]] | None,
    ) -> float:
        lost_ns = steps = 0
        for each, batches, gaps_ns in zip(
            self.workload.passes, costs, gaps or self._gaps(), strict=True
        ):
            played = replay(batches, self._steps(each, gaps_ns), dispatch, transit_ns=transit_ns)
            lost_ns += int(played.exposed_ns[1:].sum())
            steps += len(batches) - 1
        return lost_ns / max(1, steps)


def _alone(kept: Kept, contention: float) -> Kept:
    """What batches cost a worker that always has a core; chunk by chunk where that is known."""
    if contention == 1.0:
        return kept
    return Kept(slow_from=kept.slow_from, blocked=kept.blocked, core_wait=False, factor=kept.factor)


def _prefetch_factor(setup: LoaderSetup) -> int:
    return max(1, setup.prefetch_batches // setup.num_workers) if setup.num_workers else 2


def _depth(setup: LoaderSetup, workers: int) -> int:
    if workers == setup.num_workers:
        return max(1, setup.prefetch_batches)
    return workers * usual_prefetch("ring", workers)
