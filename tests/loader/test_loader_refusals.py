"""What cannot work is refused at once, in words that say what was found, wanted and to do."""

import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from sample_sets import Numbers, Stream, loader_of
from torch.utils.data import Dataset

from lightning_fastdata.errors import BatchShapeError, DatasetError, SettingsError
from lightning_fastdata.loader.fast_data_loader import FastDataLoader


class Given(Dataset[Any]):
    def __init__(self, *samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.samples[index], Exception):
            raise self.samples[index]
        return self.samples[index]


class GivenWhole(Given):
    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        return [self[index] for index in indices]


class Opaque:
    pass


def test_a_dataset_without_samples_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"^the dataset \(Numbers\) has 0 samples, wanted 1"):
        FastDataLoader(Numbers(0))


def test_what_is_no_dataset_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"^the dataset is a generator, wanted one with __len__"):
        FastDataLoader(index for index in range(3))  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [0, -1, True, "8", 2.0], ids=repr)
def test_a_batch_size_that_is_no_count_is_refused(batch_size: Any) -> None:
    with pytest.raises(SettingsError, match=rf"^batch_size={batch_size!r}, wanted a whole number"):
        FastDataLoader(Numbers(9), batch_size=batch_size)


def test_dropping_the_only_batch_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^batch_size=10 with drop_last=True of 9 samples"):
        FastDataLoader(Numbers(9), batch_size=10, drop_last=True)


@pytest.mark.parametrize("num_workers", [-1, True, "many", 2.0, None], ids=repr)
def test_a_number_of_workers_that_is_none_is_refused(num_workers: Any) -> None:
    with pytest.raises(SettingsError, match=rf"^num_workers={num_workers!r}, wanted 0 or more"):
        FastDataLoader(Numbers(9), num_workers=num_workers)


def test_more_workers_than_any_machine_can_use_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"^num_workers=1000000, wanted at most "):
        FastDataLoader(Numbers(9), num_workers=1_000_000)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"engine": "rings"}, "engine='rings', wanted"),
        ({"engine": "inline", "num_workers": 2}, 'engine="inline" with num_workers=2, wanted'),
        ({"engine": "torch", "num_workers": 0}, 'engine="torch" with num_workers=0, wanted'),
        ({"engine": "ring", "num_workers": 0}, 'engine="ring" with num_workers=0, wanted'),
        ({"prefetch_factor": 2, "num_workers": 0}, "prefetch_factor=2 with num_workers=0, wanted"),
        ({"prefetch_factor": 0, "num_workers": 2}, "prefetch_factor=0 with num_workers=2, wanted"),
        ({"seed": -1, "num_workers": 0}, "seed=-1, wanted 0 or more"),
    ],
    ids=str,
)
def test_arguments_that_cannot_work_together_are_refused(how: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=f"^{words}"):
        FastDataLoader(Numbers(9), **how)


MISFITS = {
    "shape": (
        Given(torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(3, 5)),
        r"sample 2 is \(3, 5\) float32, but sample 0 of the same batch is \(3, 4\) float32",
    ),
    "shape inside": (
        Given({"x": (torch.zeros(3), 1)}, {"x": (torch.zeros(2), 1)}),
        r"sample 1 is \{'x': \(\(2,\) float32, int\)\}, but sample 0 of the same batch is ",
    ),
    "length": (Given([1, 2], [1]), r"sample 1 is \(int\), but sample 0 of the same batch"),
    "keys": (Given({"a": 1, "b": 2}, {"a": 1}), r"sample 1 is \{'a': int\}, but sample 0"),
    "none": (Given(torch.zeros(1), None), r"sample 1 is NoneType, wanted tensors, arrays"),
    "none inside": (Given((1, None), (2, None)), r"sample 0 is \(int, NoneType\), wanted tensors"),
    "type": (Given(Opaque(), Opaque()), r"sample 0 is Opaque, which torch's default collation"),
    "whole": (
        GivenWhole(torch.zeros(3), torch.zeros(2)),
        r"sample 1 is \(2,\) float32, but sample 0 of the same batch is \(3,\) float32",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_samples_that_do_not_fit_together_are_named(misfit: str) -> None:
    data, words = MISFITS[misfit]

    with pytest.raises(BatchShapeError, match=f"^{words}"):
        list(loader_of(data))


@pytest.mark.parametrize("misfit", MISFITS)
def test_the_name_survives_the_way_from_a_worker(misfit: str) -> None:
    data, words = MISFITS[misfit]

    with pytest.raises(BatchShapeError, match=words):
        list(loader_of(data, num_workers=2))


def test_samples_that_do_not_fit_are_found_when_they_are_measured() -> None:
    with pytest.raises(BatchShapeError, match=r"^sample . is \(., 2\) float32, but"):
        FastDataLoader(Given(torch.zeros(1, 2), torch.zeros(2, 2)), batch_size=2)


def test_the_sample_is_named_by_its_index_and_not_by_its_place() -> None:
    data = Given(*[torch.zeros(3)] * 7, torch.zeros(4))

    with pytest.raises(BatchShapeError, match=r"^sample 7 is \(4,\) float32, but sample 6 of"):
        list(loader_of(data, 2))


def test_a_failure_of_collation_that_is_no_misfit_is_not_called_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def out_of_memory(tensors: Any, *args: Any, **how: Any) -> Any:
        raise RuntimeError("unable to allocate shared memory")

    monkeypatch.setattr(torch, "stack", out_of_memory)

    with pytest.raises(RuntimeError, match=r"^unable to allocate shared memory"):
        list(loader_of(Given(torch.zeros(3), torch.zeros(3))))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_of_the_dataset_arrives_as_it_is(num_workers: int) -> None:
    data = Given(1, 2, FileNotFoundError("c.jpg"), 4)

    with pytest.raises(FileNotFoundError, match=r"c\.jpg") as caught:
        list(loader_of(data, 1, num_workers=num_workers))

    if sys.version_info >= (3, 11):
        notes = [*getattr(caught.value, "__notes__", ()), str(caught.value)]
        assert any("This was sample 2 of the Given" in note for note in notes)


def test_an_error_leaves_the_generators_of_the_process_alone() -> None:
    class Fails(Dataset[float]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> float:
            raise ValueError(f"{torch.rand(())} is not to be had")

    before = torch.default_generator.get_state()

    with pytest.raises(ValueError, match="is not to be had"):
        next(iter(loader_of(Fails())))

    assert torch.equal(torch.default_generator.get_state(), before)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_after_an_error_the_loader_can_be_used_again(num_workers: int) -> None:
    loader = loader_of(Given(1, 2, 3, KeyError("four"), 5, 6, 7, 8), 1, num_workers=num_workers)

    for _ in range(2):
        given: list[Any] = []
        with pytest.raises(KeyError, match="four"):
            given.extend(batch.tolist() for batch in loader)

        assert given == [[1], [2], [3]]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_of_a_stream_arrives_as_it_is(num_workers: int) -> None:
    def fail(samples: Any) -> Any:
        raise FileNotFoundError("c.jpg")

    with pytest.raises(FileNotFoundError, match=r"c\.jpg"):
        list(loader_of(Stream(), num_workers=num_workers, collate_fn=fail))


def test_unequal_dtypes_are_no_misfit_because_torch_promotes_them() -> None:
    data = Given(torch.zeros(2), torch.ones(2).double())

    assert next(iter(loader_of(data))).dtype == torch.float64
