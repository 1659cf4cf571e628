"""A rank's share has both threads of a real core, as all ranks together have."""

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.machine import read_machine, read_rank_cores, whole_cores
from lightning_fastdata.machine.siblings import choose_rank_cores, siblings_path

# As a server with 2 x 16 real cores numbers their threads: the second ones after all the first.
SERVER = {siblings_path(core): f"{core % 32},{core % 32 + 32}\n" for core in range(64)}
# As a desktop with 4 real cores does.
DESKTOP = {siblings_path(core): f"{core - core % 2}-{core - core % 2 + 1}\n" for core in range(8)}


def test_a_share_of_a_server_is_whole_real_cores() -> None:
    assert choose_rank_cores(SERVER, range(64), 8) == {0, 1, 2, 3, 32, 33, 34, 35}


def test_a_share_of_a_desktop_is_whole_real_cores() -> None:
    assert choose_rank_cores(DESKTOP, range(8), 4) == {0, 1, 2, 3}


def test_only_cores_that_may_be_used_are_in_it() -> None:
    assert choose_rank_cores(SERVER, {5, 37, 38, 40}, 3) == {5, 37, 38}


@pytest.mark.parametrize("text", ["", "none", "3-1", "99"])
def test_a_core_of_which_nothing_sensible_is_known_is_one_by_itself(text: str) -> None:
    assert choose_rank_cores({siblings_path(1): text}, range(4), 2) == {0, 1}


@given(st.sets(st.integers(0, 63), min_size=1), st.integers(1, 80))
def test_it_is_as_many_as_asked_for_of_those_there_are(affinity: set[int], count: int) -> None:
    share = choose_rank_cores(SERVER, affinity, count)

    assert share <= affinity
    assert len(share) == min(count, len(affinity))


@pytest.mark.skipif(sys.platform != "linux", reason="no other system binds a process to cores")
def test_a_share_of_this_machine_is_as_many_cores_as_it_says() -> None:
    machine = read_machine({}, local_world_size=2)

    share = read_rank_cores(machine)

    assert share is not None
    assert len(share) == whole_cores(machine.cores)
    assert share <= os.sched_getaffinity(0)
