"""The rule from facts to a plan: pure, so every case is a table or a property."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.plan import LoaderPlan
from lightning_fastdata.tuning.choose import Situation, Wishes, choose_plan
from lightning_fastdata.tuning.probe import ProbeFacts

JPEG_NS = 2_100_000  # decoding one photograph


def facts(wall_ns: int = 0, size_bytes: int = 0) -> ProbeFacts:
    return ProbeFacts(
        samples=10, batch_wall_ns=wall_ns, batch_cpu_ns=wall_ns, batch_bytes=size_bytes
    )


FACTS = st.one_of(
    st.none(),
    st.builds(facts, st.integers(0, 10**10), st.integers(0, 10**9)),
)
SITUATIONS = st.builds(
    Situation,
    cores=st.floats(0.1, 24),
    memory_available_bytes=st.none() | st.integers(0, 10**11),
    shm_free_bytes=st.none() | st.integers(0, 10**11),
    batch_size=st.integers(1, 1024),
    is_gather=st.booleans(),
    is_stream=st.booleans(),
    step_time_s=st.none() | st.floats(1e-5, 100),
    max_stall_fraction=st.floats(0, 1),
    ring_problem=st.none() | st.just("this is a toaster"),
)


@st.composite
def wishes_of(draw: Any, /, **fixed: Any) -> Wishes:
    workers = fixed.get("num_workers", draw(st.just("auto") | st.integers(0, 9)))
    allowed = {"auto": ["auto", "inline", "torch"], 0: ["auto", "inline"]}  # "ring" may be refused
    return Wishes(
        num_workers=workers,
        engine=draw(st.sampled_from(allowed.get(workers, ["auto", "torch"]))),
        prefetch_factor=None if workers == 0 else draw(st.none() | st.integers(1, 9)),
        pin_memory=draw(st.booleans()),
        persistent_workers=draw(st.sampled_from(["auto", True, False])),
        start_method=draw(st.sampled_from([None, "fork", "spawn"])),
    )


def plan_of(situation: Situation, found: ProbeFacts | None, **wishes: Any) -> LoaderPlan:
    return choose_plan(Wishes(**wishes), situation, found)


@given(wishes=wishes_of(), situation=SITUATIONS, found=FACTS)
def test_what_the_user_fixed_is_kept_unless_there_is_no_room_for_it(
    wishes: Wishes, situation: Situation, found: ProbeFacts | None
) -> None:
    plan = choose_plan(wishes, situation, found)

    if wishes.num_workers != "auto" and plan.shortage is None:
        assert plan.num_workers == wishes.num_workers
        assert plan.reasons["num_workers"] == "fixed by the user"
    if wishes.engine != "auto" and plan.shortage is None:
        assert plan.engine == wishes.engine
    if plan.num_workers:
        assert plan.start_method == wishes.start_method
        if wishes.prefetch_factor is not None:
            assert plan.prefetch_batches == plan.num_workers * wishes.prefetch_factor
        if wishes.persistent_workers != "auto":
            assert plan.persistent_workers == wishes.persistent_workers
    assert plan.pin_memory == wishes.pin_memory


@given(wishes=wishes_of(), situation=SITUATIONS, found=FACTS)
def test_every_plan_is_consistent_and_says_why(
    wishes: Wishes, situation: Situation, found: ProbeFacts | None
) -> None:
    plan = choose_plan(wishes, situation, found)

    explained = {"engine", "num_workers", "pin_memory"}
    if plan.num_workers:
        of_workers = "torch" if wishes.engine == "torch" or situation.ring_problem else "ring"
        assert (plan.engine, plan.prefetch_batches >= plan.num_workers) == (of_workers, True)
        explained |= {"prefetch_batches", "persistent_workers"}
    else:
        assert (plan.engine, plan.prefetch_batches) == ("inline", 0)
        assert not plan.persistent_workers
        assert plan.start_method is None
    assert all(plan.reasons[name] for name in explained)


@given(wishes=wishes_of(num_workers="auto"), situation=SITUATIONS, found=FACTS)
def test_chosen_workers_are_within_the_budget_and_the_budget_within_two_a_core(
    wishes: Wishes, situation: Situation, found: ProbeFacts | None
) -> None:
    plan = choose_plan(wishes, situation, found)

    assert plan.num_workers <= max(1, 2 * situation.cores)
    if plan.max_workers is not None:
        assert plan.num_workers <= plan.max_workers <= 2 * situation.cores
        assert plan.reasons["max_workers"]
    if situation.step_time_s is None:
        assert plan.num_workers <= max(1, situation.cores - 1)


@given(wishes=wishes_of(), situation=SITUATIONS, found=FACTS)
def test_a_number_that_training_may_not_change_has_no_budget(
    wishes: Wishes, situation: Situation, found: ProbeFacts | None
) -> None:
    plan = choose_plan(wishes, situation, found)

    if (
        wishes.num_workers != "auto"
        or wishes.engine in ("inline", "torch")
        or situation.ring_problem is not None
        or situation.cores < 2
        or situation.is_gather
        or situation.is_stream
    ):
        assert plan.max_workers is None
    elif plan.shortage is None and plan.max_workers is None:  # not wanted now, and no room later
        assert plan.num_workers == 0
        assert "; 0 where" in plan.reasons["max_workers"]


@given(situation=SITUATIONS, found=FACTS, wishes=wishes_of())
def test_the_same_facts_always_give_the_same_plan(
    wishes: Wishes, situation: Situation, found: ProbeFacts | None
) -> None:
    assert choose_plan(wishes, situation, found) == choose_plan(wishes, situation, found)


@settings(max_examples=40)  # each is several plans, of some replays each
@given(
    wall_ns=st.integers(0, 10**10),
    size_bytes=st.integers(0, 10**9),
    cores=st.integers(2, 12),
    steps_s=st.lists(st.floats(1e-4, 100), min_size=2, max_size=4).map(sorted),
)
def test_a_longer_step_never_needs_more_workers(
    wall_ns: int, size_bytes: int, cores: int, steps_s: list[float]
) -> None:
    found = facts(wall_ns, size_bytes)
    workers = [
        plan_of(Situation(cores=cores, step_time_s=step_s), found).num_workers for step_s in steps_s
    ]

    assert all(more >= fewer for more, fewer in itertools.pairwise(workers))


@settings(max_examples=25)
@given(step_s=st.floats(0.005, 100), needed=st.floats(0.1, 6))
def test_chosen_workers_keep_up_with_the_step_where_there_are_cores(
    step_s: float, needed: float
) -> None:
    wall_ns = round(needed * step_s * 1e9)

    plan = plan_of(Situation(cores=12, step_time_s=step_s, batch_size=32), facts(wall_ns))

    assert plan.num_workers >= 0.98 * needed or not plan.num_workers
    assert plan.predicted_stall_fraction is not None
    # The rest is what taking a batch costs the training process, whatever the workers.
    assert plan.predicted_stall_fraction <= 0.0004 / step_s + 0.02


@given(
    size_bytes=st.integers(1, 10**9),
    free_bytes=st.integers(0, 10**10),
    cores=st.integers(2, 64),
    where=st.sampled_from(["memory_available_bytes", "shm_free_bytes"]),
)
def test_batches_in_flight_fit_into_half_of_the_memory_that_is_free(
    size_bytes: int, free_bytes: int, cores: int, where: str
) -> None:
    limits: dict[str, Any] = {where: free_bytes, "ring_problem": "this is a toaster"}

    plan = plan_of(Situation(cores=cores, **limits), facts(10**10, size_bytes))

    if plan.num_workers:
        assert (plan.prefetch_batches + 1) * size_bytes <= free_bytes / 2


@pytest.mark.parametrize(
    ("fits", "workers", "prefetch_batches"), [(9, 4, 8), (8, 4, 4), (5, 4, 4), (4, 3, 3), (1, 0, 0)]
)
def test_little_memory_first_takes_prefetching_then_workers(
    fits: int, workers: int, prefetch_batches: int
) -> None:
    situation = Situation(
        cores=5, shm_free_bytes=fits * 2 * 10**6, ring_problem="this is a toaster"
    )

    plan = plan_of(situation, facts(10**10, 10**6))

    assert (plan.num_workers, plan.prefetch_batches) == (workers, prefetch_batches)
    if prefetch_batches < 8:
        assert f"{fits * 2} MB of shared memory" in plan.reasons["prefetch_batches"]
    if workers < 4:
        assert "--shm-size" in plan.reasons["num_workers"]


def test_a_ring_may_use_what_dev_shm_does_not_have() -> None:
    situation = Situation(cores=5, shm_free_bytes=0, memory_available_bytes=10**9)

    plan = plan_of(situation, facts(10**10, 10**6))

    assert (plan.engine, plan.num_workers, plan.prefetch_batches) == ("ring", 4, 16)


def test_a_ring_that_cannot_serve_is_refused_where_it_was_asked_for() -> None:
    situation = Situation(cores=5, ring_problem="this is a toaster")

    with pytest.raises(SettingsError, match=r'^engine="ring", but this is a toaster'):
        plan_of(situation, None, engine="ring")


def test_torch_steps_in_where_the_ring_cannot_serve_and_the_plan_says_why() -> None:
    plan = plan_of(Situation(cores=5, ring_problem="this is a toaster"), None)

    assert plan.engine == "torch"
    assert "this is a toaster" in plan.reasons["engine"]


@given(wall_ns=st.integers(0, 199_000), size_bytes=st.integers(0, 10**9), cores=st.integers(2, 64))
def test_what_costs_less_to_make_than_to_hand_over_is_made_inline(
    wall_ns: int, size_bytes: int, cores: int
) -> None:
    plan = plan_of(Situation(cores=cores), facts(wall_ns, size_bytes))

    assert plan.engine == "inline"
    assert "handing it over" in plan.reasons["engine"]


def test_rows_of_tensors_in_memory_are_picked_inline_whatever_the_cores() -> None:
    plan = plan_of(Situation(cores=64, is_gather=True), None)

    assert plan.engine == "inline"
    assert "rows of tensors" in plan.reasons["num_workers"]


@pytest.mark.parametrize(
    ("cores", "step_s", "workers"),
    [
        (16, 0.05, 11),  # 538 ms / 50 ms
        (16, 0.1, 6),
        (16, 0.01, 16),  # all that the cores can do
        (16, None, 15),
        (2, 0.1, 2),
        (2, 0.4, 2),
        (2, 0.6, 1),
        (2.9, 0.1, 3),
        (1, 0.1, 0),
        (16, 30.0, 0),  # under 2 % of a step
    ],
)
def test_pictures_get_the_workers_that_the_step_needs(
    cores: float, step_s: float | None, workers: int
) -> None:
    batch = facts(256 * JPEG_NS, 256 * 3 * 224 * 224)

    plan = plan_of(Situation(cores=cores, step_time_s=step_s, batch_size=256), batch)

    assert plan.num_workers == workers


def test_a_stream_gets_one_worker_whatever_it_costs() -> None:
    assert plan_of(Situation(cores=16, is_stream=True), facts(10**10)).num_workers == 1
    assert plan_of(Situation(cores=1, is_stream=True), facts(10**10)).num_workers == 0


def test_asking_for_workers_gets_one_even_where_none_pays() -> None:
    plan = plan_of(Situation(cores=4), facts(10), engine="torch")

    assert (plan.engine, plan.num_workers) == ("torch", 1)
    assert 'engine="torch" was asked for, though' in plan.reasons["num_workers"]


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"engine": "rings"}, "engine='rings', wanted"),
        ({"num_workers": -1}, "num_workers=-1, wanted"),
        ({"engine": "inline", "num_workers": 1}, 'engine="inline" with num_workers=1, wanted'),
        ({"engine": "torch", "num_workers": 0}, 'engine="torch" with num_workers=0, wanted'),
        ({"engine": "ring", "num_workers": 0}, 'engine="ring" with num_workers=0, wanted'),
        ({"prefetch_factor": 2, "num_workers": 0}, "prefetch_factor=2 with num_workers=0, wanted"),
    ],
    ids=str,
)
def test_wishes_that_contradict_each_other_are_refused(wishes: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=f"^{words}"):
        Wishes(**wishes)
