"""Batches are the same to the bit, whoever makes them and whatever happened before."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from sample_sets import (
    MORE_WORKERS_THAN_CORES,
    Drawing,
    DrawingWhole,
    drawn,
    loader_of,
    one_pass,
    plain,
)
from torch.utils.data import TensorDataset, default_collate

SOURCES = ["torch", "numpy", "random", "each"]
pytestmark = MORE_WORKERS_THAN_CORES


def collate_with_noise(source: str, samples: list[Any]) -> list[Any]:
    return [*default_collate(samples), drawn(source)]


def add_noise(source: str, batch: Any) -> Any:
    """Works in place, as many do, and so would show it if it were done twice."""
    batch[1].add_(drawn(source))
    return batch


def in_every_engine(make: Callable[[], Any], **how: Any) -> list[list[Any]]:
    return [one_pass(make(), shuffle=True, num_workers=count, **how) for count in (0, 2)]


def all_alike(passes: list[list[Any]]) -> bool:
    return all(one == passes[0] for one in passes)


def noise_of(batches: list[Any]) -> list[float]:
    return [value for batch in batches for value in batch[1][2]]


@pytest.mark.parametrize("source", SOURCES)
def test_draws_of_samples_do_not_depend_on_workers(source: str) -> None:
    passes = [one_pass(Drawing(source), shuffle=True, num_workers=count) for count in (0, 1, 2, 5)]

    assert all_alike(passes)
    assert len(set(noise_of(passes[0]))) == 23


@pytest.mark.parametrize("source", SOURCES)
def test_draws_that_begin_at_a_later_sample_do_not_depend_on_workers(source: str) -> None:
    passes = in_every_engine(lambda: Drawing(source, since=15))

    assert all_alike(passes)
    assert len(set(noise_of(passes[0]))) == 9


def test_draws_that_change_their_generator_half_way_do_not_depend_on_workers() -> None:
    class Changing(Drawing):
        def __getitem__(self, index: int) -> tuple[int, float]:
            return index, drawn(SOURCES[index % 3])

    assert all_alike(in_every_engine(lambda: Changing("")))


@pytest.mark.parametrize("source", SOURCES)
def test_draws_of_whole_batches_do_not_depend_on_workers(source: str) -> None:
    passes = in_every_engine(lambda: DrawingWhole(source))

    assert all_alike(passes)
    assert len(set(noise_of(passes[0]))) == 23


@pytest.mark.parametrize("source", SOURCES)
def test_draws_of_collate_fn_do_not_depend_on_workers(source: str) -> None:
    passes = in_every_engine(
        lambda: Drawing("torch"), collate_fn=partial(collate_with_noise, source)
    )

    assert all_alike(passes)
    assert len({batch[2] for batch in passes[0]}) == 6


@pytest.mark.parametrize("source", SOURCES)
def test_draws_of_batch_transform_do_not_depend_on_workers(source: str) -> None:
    passes = in_every_engine(
        lambda: Drawing("torch", since=99), batch_transform=partial(add_noise, source)
    )

    assert all_alike(passes)
    assert len(set(noise_of(passes[0]))) == 6


@pytest.mark.parametrize("source", SOURCES)
def test_draws_of_a_transform_in_place_of_gathered_rows_do_not_depend_on_workers(
    source: str,
) -> None:
    tensors = TensorDataset(torch.arange(23), torch.zeros(23, dtype=torch.float64))

    passes = in_every_engine(lambda: tensors, batch_transform=partial(add_noise, source))

    assert all_alike(passes)
    assert max(noise_of(passes[0])) < 7
    assert not tensors.tensors[1].any()


def test_samples_collation_and_transform_of_one_batch_draw_different_numbers() -> None:
    whole = one_pass(
        DrawingWhole("torch", length=1),
        collate_fn=partial(collate_with_noise, "torch"),
        batch_transform=lambda batch: [*batch, drawn("torch")],
    )
    single = one_pass(Drawing("torch", length=1))

    numbers = [whole[0][1][2][0], whole[0][2], whole[0][3], single[0][1][2][0]]
    assert len(set(numbers)) == 4


def test_single_samples_without_batching_do_not_depend_on_workers() -> None:
    assert all_alike(in_every_engine(lambda: Drawing("each"), batch_size=None))


def test_the_same_index_twice_gets_two_augmentations() -> None:
    batches = one_pass(Drawing("torch"), sampler=[3] * 8)

    assert len(set(noise_of(batches))) == 8


def test_two_epochs_differ_and_both_can_be_had_again() -> None:
    one, other = (loader_of(Drawing("torch"), shuffle=True, num_workers=2) for _ in range(2))

    first, second = ([plain(batch) for batch in one] for _ in range(2))
    other.set_epoch(1)
    again = [plain(batch) for batch in other]

    assert first != second
    assert sorted(noise_of(first)) != sorted(noise_of(second))
    assert again == second


def test_another_seed_gives_other_augmentations() -> None:
    first, second = (one_pass(Drawing("torch"), seed=seed) for seed in (0, 1))

    assert set(noise_of(first)).isdisjoint(noise_of(second))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_pass_left_half_way_does_not_change_the_next(num_workers: int) -> None:
    disturbed, calm = (
        loader_of(Drawing("each"), shuffle=True, num_workers=num_workers) for _ in range(2)
    )
    for _ in zip(range(2), disturbed, strict=False):
        pass
    calm.set_epoch(1)

    assert [plain(batch) for batch in disturbed] == [plain(batch) for batch in calm]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_two_passes_at_once_do_not_disturb_each_other(num_workers: int) -> None:
    loader = loader_of(Drawing("each", length=9000), 500, shuffle=True, num_workers=num_workers)
    calm = loader_of(Drawing("each", length=9000), 500, shuffle=True)
    expected = [[plain(batch) for batch in calm] for _ in range(2)]

    one, other = iter(loader), iter(loader)
    pairs = [(plain(mine), plain(yours)) for mine, yours in zip(one, other, strict=True)]

    assert [list(side) for side in zip(*pairs, strict=True)] == expected


@pytest.mark.parametrize("num_workers", [0, 2])
def test_stopping_the_workers_in_a_pass_loses_no_batch(num_workers: int) -> None:
    """Lightning does so when another loop that shared the loader has ended."""
    loader = loader_of(Drawing("each"), 2, num_workers=num_workers)
    expected = one_pass(Drawing("each"), batch_size=2)

    batches = iter(loader)
    given = [plain(next(batches)), plain(next(batches))]
    loader.close()
    given += [plain(batch) for batch in batches]

    assert given == expected


def three_states() -> list[Any]:
    numpys: Any = np.random.get_state(legacy=False)
    return [torch.get_rng_state().tolist(), numpys["state"]["key"].tolist(), random.getstate()]


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("kind", ["samples", "whole", "gathered"])
def test_loading_leaves_the_generators_of_the_process_alone(kind: str, num_workers: int) -> None:
    datasets: dict[str, Any] = {
        "samples": Drawing("each", since=7),
        "whole": DrawingWhole("each"),
        "gathered": TensorDataset(torch.zeros(9), torch.zeros(9)),
    }
    transform = partial(add_noise, "each")
    loader = loader_of(
        datasets[kind], num_workers=num_workers, shuffle=True, batch_transform=transform
    )
    before = three_states()

    for _ in loader:
        assert three_states() == before

    assert three_states() == before


def test_a_run_that_draws_between_batches_does_not_change_them() -> None:
    expected = one_pass(Drawing("each"))

    found = []
    for batch in loader_of(Drawing("each")):
        found.append(plain(batch))
        drawn("each")
        torch.manual_seed(7)

    assert found == expected


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_the_way_workers_are_started_does_not_matter(method: str) -> None:
    found = one_pass(Drawing("each"), shuffle=True, num_workers=1, multiprocessing_context=method)

    assert found == one_pass(Drawing("each"), shuffle=True)


def test_a_generator_of_the_user_chooses_each_epochs_order() -> None:
    def two_passes(seed: int) -> list[Any]:
        loader = loader_of(
            Drawing("torch"), shuffle=True, generator=torch.Generator().manual_seed(seed)
        )
        return [[plain(batch) for batch in loader] for _ in range(2)]

    first, again, other = two_passes(1), two_passes(1), two_passes(2)

    assert first == again
    assert first[0] != first[1]
    assert other[0] != first[0]
