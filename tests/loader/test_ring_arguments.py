"""Every argument of torch's DataLoader keeps its meaning where a ring makes the batches."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.seed import pl_worker_init_function
from sample_sets import Numbers, loader_of, one_pass, plain
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    WeightedRandomSampler,
    get_worker_info,
)

from lightning_fastdata.errors import SettingsError

RING: dict[str, Any] = {"engine": "ring", "num_workers": 2}


class Keyed(Dataset[Any]):
    """Sample ``key`` is the key itself, as text."""

    def __getitem__(self, key: Any) -> str:
        return f"{type(key).__name__} {key!r}"

    def __len__(self) -> int:
        return 10


class Infos(Numbers):
    """Sample ``i`` is what the worker knows of itself."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        info = get_worker_info()
        assert info is not None
        assert info.dataset is self
        return {"id": info.id, "of": info.num_workers, "seed": info.seed, "pid": os.getpid()}


class Noting(Numbers):
    """Leaves a file for each sample that was made; some wait until a file is there."""

    def __init__(self, length: int, folder: Path, waits: Callable[[int], bool]) -> None:
        super().__init__(length)
        self.folder, self.waits = folder, waits

    def __getitem__(self, index: int) -> int:
        while self.waits(index) and not (self.folder / "go").exists():
            pass
        (self.folder / f"made {index}").touch()
        return index


class ByTheBatch(Numbers):
    """Gives its samples as text, in whatever the batch is put in."""

    def __init__(self, length: int, kind: Callable[[Any], Any]) -> None:
        super().__init__(length)
        self.kind = kind

    def __getitems__(self, indices: list[int]) -> Any:
        return self.kind([str(index) for index in indices])


def note_number(number: int) -> None:
    info = get_worker_info()
    assert info is not None
    assert info.id == number
    info.dataset.numbers = [*getattr(info.dataset, "numbers", []), number]


class TellsNumbers(Numbers):
    def __getitem__(self, index: int) -> list[int]:
        numbers: list[int] = self.numbers  # type: ignore[attr-defined]  # of note_number
        return numbers


class First:
    """Only ``never``, as a picklable function of an index."""

    def __init__(self, *indices: int) -> None:
        self.indices = indices

    def __call__(self, index: int) -> bool:
        return index in self.indices


def of_torch(dataset: Any, batch_size: int | None = 4, **how: Any) -> list[Any]:
    if "batch_sampler" not in how:
        how["batch_size"] = batch_size
    return [plain(batch) for batch in DataLoader(dataset, **how)]


def made_in(folder: Path) -> set[int]:
    return {int(path.name.split()[1]) for path in folder.glob("made *")}


def shouted(samples: list[Any]) -> Any:
    return {"all": samples, "sum": torch.tensor(sum(samples))}


BATCHES: list[list[Any]] = [
    [[0, 1], [2], [5, 4, 3]],
    [["a", "b"], ["c"]],
    [[(0, "x"), (1, "y")], [(2, "z")]],
    [[0, "a", (1, 2)], [None]],
    [[-1, -3], [2**63 - 1]],
    [[2**64, 3], [-(2**70)]],
]


@pytest.mark.parametrize("batches", BATCHES, ids=str)
def test_a_batch_sampler_may_give_keys_of_any_kind(batches: list[Any]) -> None:
    assert one_pass(Keyed(), batch_sampler=batches, **RING) == of_torch(
        Keyed(), batch_sampler=batches
    )


def test_an_empty_batch_reaches_a_collate_fn() -> None:
    batches: list[list[int]] = [[0, 1], [], [2]]

    assert one_pass(Numbers(3), batch_sampler=batches, collate_fn=shouted, **RING) == of_torch(
        Numbers(3), batch_sampler=batches, collate_fn=shouted
    )


def test_an_empty_batch_under_default_collation_is_an_index_error_as_in_torch() -> None:
    with pytest.raises(IndexError):
        one_pass(Numbers(3), batch_sampler=[[0, 1], []], **RING)


@pytest.mark.parametrize("batch_size", [1, 4, 7, None])
@pytest.mark.parametrize("collate_fn", [None, str])
def test_a_sampler_is_followed(batch_size: int | None, collate_fn: Any) -> None:
    def how() -> dict[str, Any]:
        drawn = torch.Generator().manual_seed(3)
        sampler = WeightedRandomSampler(range(1, 11), 21, generator=drawn)
        return {"batch_size": batch_size, "sampler": sampler, "collate_fn": collate_fn}

    assert one_pass(Numbers(10), **how(), **RING) == of_torch(Numbers(10), **how())


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_last_batch_and_the_length_are_torchs(drop_last: bool) -> None:
    loader = loader_of(Numbers(10), drop_last=drop_last, **RING)
    theirs = DataLoader(Numbers(10), batch_size=4, drop_last=drop_last)

    batches = [plain(batch) for batch in loader]
    loader.close()

    assert batches == [plain(batch) for batch in theirs]
    assert len(loader) == len(theirs) == len(batches)


def test_a_collate_fn_gets_the_list_of_samples() -> None:
    assert one_pass(Numbers(10), collate_fn=shouted, **RING) == of_torch(
        Numbers(10), collate_fn=shouted
    )


@pytest.mark.parametrize("kind", [list, tuple])
def test_what_getitems_gives_is_collated_as_it_is(kind: Any) -> None:
    loader = loader_of(ByTheBatch(6, kind), **RING)

    batches = list(loader)
    loader.close()

    theirs = list(DataLoader(ByTheBatch(6, kind), batch_size=4))
    assert batches == theirs
    assert [type(batch) for batch in batches] == [kind, kind]


def test_views_on_datasets_are_read_through() -> None:
    both: Any = ConcatDataset([Numbers(3), Subset(Numbers(30), [7, 29, 4])])
    view = Subset(both, [5, 0, 3, 3])

    assert one_pass(view, batch_size=3, **RING) == of_torch(view, batch_size=3)


@pytest.mark.parametrize("chained", [False, True])
def test_worker_init_fn_is_called_once_a_worker_with_its_number(chained: bool) -> None:
    def chain(number: int) -> None:
        pl_worker_init_function(number)
        note_number(number)

    start = chain if chained else note_number
    loader = loader_of(TellsNumbers(40), batch_size=1, worker_init_fn=start, **RING)

    told = {int(number) for _ in range(2) for (number,) in loader}
    loader.close()

    assert told <= {0, 1}


def test_a_worker_knows_its_number_how_many_there_are_and_its_seed() -> None:
    infos = [info for batch in one_pass(Infos(40), collate_fn=list, **RING) for info in batch]

    seeds = {info["id"]: info["seed"] for info in infos}
    assert {info["id"] for info in infos} <= {0, 1}
    assert {info["of"] for info in infos} == {2}
    assert len({seed - number for number, seed in seeds.items()}) == 1
    assert get_worker_info() is None


@pytest.mark.parametrize("persistent_workers", [False, True])
def test_workers_outlive_a_pass_where_they_are_to(persistent_workers: bool) -> None:
    loader = loader_of(Infos(4), persistent_workers=persistent_workers, **RING, batch_size=1)

    passes = [{int(batch["pid"]) for batch in loader} for _ in range(3)]
    loader.close()

    together = len(set().union(*passes))
    assert together <= 2 if persistent_workers else together >= 3


@pytest.mark.parametrize("prefetch_factor", [1, 2, 3])
def test_exactly_prefetch_factor_batches_a_worker_are_made_ahead(
    prefetch_factor: int, tmp_path: Path
) -> None:
    dataset = Noting(40, tmp_path, First())
    loader = loader_of(dataset, batch_size=2, prefetch_factor=prefetch_factor, **RING)
    ahead = set(range(2 * 2 * prefetch_factor))

    batches = iter(loader)
    next(batches)
    while not ahead <= made_in(tmp_path):
        pass
    loader.close()

    assert made_in(tmp_path) == ahead


def test_with_in_order_false_a_slow_batch_holds_up_no_other(tmp_path: Path) -> None:
    loader = loader_of(
        Noting(8, tmp_path, First(0)), batch_size=1, in_order=False, shuffle=False, **RING
    )

    batches = iter(loader)
    early = [int(next(batches)) for _ in range(2)]
    (tmp_path / "go").touch()
    late = [int(batch) for batch in batches]
    loader.close()

    assert 0 not in early
    assert sorted(early + late) == list(range(8))


def test_a_batch_that_takes_longer_than_the_timeout_is_an_error(tmp_path: Path) -> None:
    loader = loader_of(Noting(8, tmp_path, First(5)), timeout=0.5, **RING)

    with pytest.raises(RuntimeError, match=r"^DataLoader timed out after 0\.5 seconds"):
        list(loader)


def test_a_generator_chooses_the_order_that_it_chooses_without_workers() -> None:
    def passes(**how: Any) -> list[Any]:
        generator = torch.Generator().manual_seed(5)
        loader = loader_of(Numbers(30), shuffle=True, generator=generator, **how)
        try:
            return [[plain(batch) for batch in loader] for _ in range(2)]
        finally:
            loader.close()

    assert passes(**RING) == passes(num_workers=0)


@pytest.mark.parametrize(
    ("method", "as_object"),
    [
        ("fork", False),
        ("fork", True),
        pytest.param("forkserver", True, marks=pytest.mark.slow),
        pytest.param("spawn", False, marks=pytest.mark.slow),
    ],
)
def test_a_start_method_is_a_string_or_a_context(method: str, as_object: bool) -> None:
    context = multiprocessing.get_context(method) if as_object else method

    batches = one_pass(Infos(3), batch_size=3, multiprocessing_context=context, **RING)

    assert len(batches) == 1


def test_timeout_below_zero_is_refused() -> None:
    with pytest.raises((ValueError, SettingsError), match="timeout"):
        loader_of(Numbers(3), timeout=-1, **RING)
