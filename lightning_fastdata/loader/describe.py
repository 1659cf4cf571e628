"""Samples in words, for errors: which file, which shape, and which one does not fit."""

from typing import Any


def path_of(dataset: Any, index: Any) -> str | None:
    """The file of a sample, where the dataset can name it."""
    name = getattr(dataset, "sample_path", None)
    if not callable(name):
        return None
    try:
        return str(name(index))
    except Exception:  # it is only asked for a message about another error
        return None


def misfit_of(samples: Any, indices: Any) -> str | None:
    """Say which sample does not fit the first one; ``None`` where all are alike."""
    first = _spec(samples[0])
    for index, sample in zip(indices, samples, strict=False):
        spec = _spec(sample)
        if "NoneType" in spec:
            return (
                f"sample {index} is {spec}, wanted tensors, arrays, numbers, strings, or lists, "
                "tuples and dicts of them. Return a value for every index, or pass a collate_fn "
                "that knows what to do with None."
            )
        if spec != first:
            return (
                f"sample {index} is {spec}, but sample {indices[0]} of the same batch is {first}. "
                "Make samples equal in the dataset (resize or pad), or pass your own collate_fn."
            )
    return None


def unknown_type(samples: Any, indices: Any) -> str:
    """Say that the samples are alike, but of a type that cannot be collated."""
    return (
        f"sample {indices[0]} is {_spec(samples[0])}, which torch's default "
        "collation does not know, wanted tensors, arrays, numbers, strings, or lists, tuples and "
        "dicts of them. Convert it in the dataset, or pass your own collate_fn."
    )


def _spec(sample: Any) -> str:
    """Describe a sample's structure, shapes and dtypes in one short line."""
    if hasattr(sample, "shape") and hasattr(sample, "dtype"):
        return f"{tuple(sample.shape)} {str(sample.dtype).removeprefix('torch.')}"
    if isinstance(sample, dict):
        return "{" + ", ".join(f"{key!r}: {_spec(value)}" for key, value in sample.items()) + "}"
    if isinstance(sample, (list, tuple)):
        return "(" + ", ".join(_spec(value) for value in sample) + ")"
    return type(sample).__name__
