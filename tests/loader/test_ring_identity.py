"""The ring gives the bytes that one process gives, however it is cut, resized or resumed."""

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sample_sets import MORE_WORKERS_THAN_CORES, Drawing, DrawingWhole, drawn, loader_of
from torch.utils.data import (
    BatchSampler,
    Dataset,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from lightning_fastdata.loader.make import recipe_of
from lightning_fastdata.loader.ring.ring_engine import RingEngine
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.loader.shelf import EngineShelf

pytestmark = MORE_WORKERS_THAN_CORES
LENGTH, BATCH = 45, 10  # five batches, the last of them half full


class Augmented(Dataset[Any]):
    """A picture cropped, flipped and made noisy by all three generators, and what goes with it."""

    def __init__(self, length: int = LENGTH) -> None:
        self.pictures = np.arange(length * 3 * 12 * 12, dtype=np.int64).reshape(length, 3, 12, 12)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        top, left = random.randrange(5), int(np.random.randint(5))
        crop = torch.from_numpy(self.pictures[index, :, top : top + 8, left : left + 8] % 251)
        if torch.rand(()) < 0.5:
            crop = crop.flip(-1)
        return {
            "picture": crop.to(torch.uint8),
            "noise": torch.randn(3) + random.gauss(0, 1) + np.random.randn(),
            "place": (top, left, f"sample {index}"),
        }


def checksum(batches: Any) -> str:
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        digest.update(type(value).__name__.encode())
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.numpy().tobytes())
        elif isinstance(value, dict):
            for key, part in value.items():
                add(key)
                add(part)
        elif isinstance(value, (list, tuple)):
            for part in value:
                add(part)
        else:
            digest.update(repr(value).encode())

    for batch in batches:
        add(batch)
    return digest.hexdigest()


def two_epochs(dataset: Any, **how: Any) -> list[str]:
    how.setdefault("shuffle", True)
    loader = loader_of(dataset, how.pop("batch_size", BATCH), **how)
    try:
        return [checksum(loader) for _ in range(2)]
    finally:
        loader.close()


@pytest.fixture(scope="module")
def expected() -> list[str]:
    found = two_epochs(Augmented())
    assert found[0] != found[1]
    return found


@pytest.mark.parametrize("num_workers", [1, 2, 3, 8])
def test_the_number_of_workers_does_not_matter(num_workers: int, expected: list[str]) -> None:
    assert two_epochs(Augmented(), num_workers=num_workers) == expected


@pytest.mark.parametrize(
    "method", ["fork", *(pytest.param(m, marks=pytest.mark.slow) for m in ("forkserver", "spawn"))]
)
def test_the_start_method_does_not_matter(method: str, expected: list[str]) -> None:
    found = two_epochs(Augmented(), num_workers=2, multiprocessing_context=method)

    assert found == expected


@pytest.mark.parametrize("prefetch_factor", [1, 5])
def test_the_depth_does_not_matter(prefetch_factor: int, expected: list[str]) -> None:
    assert two_epochs(Augmented(), num_workers=2, prefetch_factor=prefetch_factor) == expected


def ring_of(chunk_samples: int | None, num_workers: int) -> RingEngine:
    return RingEngine(
        recipe_of(Augmented(), None, None, batched=True),
        RingSettings(num_workers=num_workers, chunk_samples=chunk_samples),
        start_method="fork",
        depth=2 * num_workers,
    )


@pytest.fixture
def cut_into(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[RingEngine]]:
    """Lets every loader have rings that cut batches into so many samples; gives their list."""

    def cut(chunk_samples: int) -> list[RingEngine]:
        made: list[RingEngine] = []

        def new_engine(_: EngineShelf, settings: Any) -> RingEngine:
            made.append(ring_of(chunk_samples, settings.num_workers))
            return made[-1]

        monkeypatch.setattr(EngineShelf, "_new_engine", new_engine)
        return made

    return cut


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("chunk_samples", [1, 7, BATCH])
def test_the_size_of_chunks_does_not_matter(
    chunk_samples: int,
    num_workers: int,
    cut_into: Callable[[int], list[RingEngine]],
    expected: list[str],
) -> None:
    rings = cut_into(chunk_samples)

    found = two_epochs(Augmented(), num_workers=num_workers)

    assert found == expected
    assert len(rings) == 1


@pytest.mark.parametrize("sizes", [[1, 8, 2, 3], [8, 1, 8, 1], [3, 2, 1, 6]])
@pytest.mark.parametrize("chunk_samples", [1, 7])
def test_resizing_between_any_two_batches_does_not_matter(
    chunk_samples: int,
    sizes: list[int],
    cut_into: Callable[[int], list[RingEngine]],
    expected: list[str],
) -> None:
    rings = cut_into(chunk_samples)

    def resized(loader: Any) -> Iterator[Any]:
        for number, batch in enumerate(loader):
            rings[0].resize(sizes[number % len(sizes)])
            yield batch

    loader = loader_of(Augmented(), BATCH, num_workers=2, shuffle=True)
    found = [checksum(resized(loader)) for _ in range(2)]
    loader.close()

    assert found == expected


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize(("before", "after"), [(2, 3), (1, 0), (0, 2)])
def test_a_resumed_pass_goes_on_to_the_byte_with_any_workers(
    position: int, before: int, after: int, expected: list[str]
) -> None:
    rest_of_first = checksum(list(loader_of(Augmented(), BATCH, shuffle=True))[position:])
    first = loader_of(Augmented(), BATCH, num_workers=before, shuffle=True)
    batches = iter(first)
    for _ in range(position):
        next(batches)

    second = loader_of(Augmented(), BATCH, num_workers=after, shuffle=True)
    second.load_state_dict(first.state_dict())

    assert [checksum(second), checksum(second)] == [rest_of_first, expected[1]]


def test_a_pass_resumed_at_its_end_is_followed_by_the_next_epoch(expected: list[str]) -> None:
    first = loader_of(Augmented(), BATCH, num_workers=2, shuffle=True)
    checksum(first)

    second = loader_of(Augmented(), BATCH, num_workers=3, shuffle=True)
    second.load_state_dict(first.state_dict())

    assert checksum(second) == expected[1]


def noise_in_place(batch: Any) -> Any:
    batch[1].add_(drawn("each"))
    return batch


def noise_anew(batch: Any) -> Any:
    return {"first": batch[0] * 2, "noisy": batch[1] + drawn("each"), "draw": drawn("numpy")}


def collate_with_draws(samples: list[Any]) -> list[Any]:
    order = torch.randperm(len(samples)).tolist()
    return [*default_collate([samples[place] for place in order]), random.random()]


def tensors() -> TensorDataset:
    return TensorDataset(torch.arange(LENGTH), torch.rand(LENGTH, 5, dtype=torch.float64))


def of_pairs(batch_size: int) -> Any:
    return BatchSampler(SequentialSampler(range(LENGTH)), batch_size, drop_last=False)


UNUSUAL: dict[str, dict[str, Any]] = {
    "transform in place": {"batch_transform": noise_in_place},
    "transform that returns new": {"batch_transform": noise_anew},
    "collation that draws": {"collate_fn": collate_with_draws},
    "collation and transform": {
        "collate_fn": collate_with_draws,
        "batch_transform": noise_in_place,
    },
    "no batching": {"batch_size": None},
    "no batching, but a transform": {"batch_size": None, "batch_transform": noise_anew},
    "own batches": {"batch_sampler": of_pairs(7), "shuffle": None},
    "own keys": {"batch_sampler": [[3, 1], [4], [1, 5, 9]] * 3, "shuffle": None},
    "own order": {"sampler": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5] * 2, "shuffle": None},
    "last batch left out": {"drop_last": True},
}
DATASETS: dict[str, Callable[[], Any]] = {
    "samples": lambda: Drawing("each", length=LENGTH),
    "late draws": lambda: Drawing("each", length=LENGTH, since=30),
    "whole batches": lambda: DrawingWhole("each", length=LENGTH),
    "gathered": tensors,
}


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("how", UNUSUAL)
def test_unusual_loaders_give_the_same_in_a_ring(how: str, dataset: str) -> None:
    data = DATASETS[dataset]()
    one_process = two_epochs(data, num_workers=0, engine="inline", **UNUSUAL[how])

    found = two_epochs(data, num_workers=2, engine="ring", **UNUSUAL[how])

    assert found == one_process


class Gaussian(Drawing):
    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(np.random.randn())


def draw_once(worker: int) -> None:
    np.random.randn()


def test_draws_of_worker_init_fn_do_not_reach_the_samples() -> None:
    """NumPy makes normal numbers in pairs: the second is drawn without moving its generator."""
    expected = two_epochs(Gaussian(""), batch_size=1)

    found = two_epochs(Gaussian(""), batch_size=1, num_workers=2, worker_init_fn=draw_once)

    assert found == expected
