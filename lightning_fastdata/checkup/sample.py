"""Making one sample in a worker and noting what happened; the sample itself stays there."""

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import cloudpickle  # type: ignore[import-untyped]  # it ships no types
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, default_collate

from lightning_fastdata.checkup.user_code import one_line
from lightning_fastdata.tuning.probe import count_bytes

_PARTS_TOLD = 4  # of equal parts of a list; more are counted


class SampleRecord(NamedTuple):
    """What making one sample came to."""

    sample: int
    """Its index."""
    wall_ns: int
    cpu_ns: int
    is_first: bool
    """Whether its process had made none before; its time then has imports and caches in it."""
    size_bytes: int
    spec: str | None
    """Its structure, shapes and dtypes; ``None`` where it could not be made."""
    error: str | None
    """Why it could not be made."""
    uncollatable: str | None
    """Why torch's default collation cannot take it; told once a worker and structure."""
    warning: str | None
    """The first warning that was given while it was made."""


class Examined(Dataset[SampleRecord]):
    """Gives a record of each sample instead of the sample.

    Args:
        dataset: Whose samples are made; map-style.
        collates: Whether the samples have to suit torch's default collation.
    """

    def __init__(self, dataset: Any, *, collates: bool) -> None:
        self.dataset = dataset
        self._watch = _Watch(collates=collates)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> SampleRecord:
        return self._watch.record(index, lambda: self.dataset[index], may_end=False)


class ExaminedStream(IterableDataset[SampleRecord]):
    """Gives a record of each of the first samples of a stream; the stream ends at an error.

    Args:
        dataset: The stream.
        samples: How many to make at most.
        collates: Whether the samples have to suit torch's default collation.
    """

    def __init__(self, dataset: Any, samples: int, *, collates: bool) -> None:
        self.dataset, self._samples = dataset, samples
        self._watch = _Watch(collates=collates)

    def __iter__(self) -> Iterator[SampleRecord]:
        samples: list[Iterator[Any]] = []

        def first() -> Any:
            samples.append(iter(self.dataset))
            return next(samples[0])

        for index in range(self._samples):
            make = (lambda: next(samples[0])) if samples else first
            try:
                record = self._watch.record(index, make, may_end=True)
            except StopIteration:
                return
            yield record
            if record.error is not None:
                return


class _Watch:
    """Times and describes samples of one process.

    Args:
        collates: Whether the samples have to suit torch's default collation.
    """

    def __init__(self, *, collates: bool) -> None:
        self._collates = collates
        self._seen: set[str] = set()
        self._has_made_one = False

    def record(self, index: int, make: Callable[[], Any], *, may_end: bool) -> SampleRecord:
        """Make a sample and say what happened; the end of a stream is passed on."""
        spec = error = uncollatable = None
        size_bytes = 0
        is_first, self._has_made_one = not self._has_made_one, True
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            began_ns, began_cpu_ns = time.perf_counter_ns(), time.process_time_ns()
            try:
                sample = make()
            except Exception as raised:
                if may_end and isinstance(raised, StopIteration):
                    raise
                error = one_line(raised)
            wall_ns = time.perf_counter_ns() - began_ns
            cpu_ns = time.process_time_ns() - began_cpu_ns
            if error is None:
                spec, size_bytes = describe(sample), count_bytes(sample)
                if self._collates and spec not in self._seen:
                    self._seen.add(spec)
                    uncollatable = _why_not_collated(sample)
        warning = f"{warned[0].category.__name__}: {warned[0].message}" if warned else None
        return SampleRecord(
            index, wall_ns, cpu_ns, is_first, size_bytes, spec, error, uncollatable, warning
        )


def describe(sample: Any) -> str:
    """Describe a sample's structure, shapes and dtypes in one short line."""
    if isinstance(sample, (Tensor, np.ndarray, np.generic)):
        shape = " x ".join(map(str, sample.shape)) or "one"
        kind = "tensor" if isinstance(sample, Tensor) else "array"
        return f"{kind} {shape} {str(sample.dtype).removeprefix('torch.')}"
    if isinstance(sample, Mapping):
        return "{" + ", ".join(f"{key!r}: {describe(part)}" for key, part in sample.items()) + "}"
    if isinstance(sample, (list, tuple)):
        parts = [describe(part) for part in sample]
        if len(parts) > _PARTS_TOLD and len(set(parts)) == 1:
            return f"({len(parts)} times {parts[0]})"
        return "(" + ", ".join(parts) + ")"
    return type(sample).__name__


def _why_not_collated(sample: Any) -> str | None:
    try:
        default_collate([sample])
    except Exception as error:
        return one_line(error)
    return None


def digest(sample: Any) -> bytes:
    """Name a sample's values to the bit: equal digests are equal samples."""
    told = hashlib.blake2b(digest_size=16)
    _tell(told, sample)
    return told.digest()


def _tell(told: "hashlib.blake2b", value: Any) -> None:
    told.update(f"{type(value).__name__};".encode())
    if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized:
        told.update(f"{value.dtype}{tuple(value.shape)};".encode())
        told.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        told.update(f"{value.dtype}{value.shape};".encode())
        told.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key, part in value.items():
            _tell(told, key)
            _tell(told, part)
    elif isinstance(value, (list, tuple)):
        told.update(f"{len(value)};".encode())
        for part in value:
            _tell(told, part)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            _tell(told, getattr(value, field.name))
    elif isinstance(value, float):
        told.update(value.hex().encode())
    elif isinstance(value, (str, bytes, int, bool, complex, type(None))):
        told.update(repr(value).encode())
    else:
        told.update(cloudpickle.dumps(value))
