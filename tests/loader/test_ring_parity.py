"""Whatever default collation takes, a ring's batches are torch's own, to the bit and the type."""

import os
import pickle
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from lightning_fastdata.loader.make import recipe_of
from lightning_fastdata.loader.ring.board import Board
from lightning_fastdata.loader.ring.failures import error_of
from lightning_fastdata.loader.ring.jobs import Jobs
from lightning_fastdata.loader.ring.memory import SlotFile, new_file
from lightning_fastdata.loader.ring.messages import BatchDone, Chunk, Failure
from lightning_fastdata.loader.ring.opened import batch_of_rows, batch_of_tree
from lightning_fastdata.loader.ring.rows import WrittenRows
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.loader.ring.worker import Worker

Pair = namedtuple("Pair", ["left", "right"])
MOST_BYTES = 2**24
MANY = settings(max_examples=120, suppress_health_check=list(HealthCheck))
OF_EVERY_DTYPE = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
OF_EVERY_DTYPE += ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
OF_EVERY_DTYPE += ["float8_e4m3fn", "float8_e5m2"]
NUMPY_DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "F", "D"]
UNUSUAL_NUMPY_DTYPES = ["g", ">i4", "M8[s]", "U3", "S3", "O", "i2,f4"]


class Record(NamedTuple):
    name: str
    value: Any


class Level(IntEnum):
    LOW = 1


class Frozen(Mapping[Any, Any]):
    """A mapping that cannot be changed once made."""

    def __init__(self, items: Mapping[Any, Any]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: Any) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


class Given(Dataset[Any]):
    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


def tensor_of(dtype: str, shape: tuple[int, ...], seed: int, how: str) -> torch.Tensor:
    tensor = torch.empty(shape, dtype=getattr(torch, dtype))
    if tensor.numel():
        made = torch.from_numpy(_bytes(tensor.dtype.itemsize, shape, seed, dtype == "bool"))
        tensor = made.view(tensor.dtype).view(shape)
    if how == "transposed":
        return tensor.permute(tuple(reversed(range(tensor.ndim))))
    if how == "with gaps" and tensor.ndim:
        return tensor[..., ::2]
    if how == "expanded":
        return tensor.expand(2, *shape)
    if how == "conjugated":
        return tensor.conj()
    if (
        how == "a picture" and tensor.ndim > 1 and dtype in ("uint8", "float32")
    ):  # others cannot be pickled
        return tv_tensors.Image(tensor)
    return tensor


def array_of(dtype: str, shape: tuple[int, ...], seed: int, how: str) -> Any:
    of = np.dtype(dtype)
    array: Any = np.zeros(shape, of)
    if of.kind in "?biufc" and of.char != "g":
        array = _bytes(of.itemsize, shape, seed, of.kind == "b").view(of).reshape(shape)
    if how == "in Fortran's order":
        return np.asfortranarray(array)
    if how == "with gaps" and array.ndim:
        return array[..., ::2]
    if how == "masked":
        return np.ma.MaskedArray(array)
    return array


def _bytes(itemsize: int, shape: tuple[int, ...], seed: int, is_bool: bool) -> Any:
    size = itemsize * int(np.prod(shape, dtype=np.int64))
    return np.random.RandomState(seed).randint(0, 2 if is_bool else 256, size, np.uint8)


SEEDS = st.integers(0, 2**16)
SHAPES = st.sampled_from([(), (0,), (3,), (2, 0, 3), (2, 3), (3, 4, 4)])
TENSORS = st.builds(
    lambda dtype, shape, how: SEEDS.map(lambda seed: tensor_of(dtype, shape, seed, how)),
    st.sampled_from(OF_EVERY_DTYPE),
    SHAPES,
    st.sampled_from(["plain", "transposed", "with gaps", "expanded", "conjugated", "a picture"]),
)
ARRAYS = st.builds(
    lambda dtype, shape, how: SEEDS.map(lambda seed: array_of(dtype, shape, seed, how)),
    st.sampled_from(NUMPY_DTYPES * 3 + UNUSUAL_NUMPY_DTYPES),
    SHAPES,
    st.sampled_from(["plain", "in Fortran's order", "with gaps", "masked"]),
)
NUMPY_SCALARS = st.sampled_from(NUMPY_DTYPES + UNUSUAL_NUMPY_DTYPES[:5]).map(
    lambda dtype: SEEDS.map(lambda seed: array_of(dtype, (), seed, "plain")[()])
)
NUMBERS = st.sampled_from(
    [
        st.integers(-(2**63), 2**63 - 1),
        st.integers(2**63 - 1, 2**64),
        st.booleans(),
        st.floats(),
        st.sampled_from([Level.LOW, 3]),
        st.complex_numbers(),
        st.none(),
    ]
)
TEXTS = st.sampled_from([st.text(max_size=3), st.binary(max_size=3), st.just(np.str_("a"))])
KEYS = st.one_of(
    st.text(max_size=2),
    st.integers(),
    st.booleans(),
    st.none(),
    st.binary(max_size=2),
    st.floats(allow_nan=False),
    st.tuples(st.integers(0, 3)),
    st.just(Level.LOW),
)


def _structures(parts: Any) -> Any:
    several = st.lists(parts, max_size=3)
    fixed = st.dictionaries(KEYS, parts, max_size=3).map(st.fixed_dictionaries)
    kinds: list[Any] = [dict, OrderedDict, lambda d: defaultdict(list, d), UserDict, Frozen]
    two = st.tuples(parts, parts)
    return st.one_of(
        several.map(lambda made: st.tuples(*made)),
        several.map(lambda made: st.tuples(*made).map(list)),
        st.builds(lambda made, kind: made.map(kind), fixed, st.sampled_from(kinds)),
        two.map(lambda made: st.tuples(*made).map(lambda values: Pair(*values))),
        parts.map(lambda made: st.builds(Record, st.text(max_size=2), made)),
        st.just(st.just(torch.Size([2, 3]))),
    )


LEAVES = TENSORS | ARRAYS | NUMPY_SCALARS | NUMBERS | TEXTS
SPECS: Any = st.recursive(LEAVES, _structures, max_leaves=4)


def through_a_ring(
    samples: list[Any], chunk_samples: int, collate_fn: Callable[[Any], Any] | None = None
) -> Any:
    """One batch by the code of a worker, of the nursery and of the loop, all in this process."""
    of_loop = SlotFile(new_file())
    recipe = recipe_of(Given(samples), collate_fn, None, batched=True)
    worker = Worker(recipe, RingSettings(num_workers=1), 0, Board())
    worker.slots[0] = SlotFile(os.dup(of_loop.descriptor))
    try:
        done = _answered(worker, len(samples), chunk_samples, is_rows=collate_fn is None)
        result: Any = pickle.loads(pickle.dumps(done.result))
        if isinstance(result, Failure):
            raise error_of(result)
        tensor = of_loop.mapped(MOST_BYTES).tensor
        if isinstance(result, WrittenRows):
            return batch_of_rows(result, len(samples), tensor)
        return batch_of_tree(result, tensor)
    finally:
        of_loop.close()
        worker.slots[0].close()


def _answered(worker: Worker, size: int, chunk_samples: int, *, is_rows: bool) -> BatchDone:
    jobs = Jobs(chunk_samples)
    chunk = Chunk(
        number=0,
        slot=0,
        most_bytes=MOST_BYTES,
        mode="rows" if is_rows else "whole",
        epoch=0,
        indices=np.arange(size, dtype=np.int64).tobytes(),
        are_keys=False,
        seeds=np.zeros(size, np.uint64).tobytes(),
        batch_seed=0,
        first_row=0,
        batch_size=size,
        worker=None,
    )
    jobs.add(chunk, 2)
    while True:
        done = jobs.settle(worker.answer(jobs.ready.popleft()))
        if done is not None:
            return done


def of_torch(samples: list[Any], collate_fn: Callable[[Any], Any] | None = None) -> Any:
    return next(iter(DataLoader(Given(samples), len(samples), collate_fn=collate_fn)))


def outcome(make: Callable[[], Any]) -> Any:
    """What it gives, or only that it raises: the words of an error are the engine's own."""
    try:
        return make()
    except Exception:
        return "it raises"


def same(ours: Any, theirs: Any) -> bool:
    """Whether two batches are equal in value, to the bit, and in every type and order."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, torch.Tensor):
        kind = (ours.dtype, ours.shape, ours.layout, ours.requires_grad)
        return kind == (theirs.dtype, theirs.shape, theirs.layout, theirs.requires_grad) and (
            _bits(ours) == _bits(theirs)
        )
    if isinstance(theirs, np.ma.MaskedArray):
        theirs = pickle.loads(pickle.dumps(theirs))  # NumPy loses the order of its bytes by itself
    if isinstance(ours, np.ndarray):
        if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
            return False
        return same(ours.tolist(), theirs.tolist())
    if isinstance(ours, Mapping):
        return same(list(ours), list(theirs)) and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, (float, complex, np.generic)):
        return repr(ours) == repr(theirs)
    return bool(ours == theirs)


def _bits(tensor: torch.Tensor) -> bytes:
    if not tensor.numel():
        return b""
    dense = tensor.detach().to_dense().as_subclass(torch.Tensor).resolve_conj().contiguous()
    return dense.flatten().view(torch.uint8).numpy().tobytes()


@pytest.mark.filterwarnings("ignore")  # numpy and torch warn of some of these, here and there
@MANY
@given(data=st.data(), spec=SPECS, chunk_samples=st.integers(1, 6))
def test_samples_of_one_structure_become_torchs_batches_however_they_are_cut(
    data: st.DataObject, spec: Any, chunk_samples: int
) -> None:
    samples = data.draw(st.lists(spec, min_size=1, max_size=6))

    batch = outcome(lambda: through_a_ring(samples, chunk_samples))

    assert same(batch, outcome(lambda: of_torch(samples)))


@pytest.mark.filterwarnings("ignore")
@MANY
@given(
    samples=st.lists(st.one_of(LEAVES, SPECS).flatmap(lambda spec: spec), min_size=2, max_size=4),
    chunk_samples=st.integers(1, 4),
)
def test_samples_that_are_unlike_become_torchs_batch_or_an_error_as_in_torch(
    samples: list[Any], chunk_samples: int
) -> None:
    batch = outcome(lambda: through_a_ring(samples, chunk_samples))

    assert same(batch, outcome(lambda: of_torch(samples)))
