"""What a decision about loading belongs to, as a key that is the same in every process.

Nothing of a dataset's data is read, and none of the user's code runs but ``__len__``.
"""

import contextlib
import functools
import hashlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from lightning_fastdata.dataset.image_index import ImageIndex
from lightning_fastdata.machine import Machine, whole_cores

_DEEPEST, _MOST_PIECES = 6, 1_500  # guess: a dataset of datasets of transforms has a few hundred
_AT_EACH_END, _SHOWN_WHOLE = 3, 16  # of a list, a text: guess, longer ones differ in their length
_PLAIN = (bool, int, float, complex, range, type(None), torch.dtype, torch.device, torch.Size)
# Others of Python's own hold locks, counters or all loggers, which differ from run to run.
_SHOWN_BY_REPR = {"re", "datetime", "decimal", "fractions", "uuid", "ipaddress"}
_OPENED = {"argparse", "types", "functools", "operator"}
_CONTAINERS = (tuple, list, dict, set, frozenset)
# Their methods are not the user's to edit, and a table's alone would take all of the budget.
_LIBRARIES = {"torch", "torchvision", "torchaudio", "lightning_fastdata", "numpy", "scipy", "PIL"}
_LIBRARIES |= {"cv2", "skimage", "sklearn", "pandas", "polars", "pyarrow", "h5py", "zarr", "lmdb"}
_LIBRARIES |= {"datasets", "transformers", "tokenizers", "albumentations", "kornia", "monai"}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanKey:
    """What a decision is remembered for."""

    machine: str
    """The kind of machine, in words; nodes of one cluster are one kind."""
    dataset: str
    """A digest of the dataset: its class and code, its length, its plain attributes."""
    batch_size: int
    transforms: str
    """A digest of ``collate_fn`` and ``batch_transform``."""

    @property
    def name(self) -> str:
        """A digest of all of it, fit for a file's name."""
        parts = (self.machine, self.dataset, str(self.batch_size), self.transforms)
        return _digest("\0".join(parts))


def plan_key(
    dataset: Any,
    batch_size: int,
    machine: Machine,
    *,
    collate_fn: Callable[[Any], Any] | None = None,
    batch_transform: Callable[[Any], Any] | None = None,
) -> PlanKey:
    """Give the key of a loader's plan.

    Args:
        dataset: What it reads, with the transforms that it applies.
        batch_size: Samples a batch.
        machine: Where it runs.
        collate_fn: Makes a batch of samples; ``None`` and torch's own differ.
        batch_transform: What becomes of batches in workers.
    """
    return PlanKey(
        machine=machine_kind(machine),
        dataset=fingerprint(dataset),
        batch_size=batch_size,
        transforms=_digest(f"{_describe(collate_fn)} then {_describe(batch_transform)}"),
    )


def machine_kind(machine: Machine) -> str:
    """Name what decides how fast a rank loads, and no machine by its own name."""
    gpus = machine.accelerators or ()
    names = sorted(set(gpus))
    memory_bytes = machine.memory_total_bytes
    # To a power of two: equal nodes report some MB more or less of the same memory.
    memory = "" if not memory_bytes else f", {2.0 ** round(math.log2(memory_bytes / 2**30)):g} GiB"
    return (
        f"{machine.cpu_model or machine.platform}{memory}, "
        + (" and ".join(f"{gpus.count(name)} x {name}" for name in names) or "no accelerator")
        + f", cores a rank: {whole_cores(machine.cores)}, ranks: {machine.local_world_size}"
    )


def fingerprint(dataset: Any) -> str:
    """Give a digest that changes when the dataset does, as far as that shows without reading it.

    It takes in the class with the code of its methods, the length, and attributes: plain values
    whole, long lists by their length and ends, arrays by shape and type, functions by their code,
    other objects in the same way. Attributes that refuse to be read are left out.
    """
    length: int | None = None
    with contextlib.suppress(Exception):  # a stream may have none
        length = len(dataset)
    return _digest(f"{length} of {_describe(dataset)}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _describe(value: Any) -> str:
    return _Description().of(value, 0)


class _Description:
    """Words for one value, as many as its budget allows."""

    def __init__(self) -> None:
        self._pieces_left = _MOST_PIECES

    def of(self, value: Any, depth: int) -> str:
        self._pieces_left -= 1
        if isinstance(value, str):
            return _text(str.__getitem__(value, slice(None)))
        if isinstance(value, bytes):
            return _text(bytes.__getitem__(value, slice(None)))
        if type(value) in _PLAIN:
            return repr(value)
        name = _name(type(value))
        if self._pieces_left < 0 or depth > _DEEPEST:  # anything may hold itself
            return name
        try:
            return f"{name}({self._content(value, depth + 1)})"
        except Exception:  # of the user's class; the rest still tells datasets apart
            return name

    def _content(self, value: Any, depth: int) -> str:
        """Base classes' own methods are called throughout: a subclass's may read data."""
        if isinstance(value, Enum):
            return value.name
        if isinstance(value, PurePath):
            return str(value)
        if isinstance(value, np.generic):
            return repr(value.item())
        if isinstance(value, (np.ndarray, torch.Tensor)):
            return f"{tuple(value.shape)} {value.dtype}"
        if isinstance(value, (list, tuple)):
            return self._items(value, depth) + self._attributes(value, depth)
        if isinstance(value, dict):
            return self._entries(value, depth) + self._attributes(value, depth)
        if isinstance(value, (set, frozenset)):
            few = value if len(value) <= _SHOWN_WHOLE else ()  # no order, so no first ones
            return f"{len(value)}: {sorted(self.of(one, depth) for one in few)}"
        if isinstance(value, (ModuleType, BuiltinFunctionType, type)):
            code = self._methods(value, depth) if isinstance(value, type) else ""
            return f"{_module_name(value)}.{value.__name__} {code}"
        if isinstance(value, FunctionType):
            return self._function(value, depth)
        if isinstance(value, MethodType):
            return f"{self.of(value.__func__, depth)} of {self.of(value.__self__, depth)}"
        if isinstance(value, functools.partial):
            return self._joined([value.func, value.args, value.keywords], depth)
        if isinstance(value, ImageIndex):  # whether it was mapped from a cache is no matter
            return self._joined([value.root, value.classes, value.class_counts], depth)
        return self._object(value, depth)

    def _joined(self, values: list[Any], depth: int) -> str:
        return ", ".join(self.of(value, depth) for value in values)

    def _items(self, value: list[Any] | tuple[Any, ...], depth: int) -> str:
        base: Any = list if isinstance(value, list) else tuple
        length = base.__len__(value)
        places: Sequence[int] = range(length)
        if length > _SHOWN_WHOLE:
            places = (*places[:_AT_EACH_END], *places[-_AT_EACH_END:])
        shown = [base.__getitem__(value, place) for place in places]
        return f"{length}: {self._joined(shown, depth)}"

    def _entries(self, value: dict[Any, Any], depth: int) -> str:
        length = dict.__len__(value)
        entries = list(islice(dict.items(value), _SHOWN_WHOLE if length <= _SHOWN_WHOLE else 3))
        if length > _SHOWN_WHOLE:
            entries += islice(dict.__reversed__(value), _AT_EACH_END)
        return f"{length}: {self._joined(entries, depth)}"

    def _function(self, function: FunctionType, depth: int) -> str:
        cells = []
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # not filled yet
                cells.append(cell.cell_contents)
        named = function.__globals__
        used = [
            named[name]
            for name in sorted(set(_names(function.__code__)) & named.keys())
            if not name.startswith("__")  # __name__ is another one in a script that is run
            and (
                isinstance(named[name], str)
                or type(named[name]) in (*_PLAIN, *_CONTAINERS)
                or getattr(named[name], "__module__", None) == function.__module__
            )
        ]
        inside = [function.__defaults__, function.__kwdefaults__, *cells, *used]
        code = _code(function.__code__)
        name = f"{_module_name(function)}.{function.__qualname__}"
        return f"{name} {code} {self._joined(inside, depth)}"

    def _object(self, value: Any, depth: int) -> str:
        kind = type(value)
        room = kind.__module__.partition(".")[0]
        if room in _SHOWN_BY_REPR:
            return repr(value)
        if room in sys.stdlib_module_names and room not in _OPENED:
            return ""
        attributes = self._attributes(value, depth)
        own_name = "" if attributes or hasattr(kind, "__getattr__") else _own_name(value)
        return f"{own_name}{self._methods(kind, depth)} {attributes}"

    def _attributes(self, value: Any, depth: int) -> str:
        kept = {}
        with contextlib.suppress(TypeError):  # it has slots only, or nothing
            kept.update(vars(value))
        for base in type(value).__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else tuple(slots):
                with contextlib.suppress(Exception):
                    kept[name] = base.__dict__[name].__get__(value)
        for name in list(kept):  # what is only there once it was asked for
            if isinstance(getattr(type(value), str(name), None), functools.cached_property):
                del kept[name]
        return "; ".join(f"{name}={self.of(kept[name], depth)}" for name in sorted(kept, key=str))

    def _methods(self, kind: type, depth: int) -> str:
        """Describe the code and the values of a class, but not those of libraries."""
        said = []
        for base in kind.__mro__:
            if base.__module__.partition(".")[0] in _LIBRARIES | sys.stdlib_module_names:
                continue
            for name, found in sorted(vars(base).items()):
                member = getattr(found, "__func__", None) or getattr(found, "fget", None) or found
                if isinstance(member, FunctionType):
                    said.append(f"{name}: {self.of(member, depth)}")
                elif name[:2] != "__":  # Python's own, such as the line where the class begins
                    said.append(f"{name}={self.of(member, depth)}")
        return f"[{'; '.join(said)}]"


def _name(kind: type) -> str:
    return f"{_module_name(kind)}.{kind.__qualname__}"


def _module_name(value: Any) -> str:
    """Give the module's name; of a script that is run, the one by which others import it."""
    name = str(getattr(value, "__module__", ""))
    if name != "__main__":
        return name
    main = sys.modules["__main__"]
    run_as = getattr(getattr(main, "__spec__", None), "name", name)
    if run_as != name:  # python -m; the specs that debuggers and profilers make say __main__
        return str(run_as)
    file = getattr(main, "__file__", None)
    return name if file is None else PurePath(file).stem  # a notebook has none


def _own_name(value: Any) -> str:
    """Give the name of a function that is none of Python's own, as NumPy's are."""
    return str(getattr(value, "__name__", ""))


def _text(value: str | bytes) -> str:
    few = 100  # of either end
    if len(value) <= 2 * few:
        return repr(value)
    return f"{len(value)}: {value[:few]!r} {value[-few:]!r}"


def _nested(code: CodeType) -> Iterator[CodeType]:
    return (const for const in code.co_consts if isinstance(const, CodeType))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in _nested(code):
        yield from _names(inner)


def _code(code: CodeType) -> str:
    consts = [_const(const) for const in code.co_consts]
    return _digest(f"{code.co_code!r} {code.co_names} {consts}")


def _const(const: Any) -> str:
    if isinstance(const, CodeType):
        return _code(const)
    if isinstance(const, frozenset):  # of texts: their order differs from process to process
        return str(sorted(map(repr, const)))
    if isinstance(const, tuple):
        return str([_const(one) for one in const])
    return repr(const)
