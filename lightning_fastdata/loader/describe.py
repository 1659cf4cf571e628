"""Samples in words, for errors: which file, which shape, and which one does not fit."""

from typing import Any

import numpy as np

from lightning_fastdata.dataset.views import base_of, resolve_indices


def path_of(dataset: Any, index: Any) -> str | None:
    """The file of a sample, where the dataset, or what it is a part of, can name it."""
    try:
        base = base_of(dataset)
        if base is not dataset:
            index = int(resolve_indices(dataset, np.array([index]))[0])
        if callable(getattr(base, "sample_path", None)):
            return str(base.sample_path(index))
        if hasattr(base, "samples") and hasattr(base, "loader"):  # torchvision's folders
            return str(base.samples[index][0])
    except Exception:  # a name is a kindness; whoever asks goes on without one
        return None
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


def add_note(error: Exception, note: str) -> None:
    """Add a sentence to an error, whose type and traceback stay as they are."""
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:  # Python 3.10 prints no notes; a ring's worker does it instead
        error.__dict__.setdefault("__notes__", []).append(note)
