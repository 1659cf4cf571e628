"""Loaders of several ranks find their like, in whatever order their windows end."""

from contextlib import closing

import pytest
from adapting_tools import PLAIN_WINDOW, Alone, FakeControls
from sample_sets import Numbers, loader_of
from test_agree import StrictStore, rank_of

from lightning_fastdata.loader.adapting import Adaptation


def adaptation_of_rank(store: StrictStore, rank: int, wants: int) -> Adaptation:
    return Adaptation(
        lambda _: FakeControls(wants), lambda has: rank_of(store, rank, has=has, name="same")
    )


def test_loaders_belong_together_by_the_order_of_their_first_passes() -> None:
    store = StrictStore()
    # Both loaders of a rank have one name: training and validation data of one class, for example.
    train = [adaptation_of_rank(store, rank, wants=5) for rank in range(2)]
    val = [adaptation_of_rank(store, rank, wants=2) for rank in range(2)]

    for rank in range(2):
        val[rank].join(1)
        train[rank].join(1)
    found = [
        val[0].see(PLAIN_WINDOW),
        train[0].see(PLAIN_WINDOW),
        train[1].see(PLAIN_WINDOW),
        val[1].see(PLAIN_WINDOW),
    ]

    assert [number for number, _ in found] == [2, 5, 5, 2]


@pytest.mark.parametrize(("has_met", "joins"), [(True, [0]), (False, [])])
def test_a_loader_takes_part_from_its_first_pass_on_if_there_are_ranks_by_then(
    has_met: bool, joins: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[int] = []

    def agrees(num_workers: int) -> Alone:
        joined.append(num_workers)
        return Alone()

    monkeypatch.setattr("lightning_fastdata.loader.engine_loader.ranks_have_met", lambda: has_met)
    monkeypatch.setattr(
        "lightning_fastdata.loader.engine_loader.adaptation_of",
        lambda plan, recipe, share: Adaptation(lambda _: FakeControls(), agrees),
    )
    with closing(loader_of(Numbers(8), 4, num_workers=0)) as loader:
        for _ in range(2):
            list(loader)

    assert joined == joins
