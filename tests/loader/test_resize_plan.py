"""What a loader says of itself after a change of its workers, and the changes that it refuses."""

import pickle
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import torch
from fault_passes import nursery, wait_until
from hypothesis import given
from hypothesis import strategies as st
from ring_tools import answers, engine_of
from sample_sets import MORE_WORKERS_THAN_CORES, Numbers, Stream, loader_of, plain

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.loader import resized
from lightning_fastdata.loader.fast_data_loader import FastDataLoader
from lightning_fastdata.loader.resized import WorkerWishes, prefetch_wish, resized_plan
from lightning_fastdata.loader.ring.budget import MemoryBudget
from lightning_fastdata.loader.ring.slots import SlotPool
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.tuning.forecast import usual_prefetch

pytestmark = MORE_WORKERS_THAN_CORES
ALL = list(range(60))


def numbers_in(batches: Any) -> list[int]:
    return [number for batch in batches for number in plain(batch)[-1]]


def shown(loader: FastDataLoader) -> tuple[str, int, int | None, bool]:
    return loader.plan.engine, loader.num_workers, loader.prefetch_factor, loader.persistent_workers


def test_plan_and_attributes_follow() -> None:
    loader = loader_of(Numbers(60), 5, num_workers=2)
    told = []

    for wanted in (1, 3, 6, 0, 2):
        loader.resize(wanted)
        assert loader.plan.num_workers == loader.num_workers == wanted
        assert loader.plan.prefetch_batches == wanted * (loader.prefetch_factor or 0)
        told.append(shown(loader))

    assert told == [
        ("ring", 1, 4, True),
        ("ring", 3, 4, True),
        ("ring", 6, 2, True),
        ("inline", 0, None, False),
        ("ring", 2, 4, True),
    ]
    assert loader.plan.reasons["num_workers"] == "resized from 0 workers"


def test_a_loader_without_workers_goes_on_with_them_in_the_middle_of_a_pass() -> None:
    with closing(loader_of(Numbers(60), 5, multiprocessing_context="fork")) as loader:
        batches = iter(loader)
        found = numbers_in([next(batches), next(batches)])
        loader.resize(2)
        found += numbers_in([next(batches)])
        wait_until(lambda: len(nursery().children()) == 2)
        found += numbers_in(batches)

        assert found == ALL
        assert loader.plan.start_method == "fork"
        assert (loader.plan.sample_timeout_s, loader.plan.sample_timeout_follows) == (60.0, True)


def test_a_change_that_is_taken_back_before_the_next_batch_starts_nothing() -> None:
    with closing(loader_of(Numbers(60), 5)) as loader:
        batches = iter(loader)
        found = numbers_in([next(batches)])
        loader.resize(2)
        loader.resize(0)
        found += numbers_in(batches)

        assert found == ALL


def test_no_workers_again_begin_with_the_next_pass() -> None:
    with closing(loader_of(Numbers(60), 5, num_workers=2)) as loader:
        batches = iter(loader)
        found = numbers_in([next(batches)])
        worker_pids = {worker.pid for worker in nursery().children()}
        loader.resize(0)
        found += numbers_in([next(batches)])
        assert {worker.pid for worker in nursery().children()} == worker_pids
        found += numbers_in(batches)

        assert found == ALL
        assert loader.dataset.asked == []
        assert numbers_in(loader) == ALL
        assert loader.dataset.asked == ALL


def test_workers_that_are_wanted_after_all_stay() -> None:
    with closing(loader_of(Numbers(60), 5, num_workers=2)) as loader:
        batches = iter(loader)
        next(batches)
        first_nursery = nursery().pid
        loader.resize(0)
        loader.resize(3)
        list(batches)

        assert numbers_in(loader) == ALL
        assert nursery().pid == first_nursery


def test_torchs_workers_follow_from_the_next_pass_on() -> None:
    with closing(loader_of(Numbers(60), 5, num_workers=1, engine="torch")) as loader:
        batches = iter(loader)
        found = numbers_in([next(batches)])
        loader.resize(2)
        found += numbers_in(batches)
        assert found == ALL

        batches = iter(loader)
        next(batches)
        assert len(torch_workers()) == 2
        del batches


def torch_workers() -> list[Any]:
    return list(torch.multiprocessing.active_children())


def test_the_depth_follows_and_slots_that_are_too_many_are_given_back() -> None:
    budget = MemoryBudget(10**9)
    engine = engine_of(Numbers(4000), budget, depth=16, num_workers=8, chunk_samples=1)
    try:
        batches = answers(engine, 200)
        for _ in range(40):
            next(batches)
        assert (engine.depth, budget.used_slots > 12) == (16, True)

        assert engine.resize(1, 4)
        for _ in range(40):
            next(batches)

        assert (engine.depth, engine.in_flight <= 4) == (4, True)
        assert budget.used_slots <= 6
        assert engine.resize(3, 6)
        for _ in range(40):
            next(batches)
        assert (engine.depth, 4 < budget.used_slots <= 8) == (6, True)
    finally:
        engine.close()
    assert (budget.used_slots, budget.used_bytes) == (0, 0)


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6), lent=st.integers(0, 6))
def test_a_pool_of_slots_comes_down_to_what_is_wanted(sizes: list[int], lent: int) -> None:
    budget = MemoryBudget(10**9, most_slots=100)
    pool = SlotPool(budget, 6, lambda slot: None)
    slots = [pool.take(needs_one=True) for _ in range(6)]
    for slot in slots[lent:]:
        assert slot is not None
        pool.give_back(slot)

    for size in sizes:
        pool.resize(size)
    for slot in slots[:lent]:
        assert slot is not None
        pool.give_back(slot)

    assert min(sizes) <= budget.used_slots <= sizes[-1]
    pool.close()
    assert budget.used_slots == 0


def test_a_fixed_prefetch_factor_is_kept() -> None:
    loader = loader_of(Numbers(60), 5, num_workers=2, prefetch_factor=3)

    loader.resize(5)

    assert (loader.prefetch_factor, loader.plan.prefetch_batches) == (3, 15)


def test_workers_that_do_not_outlive_a_pass_go_on_so() -> None:
    with closing(loader_of(Numbers(20), 5, num_workers=1, persistent_workers=False)) as loader:
        loader.resize(0)
        loader.resize(2)
        list(loader)

        assert shown(loader) == ("ring", 2, 4, False)
        wait_until(lambda: not torch.multiprocessing.active_children())


@pytest.mark.parametrize(
    ("how", "wanted", "words"),
    [
        ({"num_workers": 1}, -1, "num_workers=-1, wanted 0 or more"),
        ({"num_workers": 1}, True, "num_workers=True, wanted 0 or more"),
        ({"num_workers": 1}, "auto", r'resize\("auto"\), wanted 0 workers or more'),
        ({"engine": "inline"}, 2, r'resize\(2\) of a loader with engine="inline"'),
        ({"num_workers": 1, "engine": "ring"}, 0, r'resize\(0\) of a loader with engine="ring"'),
        ({"num_workers": 1, "engine": "torch"}, 0, r'resize\(0\) of a loader with engine="torch"'),
    ],
)
def test_a_number_that_cannot_be_is_refused(how: dict[str, Any], wanted: Any, words: str) -> None:
    loader = loader_of(Numbers(20), 5, **how)
    before = loader.plan

    with pytest.raises(SettingsError, match=f"^{words}"):
        loader.resize(wanted)

    assert loader.plan is before


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_stream_is_refused(num_workers: int) -> None:
    loader = loader_of(Stream(), num_workers=num_workers)

    with pytest.raises(SettingsError, match=r"^resize\(2\) of a loader of an IterableDataset"):
        loader.resize(2)


def test_workers_out_of_nothing_are_refused_where_the_ring_cannot_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resized, "ring_problem", lambda: "there is no ring today")
    loader = loader_of(Numbers(20), 5)

    with pytest.raises(SettingsError, match=r"^resize\(2\) of a loader without workers, but there"):
        loader.resize(2)

    assert loader.num_workers == 0


def test_a_share_of_stall_that_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^max_stall_fraction=2, wanted 0 to 1"):
        loader_of(Numbers(20), 5, max_stall_fraction=2)


def test_a_loader_that_adapts_can_be_pickled_before_its_first_pass() -> None:
    plan = replace(loader_of(Numbers(20), 5).plan, max_workers=4)

    copy = pickle.loads(pickle.dumps(loader_of(Numbers(20), 5, plan=plan)._adaptation))

    assert copy.changes == ()


WISHES = WorkerWishes(
    engine="auto",
    persistent_workers=True,
    prefetch_factor=None,
    sample_timeout_s="auto",
    start_method=None,
)


def plan_with(num_workers: int, each: int | None = None) -> LoaderPlan:
    engine: Any = "ring" if num_workers else "inline"
    each = usual_prefetch(engine, num_workers) if each is None else each
    return LoaderPlan(
        engine=engine,
        num_workers=num_workers,
        prefetch_batches=num_workers * each,
        pin_memory=False,
        persistent_workers=num_workers > 0,
        start_method=None,
        max_workers=9,
        predicted_stall_fraction=0.5,
    )


@given(numbers=st.lists(st.integers(0, 9), min_size=2, max_size=9))
def test_a_plan_depends_on_the_last_number_only(numbers: list[int]) -> None:
    plan = plan_with(numbers[0])
    for number in numbers[1:]:
        plan = resized_plan(plan, number, WISHES, why="so")

    expected = plan_with(numbers[-1])
    for name in ("engine", "num_workers", "prefetch_batches", "persistent_workers", "max_workers"):
        assert getattr(plan, name) == getattr(expected, name)
    assert plan.predicted_stall_fraction is None


@given(num_workers=st.integers(1, 9), each=st.integers(1, 9))
def test_only_an_unusual_depth_is_taken_for_a_wish(num_workers: int, each: int) -> None:
    wish = prefetch_wish(plan_with(num_workers, each), None)

    assert wish == (None if each == usual_prefetch("ring", num_workers) else each)
