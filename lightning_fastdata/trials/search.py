"""Trying numbers of workers until it is settled which one to take, or the time is up."""

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import mean

from lightning_fastdata.loader.make import is_gather, is_rows
from lightning_fastdata.loader.measure import key_of
from lightning_fastdata.loader.probing import probe
from lightning_fastdata.loader.serves import ring_problem
from lightning_fastdata.machine import most_workers_on, read_machine
from lightning_fastdata.plan import EngineName
from lightning_fastdata.trials.findings import Findings, StepTime
from lightning_fastdata.trials.policy import (
    above_floors,
    best_number,
    interleaved,
    next_number,
    numbers_to_weigh,
    shortfalls,
)
from lightning_fastdata.trials.share import on_share_of_cores
from lightning_fastdata.trials.step import StandInStep
from lightning_fastdata.trials.subject import Subject, loader_of, plan_with, untouched
from lightning_fastdata.trials.trial import Trial, run_trial
from lightning_fastdata.tuning.forecast import Demand, Forecast, Supply, forecast
from lightning_fastdata.tuning.replay import Steps, scaled
from lightning_fastdata.tuning.supply import DRAWN_BATCHES, supply_of, supply_of_batches

MOST_WORKERS = 256  # guess: more than any rank's storage answers at a time
TOLERATED_SHORTFALL = 0.05  # of batches a second, where no step time says what is needed
ROUNDS = 2  # of an exhaustive search: what two differ by is noise
IN_TIME = 0.7  # of the longest trial: with less time left, another would not end (guess)
HEADROOM = 1.2  # times the cost: JPEG batches take 46 to 61 ms here, by the minute (by hand)
LEAST_BATCHES = 5  # that any trial takes: two to settle, three measured


class Search:
    """Finds the fewest workers that keep training fed, by trials on the real dataset.

    Args:
        subject: What is loaded.
        step: What training does; ``None``: the most batches a second are looked for.
        max_stall_fraction: The limit, 0 to 1.
        on_trial: Called after each trial, with it and the findings so far.
        run: Makes a trial.
        clock_ns: Tells nanoseconds.
    """

    def __init__(
        self,
        subject: Subject,
        step: StepTime | None,
        *,
        max_stall_fraction: float,
        on_trial: Callable[[Trial, Findings], object] = lambda trial, findings: None,
        run: Callable[..., Trial | None] = run_trial,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._subject, self._on_trial = subject, on_trial
        self._run, self._clock_ns = run, clock_ns
        self._began_ns = clock_ns()
        machine = read_machine(os.environ, subject.local_world_size)
        key = key_of(subject.recipe, subject.samples_a_batch, machine)
        self._machine = machine
        measurable = subject.recipe.batched and not is_gather(subject.recipe)
        facts = None
        if measurable:
            facts = probe(
                untouched(subject).recipe,
                subject.samples_a_batch,
                bad_samples_end_it=subject.on_bad_sample == "raise",
            )
        self.findings = Findings(
            subject=subject,
            key=key,
            step=step,
            max_stall_fraction=max_stall_fraction,
            cores=machine.cores,
            facts=facts,
        )
        # Several that a launcher started may all be tuning: they would share one rank's cores.
        is_only_one_here = read_machine(os.environ).local_world_size == 1
        self._stands_for_several = is_only_one_here and machine.local_world_size > 1
        self._most = self._most_workers()
        self._supply: Supply | None = None

    def settle(self, budget_s: float) -> Findings:
        """Try those numbers that matter, for about so many seconds at most."""
        deadline_ns = self._began_ns + round(budget_s * 1e9)
        with self._stand_in() as step:
            number = self._first_number()
            while number is not None:
                whole_ns = (each.whole_ns for each in self.findings.trials)
                longest_ns = max([self._least_ns(number), *whole_ns])
                if longest_ns and deadline_ns - self._clock_ns() < IN_TIME * longest_ns:
                    break
                if not self._try(number, step, deadline_ns):
                    break
                number = self._next_number()
            self.findings.is_settled = number is None
        return self._concluded()

    def exhaust(self) -> Findings:
        """Try every number, twice each, however long that takes."""
        numbers = interleaved(self._most)
        never_ns = 2**63
        with self._stand_in() as step:
            for turn in range(ROUNDS):
                for number in numbers if turn % 2 == 0 else reversed(numbers):
                    self._try(number, step, never_ns)
        self.findings.is_settled = True
        return self._concluded()

    def _stand_in(self) -> StandInStep:
        step = self.findings.step
        return StandInStep(0) if step is None else StandInStep(step.step_ns, step.host_cores)

    def _most_workers(self) -> int:
        """Twice the cores, as far as there is memory for them."""
        most = min(MOST_WORKERS, most_workers_on(self.findings.cores))
        return plan_with(self._subject, most, self.findings.facts).num_workers

    def _first_number(self) -> int | None:
        facts, subject = self.findings.facts, self._subject
        if facts is None:  # the first trial tells what a batch costs
            return 0 if is_gather(subject.recipe) else min(1, self._most)
        fits = facts.stays_in(self._machine.memory_available_bytes, subject.samples_a_batch)
        self._foresee(supply_of(facts, subject.samples_a_batch, self._is_cut(), fits))
        return self._next_number()

    def _next_number(self) -> int | None:
        predicted, measured, limit = self._figures()
        number = next_number(predicted, measured, limit, self._floors())
        if number is not None:
            return number
        roomier = self._roomier(self._least())
        return None if roomier in measured else roomier

    def _least(self) -> int:
        """The fewest that do while batches cost what they did."""
        predicted, measured, limit = self._figures()
        predicted = above_floors(predicted, measured, self._floors())
        return best_number(predicted or {0: 0.0}, measured, limit)

    def _roomier(self, chosen: int) -> int:
        """One worker more, where those chosen are just enough for batches as quick as these.

        A worker too few shows all at once. Where one more is no help either, nothing is gained.
        """
        findings, supply = self.findings, self._supply
        limit, more = findings.max_stall_fraction, chosen + 1
        if findings.step is None or not chosen or more not in findings.forecasts or supply is None:
            return chosen
        stalls = findings.measured_stalls()
        tried = (stalls[number] for number in (chosen, more) if number in stalls)
        if any(mean(of_number) > limit for of_number in tried):
            return chosen
        slower = replace(supply, costs=tuple(scaled(cost, HEADROOM) for cost in supply.costs))
        with_chosen, with_more = (
            self._forecast(slower, number).stall_fraction for number in (chosen, more)
        )
        return more if with_chosen > limit >= with_more else chosen

    def _least_ns(self, number: int) -> float:
        """What a trial takes at least; 0 where nothing is known, and a trial alone can tell."""
        step, foreseen = self.findings.step, self.findings.forecasts.get(number)
        if foreseen is None and not is_gather(self._subject.recipe):
            return 0.0
        per_s = None if foreseen is None else foreseen.batches_per_s
        batch_ns = max(0 if step is None else step.step_ns, 1e9 / per_s if per_s else 0.0)
        return LEAST_BATCHES * batch_ns

    def _try(self, number: int, step: StandInStep, deadline_ns: int) -> bool:
        """Whether a trial of so many workers told anything."""
        findings = self.findings
        plan = plan_with(self._subject, number, findings.facts)
        if self._stands_for_several:
            plan = replace(plan, worker_cores=None)  # which would take workers off the share
        loader = loader_of(self._subject, plan, len(findings.trials))
        with on_share_of_cores(self._machine if self._stands_for_several else None) as cores:
            trial = self._run(loader, step, deadline_ns=deadline_ns)
        findings.cores_of_trials = cores
        if trial is None:
            return False
        findings.trials.append(trial)
        # What workers cost, the training process's own batches do not tell as well as they did.
        tells = trial.num_workers or not any(each.num_workers for each in findings.trials)
        if tells and any(batch.chunks for batch in trial.times):
            self._foresee(_supply_of(trial, is_cut=self._is_cut()))
        self._on_trial(trial, findings)
        return True

    def _foresee(self, supply: Supply) -> None:
        findings = self.findings
        if supply.batch_bytes is None and findings.facts is not None:
            supply = replace(supply, batch_bytes=findings.facts.batch_bytes)
        self._supply = supply
        tried = {trial.num_workers for trial in findings.trials}

        def foresee(numbers: Iterable[int]) -> None:
            for number in numbers:
                if number not in findings.forecasts:
                    findings.forecasts[number] = self._forecast(supply, number)

        findings.forecasts = {}
        foresee({*numbers_to_weigh(self._most), *tried})
        predicted, measured, limit = self._figures()
        foresee(numbers_to_weigh(self._most, around=best_number(predicted, {}, limit)))
        if measured:
            foresee(numbers_to_weigh(self._most, around=best_number(predicted, measured, limit)))
        for number, each in findings.forecasts.items():
            if number not in tried or number not in findings.foreseen:
                findings.foreseen[number] = each

    def _forecast(self, supply: Supply, number: int) -> Forecast:
        return forecast(
            supply,
            self._demand(),
            engine=self._engine(),
            num_workers=number,
            cores=self.findings.cores,
        )

    def _demand(self) -> Demand:
        """What training asks for; a short sleep takes longer than it was asked to."""
        step = self.findings.step
        if step is None:
            return Demand(steps=Steps(host_ns=[0]))
        host_ns = step.step_ns
        if not step.host_cores:  # what computes takes longer for the workers beside it
            took_ns = (trial.busy_ns // max(1, trial.batches) for trial in self.findings.trials)
            host_ns = max(host_ns, min(took_ns, default=0))
        return Demand(steps=Steps(host_ns=[host_ns]), host_cores=step.host_cores)

    def _figures(self) -> tuple[dict[int, float], dict[int, list[float]], float]:
        """What is predicted and measured, as stalls, and the limit of them."""
        findings = self.findings
        if findings.step is not None:
            stalls = {n: each.stall_fraction for n, each in findings.forecasts.items()}
            return stalls, findings.measured_stalls(), findings.max_stall_fraction
        known = {n: each.batches_per_s or 0.0 for n, each in findings.forecasts.items()}
        measured = findings.measured_rates()
        best = max([*{**known, **measured}.values()], default=0.0)
        tried = shortfalls(measured, best)
        return (
            shortfalls(known, best),
            {number: [short] for number, short in tried.items()},
            TOLERATED_SHORTFALL,
        )

    def _concluded(self) -> Findings:
        findings = self.findings
        least = self._least()
        findings.chosen = self._roomier(least)
        findings.has_headroom = findings.chosen > least
        findings.spent_ns = self._clock_ns() - self._began_ns
        return findings

    def _floors(self) -> dict[int, float]:
        """What more workers cannot change, by the numbers that were tried."""
        if self.findings.step is None:
            return {}  # it is in the batches a second that are compared then
        return self.findings.floors()

    def _engine(self) -> EngineName:
        is_torch = self._subject.engine == "torch" or ring_problem() is not None
        return "torch" if is_torch else "ring"

    def _is_cut(self) -> bool:
        return self._engine() == "ring" and is_rows(self._subject.recipe)


def _supply_of(trial: Trial, *, is_cut: bool) -> Supply:
    """What the batches of a trial cost, over and over until they are enough to be replayed."""
    newest = trial.times[-DRAWN_BATCHES:]
    supply = supply_of_batches(newest, num_workers=trial.num_workers, is_cut=is_cut)
    return replace(
        supply,
        costs=supply.costs * math.ceil(DRAWN_BATCHES / len(supply.costs)),
        next_ns=supply.next_ns + (trial.around_ns if trial.num_workers else 0),
    )
