"""What torch's DataLoader gives for the same arguments, this loader gives."""

from collections import namedtuple
from collections.abc import Sequence
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_sets import MORE_WORKERS_THAN_CORES, Numbers, OfEpoch, loader_of
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    SequentialSampler,
    Subset,
    TensorDataset,
    get_worker_info,
    random_split,
)

from lightning_fastdata.dataset.views import split_dataset
from lightning_fastdata.loader.fast_data_loader import FastDataLoader

Pair = namedtuple("Pair", ["left", "right"])  # users have this kind
TORCH_DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
]


def same(ours: Any, theirs: Any) -> bool:
    """Whether two batches are equal in value, dtype, shape, type and structure."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, torch.Tensor):
        same_kind = ours.dtype == theirs.dtype and ours.shape == theirs.shape
        return same_kind and bits(ours) == bits(theirs)
    if isinstance(ours, np.ndarray):
        return ours.dtype == theirs.dtype and bool(np.array_equal(ours, theirs))
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == theirs)


def bits(tensor: torch.Tensor) -> bytes:
    return (
        tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    )


def assert_like_torch(dataset: Any, *, num_workers: int = 0, **how: Any) -> None:
    ours = loader_of(dataset, num_workers=num_workers, **how)
    how.setdefault("batch_size", 1 if "batch_sampler" in how else 4)
    theirs = DataLoader(dataset, **how)

    found, wanted = list(ours), list(theirs)

    assert len(ours) == len(theirs) == len(found)
    for mine, other in zip(found, wanted, strict=True):
        assert same(mine, other), f"{mine} is not {other}"


def a_tensor(dtype: torch.dtype, shape: list[int], value: int) -> torch.Tensor:
    return (torch.arange(int(np.prod(shape))).reshape(shape) + value).to(dtype)


def an_array(dtype: str, shape: list[int], value: int) -> Any:
    return np.full(shape, value).astype(dtype)


shapes = st.lists(st.integers(0, 3), max_size=2)
leaves = st.one_of(
    st.builds(lambda dtype, shape: ("tensor", dtype, shape), st.sampled_from(TORCH_DTYPES), shapes),
    st.builds(
        lambda dtype, shape: ("array", dtype, shape),
        st.sampled_from(["bool", "uint8", "int32", "int64", "float32", "float64"]),
        shapes,
    ),
    st.sampled_from(["int", "float", "bool", "str", "bytes", "float32", "int64"]).map(
        lambda name: (name,)
    ),
)
structures = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("list", parts)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: ("tuple", parts)),
        st.tuples(inner, inner).map(lambda parts: ("pair", list(parts))),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1).map(
            lambda parts: ("dict", parts)
        ),
    ),
    max_leaves=6,
)


def sample_of(structure: Any, value: int) -> Any:
    """A sample of the given structure, told apart by ``value``."""
    kind, *rest = structure
    makers: dict[str, Any] = {
        "tensor": lambda dtype, shape: a_tensor(dtype, shape, value),
        "array": lambda dtype, shape: an_array(dtype, shape, value),
        "int": lambda: value,
        "float": lambda: value / 3,
        "bool": lambda: value % 2 == 0,
        "str": lambda: f"sample {value}",
        "bytes": lambda: bytes([value]),
        "float32": lambda: np.float32(value / 3),
        "int64": lambda: np.int64(value),
        "list": lambda parts: [sample_of(part, value) for part in parts],
        "tuple": lambda parts: tuple(sample_of(part, value) for part in parts),
        "pair": lambda parts: Pair(*(sample_of(part, value) for part in parts)),
        "dict": lambda parts: {key: sample_of(part, value) for key, part in parts.items()},
    }
    return makers[kind](*rest)


class Structured(Dataset[Any]):
    def __init__(self, structure: Any, length: int = 5) -> None:
        self.structure, self.length = structure, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return sample_of(self.structure, index)


class Whole(Structured):
    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        return [sample_of(self.structure, index + 100) for index in indices]


EVERYTHING = (
    "dict",
    {
        "a": ("tuple", [("tensor", dtype, [2, 3]) for dtype in TORCH_DTYPES]),
        "b": ("pair", [("list", [("int",), ("float",), ("bool",)]), ("str",)]),
        "c": ("list", [("array", "float32", [2]), ("float32",), ("bytes",)]),
        "d": ("tensor", torch.bfloat16, []),
    },
)


@given(structure=structures, length=st.integers(1, 5), batch_size=st.sampled_from([1, 3, None]))
@settings(max_examples=150)
def test_nested_samples_become_the_batches_that_torch_makes(
    structure: Any, length: int, batch_size: int | None
) -> None:
    assert_like_torch(Structured(structure, length), batch_size=batch_size)


@pytest.mark.parametrize("kind", [Structured, Whole])
@pytest.mark.parametrize("batch_size", [4, None])
def test_nested_samples_come_from_workers_as_from_torch(kind: Any, batch_size: int | None) -> None:
    assert_like_torch(kind(EVERYTHING), batch_size=batch_size, num_workers=2)


def tensors() -> TensorDataset:
    return TensorDataset(
        torch.randn(17, 3, 4),
        torch.arange(17),
        torch.arange(17).bool(),
        torch.randn(17, 2).to(torch.bfloat16),
        torch.randn(6, 17).t(),
        torch.zeros(17, 0),
    )


def views() -> dict[str, Any]:
    base = tensors()
    return {
        "whole": base,
        "subset": Subset(base, [5, 3, 3, 16, -1]),
        "array of indices": Subset(base, np.array([5, 3, 3, 16])),  # type: ignore[arg-type]
        "random_split": random_split(base, [10, 7], torch.Generator().manual_seed(0))[0],
        "our split": split_dataset(base, 0.3, seed=3)[0],
        "split of a subset": split_dataset(Subset(base, range(1, 9)), 0.5, seed=3)[1],
        "subset of a split": Subset(split_dataset(base, 0.3, seed=3)[0], [4, 0, 2]),
        "concatenation": ConcatDataset([base, base]),
    }


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("view", views())
def test_rows_of_tensors_are_gathered_as_default_collation_stacks_them(
    view: str, num_workers: int
) -> None:
    assert_like_torch(views()[view], num_workers=num_workers)


@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_rows_of_every_dtype_are_gathered_to_the_bit(dtype: torch.dtype) -> None:
    noise = torch.randint(0, 256, (9, 16), dtype=torch.uint8)
    rows = noise % 2 == 0 if dtype is torch.bool else noise.view(dtype)

    assert_like_torch(TensorDataset(rows))


def test_a_collate_fn_of_the_users_own_gets_the_list_of_samples() -> None:
    assert_like_torch(Numbers(9), collate_fn=list)
    assert_like_torch(tensors(), collate_fn=lambda samples: samples[0][0])


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 9, 10])
def test_the_last_batch_is_short_or_left_out(batch_size: int, drop_last: bool) -> None:
    if drop_last and batch_size == 10:
        return  # refused, see test_loader_refusals.py
    assert_like_torch(Numbers(9), batch_size=batch_size, drop_last=drop_last)


def test_without_arguments_batches_are_of_one_as_in_torch() -> None:
    ours, theirs = FastDataLoader(Numbers(3), num_workers=0), DataLoader(Numbers(3))

    assert all(map(same, ours, theirs))
    assert ours.batch_size == theirs.batch_size == 1


@pytest.mark.parametrize("batch_size", [4, None])
def test_a_sampler_is_followed(batch_size: int | None) -> None:
    assert_like_torch(Numbers(9), sampler=[3, 1, 1, 8, 0], batch_size=batch_size)


def test_a_batch_sampler_is_followed() -> None:
    assert_like_torch(Numbers(9), batch_sampler=[[3, 1], [1], [8, 0, 2]])
    assert_like_torch(Numbers(9), batch_sampler=BatchSampler(range(9), 2, drop_last=True))
    assert_like_torch(tensors(), batch_sampler=[[3, 1], [-1], [8, 0, 2]])


@pytest.mark.parametrize("kind", [torch.tensor, np.int64, np.uint8, int], ids=str)
def test_keys_reach_the_dataset_as_plain_ints(kind: Any) -> None:
    for how in (
        {"sampler": [kind(2), kind(0)]},
        {"batch_sampler": [[kind(2), kind(0)]]},
        {"sampler": [kind(2), kind(0)], "batch_size": None},
        {"shuffle": True},
    ):
        data = Numbers(3)
        list(loader_of(data, **how))

        assert {type(key) for key in data.asked} == {int}


class Described(Dataset[str]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, key: Any) -> str:
        return repr(key)


def test_keys_that_are_no_numbers_pass_as_they_are() -> None:
    assert_like_torch(Described(), sampler=["left", "right"])
    assert_like_torch(Described(), sampler=["left", ("a", 1)], batch_size=None)
    assert_like_torch(Described(), batch_sampler=[["left", 3], ["right"]])
    assert_like_torch(tensors(), batch_sampler=[[slice(0, 2), slice(2, 4)]])


def test_several_keys_at_once_pass_without_batching() -> None:
    assert_like_torch(tensors(), sampler=[[1, 2], [3]], batch_size=None)
    assert_like_torch(tensors(), sampler=[torch.tensor([1, 2])], batch_size=None)
    assert_like_torch(tensors(), sampler=[slice(0, 5, 2)], batch_size=None)
    sampler = BatchSampler(SequentialSampler(range(17)), 5, drop_last=False)
    assert_like_torch(tensors(), sampler=sampler, batch_size=None)


def test_an_index_that_is_out_of_range_is_an_index_error_as_in_torch() -> None:
    for data in (tensors(), Subset(tensors(), range(16)), split_dataset(tensors(), 0.1, 0)[0]):
        with pytest.raises(IndexError):
            list(loader_of(data, sampler=[0, 17]))


def test_a_shuffled_epoch_holds_each_sample_once_and_the_next_one_too() -> None:
    loader = loader_of(Numbers(23), shuffle=True)

    epochs = [[index for batch in loader for index in batch.tolist()] for _ in range(3)]

    assert [sorted(epoch) for epoch in epochs] == [list(range(23))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_contradictory_arguments_are_refused_as_in_torch() -> None:
    contradictions: list[dict[str, Any]] = [
        {"sampler": [0], "shuffle": True},
        {"batch_sampler": [[0]], "shuffle": True},
        {"batch_sampler": [[0]], "drop_last": True},
        {"batch_sampler": [[0]], "batch_size": 3},
        {"batch_size": None, "drop_last": True},
    ]
    for how in contradictions:
        with pytest.raises(ValueError, match="mutually exclusive"):
            FastDataLoader(Numbers(9), num_workers=0, **how)


def note_worker(worker_id: int) -> None:
    info: Any = get_worker_info()
    info.dataset.asked.append((worker_id, info.num_workers, type(info.dataset).__name__))


class Asked(Numbers):
    def __getitem__(self, index: int) -> Any:
        return repr(self.asked)


@pytest.mark.parametrize("as_lightning", [False, True])
def test_worker_init_fn_sees_the_users_own_dataset(as_lightning: bool) -> None:
    loader = loader_of(
        Asked(2), 1, num_workers=2, worker_init_fn=None if as_lightning else note_worker
    )
    if as_lightning:  # it sets the attribute after construction
        loader.worker_init_fn = note_worker

    assert [batch[0] for batch in loader] == ["[(0, 2, 'Asked')]", "[(1, 2, 'Asked')]"]


def never_ends(worker_id: int) -> None:
    Event().wait()


def test_timeout_ends_the_wait_for_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)  # to end it soon
    loader = loader_of(Numbers(4), num_workers=1, timeout=0.2, worker_init_fn=never_ends)

    with pytest.raises(RuntimeError, match=r"^DataLoader timed out after 0.2 seconds"):
        next(iter(loader))


@MORE_WORKERS_THAN_CORES
def test_batches_as_they_are_finished_are_the_same_batches() -> None:
    loader = loader_of(Numbers(40), 2, num_workers=4, in_order=False)

    found = {tuple(batch.tolist()) for batch in loader}

    assert found == {(even, even + 1) for even in range(0, 40, 2)}


@pytest.mark.parametrize("persistent_workers", [True, False])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_dataset_is_told_each_epoch(num_workers: int, persistent_workers: bool) -> None:
    loader = loader_of(
        Subset(OfEpoch(), range(6)),
        2,
        num_workers=num_workers,
        persistent_workers=persistent_workers,
    )

    passes = [[batch[1].tolist() for batch in loader] for _ in range(2)]
    loader.set_epoch(7)
    passes.append([batch[1].tolist() for batch in loader])

    assert passes == [[[epoch, epoch]] * 3 for epoch in (0, 1, 7)]


@pytest.mark.parametrize("prefetch_factor", [1, 2, 7])
def test_prefetch_factor_is_kept_and_changes_no_batch(prefetch_factor: int) -> None:
    loader = loader_of(Numbers(9), 2, num_workers=2, prefetch_factor=prefetch_factor)

    assert loader.plan.prefetch_batches == 2 * prefetch_factor
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5], [6, 7], [8]]


def test_pin_memory_without_a_device_says_so_and_goes_on() -> None:
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a CUDA device")
    for data in (Numbers(2), TensorDataset(torch.arange(2))):
        with pytest.warns(UserWarning, match=r"^pin_memory=True, but there is no CUDA device"):
            batches = list(loader_of(data, 1, pin_memory=True))

        assert len(batches) == 2


@pytest.mark.gpu
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("gathered", [True, False])
def test_every_tensor_of_a_nested_batch_is_pinned(gathered: bool, num_workers: int) -> None:
    data = tensors() if gathered else Structured(EVERYTHING)
    loader = loader_of(data, num_workers=num_workers, pin_memory=True)

    leaves = torch.utils._pytree.tree_leaves(next(iter(loader)))

    found = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.numel()]
    assert found
    assert all(tensor.is_pinned() for tensor in found)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        FastDataLoader(Numbers(3), num_worker=2)  # type: ignore[call-arg]
