"""A summary as JSON text, and back.

The text is one object: ``schema_version`` first, then every field of ``StallSummary`` under its own
name. Records inside it are objects likewise, sequences are lists, and what was not measured is
``null``. Times are whole nanoseconds, shares are 0 to 1. Numbers that JSON lacks are the strings
``"Infinity"``, ``"-Infinity"`` and ``"NaN"``. Fields may be added under the same version; readers
leave out those that they do not know. The version is raised when a field changes or goes away.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lightning_fastdata.errors import SettingsError
from lightning_fastdata.stalls.summary import SCHEMA_VERSION, StallSummary

_NOT_FINITE = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
_HAS_NO_VALUE = object()


class _MisfitError(Exception):
    """A value that is not of its field's type; says where."""


def summary_to_json(summary: StallSummary) -> str:
    """Return all fields, with the version of their meaning, as JSON text."""
    plain = {"schema_version": SCHEMA_VERSION, **_plain(summary)}
    return json.dumps(plain, indent=1, allow_nan=False)


def summary_from_json(text: str) -> StallSummary:
    """Read what ``summary_to_json`` wrote.

    Raises:
        SettingsError: It is no JSON, of another version, or a field is missing or of another type.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(
            f"the text is no JSON ({error}), wanted a stall report. Pass a summary.json that "
            "DataStallProfiler wrote."
        ) from None
    _check_version(values)
    try:
        summary = _valued(StallSummary, values, "")
    except _MisfitError as misfit:
        raise SettingsError(
            f"{misfit}. The file was changed after it was written, or is no stall report: run the "
            "training again with DataStallProfiler."
        ) from None
    assert isinstance(summary, StallSummary)
    return summary


def _check_version(values: object) -> None:
    version = values.get("schema_version") if isinstance(values, dict) else None
    if version is None:
        raise SettingsError(
            "found JSON without a schema_version, wanted a stall report. Pass a summary.json that "
            "DataStallProfiler wrote."
        )
    if version == SCHEMA_VERSION:
        return
    is_older = isinstance(version, int) and version < SCHEMA_VERSION
    raise SettingsError(
        f"found a stall report of schema version {version!r}, wanted version {SCHEMA_VERSION}. "
        + (
            "An older lightning-fastdata wrote it: run the training again with this one, or read "
            "it with that one."
            if is_older
            else "Another lightning-fastdata wrote it: install that version to read it."
        )
    )


def _plain(value: Any) -> Any:
    """Give a value as JSON's own kinds; ``dataclasses.asdict`` would copy every leaf deeply."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(getattr(value, name)) for name, _, _ in _shape(type(value))}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return next(name for name, number in _NOT_FINITE.items() if repr(number) == repr(value))
    return value


@cache
def _shape(kind: type) -> tuple[tuple[str, Any, Any], ...]:
    """Name, type and default of each field; the hints take a while to resolve."""
    hints = get_type_hints(kind)
    return tuple((field.name, hints[field.name], _default(field)) for field in fields(kind))


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    return _HAS_NO_VALUE if field.default_factory is MISSING else field.default_factory()


def _valued(kind: Any, value: Any, where: str) -> Any:
    """Give JSON's ``value`` as the type ``kind``."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _one_of(inner, value, where)
    if origin is Literal:
        if value in inner:
            return value
    elif origin is tuple and isinstance(value, list):
        return _tuple(inner, value, where)
    elif origin is Mapping and isinstance(value, dict):
        return {key: _valued(inner[1], entry, f"{where}.{key}") for key, entry in value.items()}
    elif is_dataclass(kind) and isinstance(value, dict):
        return _record(kind, value, where)
    elif kind is float and isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    elif _is_plain(kind, value):
        return value
    raise _MisfitError(f"{where or 'the report'} is {_shown(value)}, wanted {_named(kind)}")


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    # Numbers that JSON lacks come as text, so that float has to be asked before str.
    for kind in sorted(kinds, key=lambda kind: kind is str):
        try:
            return _valued(kind, value, where)
        except _MisfitError as misfit:
            if is_dataclass(kind) and isinstance(value, dict):
                raise misfit from None  # names the field inside it
    wanted = " or ".join(_named(kind) for kind in kinds)
    raise _MisfitError(f"{where} is {_shown(value)}, wanted {wanted}")


def _tuple(kinds: tuple[Any, ...], values: list[Any], where: str) -> tuple[Any, ...]:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(values)
    if len(kinds) != len(values):
        raise _MisfitError(f"{where} has {len(values)} entries, wanted {len(kinds)}")
    return tuple(
        _valued(kind, value, f"{where}[{place}]")
        for place, (kind, value) in enumerate(zip(kinds, values, strict=True))
    )


def _record(kind: Any, values: dict[str, Any], where: str) -> Any:
    read = {}
    for name, hint, default in _shape(kind):
        inside = f"{where}.{name}" if where else name
        if name in values:
            read[name] = _valued(hint, values[name], inside)
        elif default is _HAS_NO_VALUE:
            raise _MisfitError(f"{inside} is missing")
    return kind(**read)


def _is_plain(kind: Any, value: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, (int, float))
    return isinstance(kind, type) and isinstance(value, kind)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _named(kind: Any) -> str:
    if kind is type(None):
        return "null"
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
