"""What the planner remembers of loaders, and what it gives to a checkpoint."""

import copy
import gc
import json
import pickle
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_machine import DECISION, cheap, two_cores
from toy_runs import BATCH, Numbers

from lightning_fastdata import FastDataLoader, FastDataModule
from lightning_fastdata.datamodule import planner, used
from lightning_fastdata.datamodule.assemble import agreed_plan
from lightning_fastdata.datamodule.planner import Planner
from lightning_fastdata.datamodule.used import LEAST_BATCHES, LEAST_S, Used
from lightning_fastdata.loader import measure
from lightning_fastdata.loader.make import recipe_of
from lightning_fastdata.loader.measure import key_of, measure_and_choose
from lightning_fastdata.machine import Machine
from lightning_fastdata.machine.numa import NearCores
from lightning_fastdata.plan import Candidate, LoaderPlan
from lightning_fastdata.tuning.choose import Wishes
from lightning_fastdata.tuning.control.window import Window
from lightning_fastdata.tuning.memory import PlanMemory
from lightning_fastdata.tuning.probe import ProbeFacts
from lightning_fastdata.tuning.remembered import Remembered

PLAN = LoaderPlan(
    engine="ring",
    num_workers=2,
    prefetch_batches=8,
    pin_memory=False,
    persistent_workers=True,
    start_method=None,
    max_workers=4,
    worker_cores=(0, 1),
    candidates=(
        Candidate(
            engine="ring",
            num_workers=2,
            prefetch_batches=8,
            predicted_stall_fraction=0.01,
            predicted_batches_per_s=10.0,
        ),
    ),
    reasons={"num_workers": "a test says so"},
)
WINDOW = Window(
    began_ns=0,
    ended_ns=4_000,
    num_workers=2,
    batches=10,
    busy_ns=3_000,
    stall_ns=1_000,
    ready_fraction=1.0,
    costs=(),
    work_ns=0,
    cpu_ns=0,
    core_wait_ns=None,
)


class Clocked:
    """A loader's pace, as it is after a run."""

    def __init__(self, steps: int = LEAST_BATCHES, seconds: float = LEAST_S) -> None:
        self.steps, self._seconds = steps, seconds

    def used_s(self) -> float:
        return self._seconds

    def median_s(self) -> float | None:
        return 0.25


class Loader:
    """As much of a loader as is followed."""

    def __init__(self, plan: LoaderPlan = PLAN, window: Window | None = WINDOW) -> None:
        self.dataset = Numbers()
        self.plan, self.newest_window = plan, window
        self.pace: Any = Clocked()


@pytest.fixture(autouse=True)
def _known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "read_machine", two_cores)
    monkeypatch.setattr(planner, "probe", cheap)


def a_use(loader: Any, before: Used | None = None) -> Used:
    recipe = recipe_of(loader.dataset, None, None, batched=True)
    return Used(key_of(recipe, BATCH, two_cores({}, 1)), loader, 100, before)


def planned(plans: Planner, dataset: Any, batch_size: int = BATCH) -> LoaderPlan:
    plan = plans.plan(
        "train",
        Wishes(),
        recipe_of(dataset, None, None, batched=True),
        batch_size,
        local_world_size=1,
        max_stall_fraction=0.02,
        bad_samples_end_it=True,
    )
    plans.settle("train", plan)
    return plan


class TestALoaderInUse:
    def test_comes_to_what_its_plan_is_now(self) -> None:
        loader = Loader()
        use = a_use(loader)

        loader.plan = replace(PLAN, num_workers=3, prefetch_batches=9)
        loader.newest_window = replace(WINDOW, num_workers=3)

        assert use.decision("run", "2026-11-23") == Remembered(
            engine="ring",
            num_workers=3,
            prefetch_batches=9,
            stall_fraction=0.25,
            step_time_s=300 / 1e9,
            batch_bytes=100,
            source="run",
            saved_on="2026-11-23",
        )

    def test_is_not_said_to_stall_as_with_another_number_of_workers(self) -> None:
        loader = Loader(window=replace(WINDOW, num_workers=1))

        decision = a_use(loader).decision("run", "2026-11-23")

        assert decision.stall_fraction is None
        assert decision.step_time_s == 0.25

    @pytest.mark.parametrize(
        ("change", "is_proven"),
        [
            ({}, True),
            ({"steps": LEAST_BATCHES - 1}, False),
            ({"seconds": LEAST_S - 0.001}, False),
        ],
        ids=str,
    )
    def test_is_proven_by_enough_batches_and_seconds(
        self, change: dict[str, Any], is_proven: bool
    ) -> None:
        loader = Loader()
        loader.pace = Clocked(**change)

        assert a_use(loader).is_proven() is is_proven

    def test_proves_nothing_where_its_number_may_not_change(self) -> None:
        assert not a_use(Loader(plan=replace(PLAN, max_workers=None))).is_proven()

    def test_goes_on_from_what_the_one_before_it_proved(self) -> None:
        first, last, other = Loader(), Loader(), Loader()
        last.pace = other.pace = Clocked(steps=1)
        other.dataset = Numbers(1)

        proven = a_use(first)

        assert not a_use(last).is_proven()
        assert a_use(last, before=proven).is_proven()
        assert not a_use(other, before=proven).is_proven()
        assert not a_use(last, before=a_use(last)).is_proven()

    def test_is_proven_by_short_ones_together(self) -> None:
        short = Loader()
        short.pace = Clocked(steps=LEAST_BATCHES // 2, seconds=LEAST_S / 2)

        assert not a_use(short).is_proven()
        assert a_use(short, before=a_use(short)).is_proven()

    def test_is_not_kept_alive(self) -> None:
        loader = Loader()
        use, alive = a_use(loader), weakref.ref(loader)

        loader.plan = replace(PLAN, num_workers=3)
        assert use.plan().num_workers == 3
        del loader
        gc.collect()

        assert alive() is None
        assert use.plan().num_workers == 3  # as it was when somebody looked last


class TestAPlan:
    def test_of_a_dataset_that_counts_its_reads_is_found_again(self, tmp_path: Path) -> None:
        """It is another dataset by its attributes by then; the run's is the one it began with."""
        plans, dataset = Planner(PlanMemory(tmp_path)), Numbers()
        planned(plans, dataset)
        began_with = plans._keys["train"][2]
        assert dataset.reads == 1

        planned(plans, dataset)

        assert plans._keys["train"][2] == began_with
        assert (
            key_of(recipe_of(dataset, None, None, batched=True), BATCH, two_cores({}, 1))
            != began_with
        )

    def test_of_another_batch_size_is_another(self, tmp_path: Path) -> None:
        plans, dataset = Planner(PlanMemory(tmp_path)), Numbers()
        planned(plans, dataset)
        began_with = plans._keys["train"][2]

        planned(plans, dataset, BATCH + 1)

        assert plans._keys["train"][2].batch_size == began_with.batch_size + 1

    def test_is_compared_by_the_dataset_that_it_is_not_by_what_it_says_to_equals(self) -> None:
        class Odd(Numbers):
            __hash__ = Numbers.__hash__

            def __eq__(self, other: object) -> bool:
                raise RuntimeError("ambiguous")

        plans, dataset = Planner(), Odd()

        assert planned(plans, dataset) == planned(plans, dataset)


class TestTheState:
    def test_is_plain(self) -> None:
        plans = Planner(today=lambda: "2026-11-23")
        planned(plans, Numbers())
        loader: Any = Loader()
        plans.watch("train", loader, is_trial=False)

        state = plans.state_dict()

        assert json.loads(json.dumps(state)) == state
        assert state["plans"]["train"]["num_workers"] == 2
        assert state["decisions"]["train"]["decision"]["source"] == "checkpoint"

    def test_says_nothing_of_a_trial(self) -> None:
        plans = Planner()
        planned(plans, Numbers())
        loader: Any = Loader()
        plans.watch("train", loader, is_trial=True)

        assert plans.state_dict()["decisions"] == {}

    def test_of_a_loader_that_does_not_adapt_leaves_the_number_open(self) -> None:
        """A better one is chosen when the time of a step is known."""
        plans = Planner()
        planned(plans, Numbers())
        loader: Any = Loader(plan=replace(PLAN, max_workers=None))
        plans.watch("train", loader, is_trial=False)

        assert plans.state_dict()["decisions"] == {}

    def test_is_that_of_the_plan_in_use(self) -> None:
        plans = Planner()
        planned(plans, Numbers())
        loader: Any = Loader()
        plans.watch("train", loader, is_trial=False)

        loader.plan = replace(PLAN, num_workers=4)

        assert plans.plans["train"].num_workers == 4


def test_a_data_module_with_a_loader_can_be_sent_to_other_ranks() -> None:
    data = FastDataModule(Numbers(), batch_size=BATCH)
    loader = data.train_dataloader()

    plans = pickle.loads(pickle.dumps(data.planner))

    assert plans.plans["train"] == loader.plan
    assert copy.deepcopy(data.planner).plans["train"] == loader.plan


def test_a_plan_with_all_that_was_weighed_can_be_sent_to_other_ranks() -> None:
    assert pickle.loads(pickle.dumps(PLAN)) == PLAN


numbers = st.integers(1, 4)


@given(workers=numbers, wish=st.sampled_from(["auto", "ring", "torch", "inline"]))
def test_a_decision_about_another_engine_than_the_user_wants_is_not_used(
    workers: int, wish: Any
) -> None:
    decision = replace(DECISION, num_workers=workers, prefetch_batches=2 * workers)
    read: list[int] = []

    def noted(recipe: Any, batch_size: int) -> ProbeFacts:
        read.append(batch_size)
        return ProbeFacts(samples=1, batch_wall_ns=1, batch_cpu_ns=1, batch_bytes=1)

    plan = measure_and_choose(
        Wishes(engine=wish),
        recipe_of(Numbers(), None, None, batched=True),
        BATCH,
        read_samples=noted,
        recall=lambda machine: decision,
    )

    is_used = wish in ("auto", "ring")
    assert ("earlier run" in plan.reasons["num_workers"]) is is_used
    assert bool(read) is (wish == "torch")


def test_a_run_is_proven_by_the_loader_s_own_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(used, "LEAST_S", 0.0)
    monkeypatch.setattr(used, "LEAST_BATCHES", 5)
    plan = replace(
        PLAN, engine="inline", num_workers=0, prefetch_batches=0, persistent_workers=False
    )
    loader = FastDataLoader(Numbers(), BATCH, plan=plan)
    use = a_use(loader)
    batches = iter(loader)
    for _ in range(5):
        next(batches)

    assert not use.is_proven()  # the fifth is still in use
    next(batches)
    assert use.is_proven()


@pytest.mark.parametrize("near", [(4, 5), None])
def test_workers_are_put_near_the_gpu_that_batches_go_to(
    near: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []

    def found(environ: Any, machine: Machine, device: int | None) -> NearCores:
        asked.append(device)
        return NearCores(cores=near, reason="node 1 is near GPU 3")

    monkeypatch.setattr(measure, "read_near_cores", found)
    recipe = recipe_of(Numbers(), None, None, batched=True)

    plan = measure_and_choose(Wishes(engine="ring"), recipe, BATCH, device=3)
    without = measure_and_choose(Wishes(engine="ring"), recipe, BATCH)

    assert asked == [3]
    assert plan.worker_cores == near
    assert ("worker_cores" in plan.reasons) is (near is not None)
    assert without.worker_cores is None


@pytest.mark.parametrize("own", [None, (2, 3)])
def test_ranks_agree_on_all_but_the_cores_near_their_own_gpu(own: Any) -> None:
    first = replace(PLAN, reasons={"num_workers": "a", "worker_cores": "near GPU 0"})
    reasons = {"num_workers": "b"} | ({} if own is None else {"worker_cores": "near GPU 1"})

    plan = agreed_plan(replace(PLAN, num_workers=9, worker_cores=own, reasons=reasons), first)

    assert plan == replace(PLAN, worker_cores=own, reasons=reasons | {"num_workers": "a"})
