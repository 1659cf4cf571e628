"""A summary is the same after JSON, and what is no summary is refused in a sentence."""

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_summaries import a_full_summary, a_hostile_summary, a_plain_summary

import lightning_fastdata
from lightning_fastdata.errors import SettingsError
from lightning_fastdata.stalls import SCHEMA_VERSION, StallSummary, WorkerFigures
from lightning_fastdata.stalls.json_form import summary_from_json, summary_to_json

SCHEMA_TEXT = Path(lightning_fastdata.__file__).parent / "report/SCHEMA.md"
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=4),
    int: st.integers(-3, 10**19),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    type(None): st.none(),
}


def any_value(kind: Any) -> st.SearchStrategy[Any]:
    """Make values of a field's type; hypothesis' own would make NaN, which equals nothing."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if origin is typing.Literal:
        return st.sampled_from(inner)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(any_value(each) for each in inner))
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(any_value(inner[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*(any_value(each) for each in inner))
    if origin is Mapping:
        return st.dictionaries(any_value(inner[0]), any_value(inner[1]), max_size=2)
    hints = typing.get_type_hints(kind)
    return st.builds(
        kind, **{field.name: any_value(hints[field.name]) for field in dataclasses.fields(kind)}
    )


@settings(max_examples=30)
@given(summary=any_value(StallSummary))
def test_a_summary_is_the_same_after_json(summary: StallSummary) -> None:
    read = summary_from_json(summary_to_json(summary))

    assert read == summary
    kinds = [repr(dataclasses.asdict(each)) for each in (read, summary)]
    assert kinds[0] == kinds[1], "types are kept too: True is not 1, 2.0 is not 2"


@pytest.mark.parametrize("make", [a_plain_summary, a_full_summary, a_hostile_summary])
def test_json_is_plain_ascii_that_other_programs_read(make: Any) -> None:
    text = make().to_json()

    assert text.isascii()
    assert json.loads(text, parse_constant=pytest.fail)["schema_version"] == SCHEMA_VERSION


def test_a_not_a_number_survives() -> None:
    summary = dataclasses.replace(a_plain_summary(), samples_per_s=float("nan"))

    assert repr(summary_from_json(summary.to_json()).samples_per_s) == "nan"


def test_a_field_that_came_later_is_left_out() -> None:
    values = json.loads(a_plain_summary().to_json()) | {"new_in_next_release": [1]}

    assert summary_from_json(json.dumps(values)) == a_plain_summary()


def test_a_field_that_is_missing_has_its_default() -> None:
    values = json.loads(a_plain_summary().to_json())
    del values["findings"]

    assert summary_from_json(json.dumps(values)) == a_plain_summary()


def changed(**fields: Any) -> str:
    return json.dumps(json.loads(a_full_summary().to_json()) | fields)


@pytest.mark.parametrize(
    ("text", "first_words"),
    [
        ("no json", "the text is no JSON "),
        ("[" * 100_000, "the text is no JSON "),
        ("[1]", "found JSON without a schema_version, wanted a stall report. Pass"),
        ('{"steps": 3}', "found JSON without a schema_version, wanted a stall report. Pass"),
        (
            changed(schema_version=1),
            "found a stall report of schema version 1, wanted version 2. An older",
        ),
        (
            changed(schema_version=99),
            "found a stall report of schema version 99, wanted version 2. Another",
        ),
        (changed(schema_version="x"), "found a stall report of schema version 'x', wanted"),
        (changed(steps="many"), 'steps is "many", wanted int. The file was changed'),
        (changed(steps=True), "steps is true, wanted int. The file was changed"),
        (changed(clock="sun"), 'clock is "sun", wanted Literal'),
        (changed(findings=[{}]), "findings[0].cause is missing. The file was changed"),
        (changed(run={"loaders": [7]}), "run.loaders[0] is 7, wanted LoaderSetup. The file"),
        (
            changed(run={"settings": [["a"]]}),
            "run.settings[0] has 1 entries, wanted 2. The file was changed",
        ),
        (changed(wait_p50_ns=[]), "wait_p50_ns is [], wanted int or null. The file was changed"),
    ],
)
def test_what_is_no_report_is_refused_in_a_sentence(text: str, first_words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        summary_from_json(text)

    assert str(refused.value).startswith(first_words)


def test_a_report_without_a_needed_field_is_refused() -> None:
    values = json.loads(a_plain_summary().to_json())
    del values["wall_ns"]

    with pytest.raises(SettingsError, match=r"^wall_ns is missing\. The file was changed"):
        summary_from_json(json.dumps(values))


@pytest.mark.parametrize("kind", [StallSummary, WorkerFigures])
def test_every_field_is_described(kind: type) -> None:
    described = set(re.findall(r"`(\w+)(?:\[\])?`", SCHEMA_TEXT.read_text()))

    assert {field.name for field in dataclasses.fields(kind)} <= described
