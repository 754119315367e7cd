"""Typed answers in exports: the columns of a schema, and their values."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.states import State
from orchestrator.report import export, parquet_file
from orchestrator.report.answer_columns import AnswerColumn, answer_columns, value_in
from orchestrator.report.columns import COLUMNS, Kind
from orchestrator.report.extra_columns import ExtraColumns
from orchestrator.stores.reads import ResultRecord

Build: TypeAlias = Callable[..., ResultRecord]
Stream: TypeAlias = Callable[[Iterable[ResultRecord]], AsyncIterator[ResultRecord]]

SPEECH: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "year": {"type": "integer"},
        "share": {"type": "number"},
        "war": {"type": "boolean"},
        "speaker": {"$ref": "#/$defs/Person"},
        "deputy": {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]},
        "topics": {"type": "array", "items": {"type": "string"}},
        "audience": {"type": ["string", "null"]},
        "tone": {"enum": ["calm", "urgent", None]},
        "reply": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    },
    "$defs": {
        "Person": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "parent": {"$ref": "#/$defs/Person"}},
        }
    },
}
ANSWER: dict[str, Any] = {
    "title": "First, of many",
    "year": 1790,
    "share": 1,
    "war": False,
    "speaker": {"name": "Washington", "parent": {"name": "Augustine"}},
    "deputy": None,
    "topics": ["war", "debt"],
    "audience": None,
    "tone": "calm",
    "reply": 7,
}


def test_the_columns_of_a_schema() -> None:
    assert [(column.name, column.kind) for column in answer_columns(SPEECH)] == [
        ("output.title", Kind.TEXT),
        ("output.year", Kind.COUNT),
        ("output.share", Kind.NUMBER),
        ("output.war", Kind.FLAG),
        ("output.speaker.name", Kind.TEXT),
        ("output.speaker.parent", Kind.JSON),
        ("output.deputy.name", Kind.TEXT),
        ("output.deputy.parent", Kind.JSON),
        ("output.topics", Kind.JSON),
        ("output.audience", Kind.TEXT),
        ("output.tone", Kind.TEXT),
        ("output.reply", Kind.JSON),
    ]


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "string", "format": "date"}, Kind.TEXT),
        ({"const": 5}, Kind.COUNT),
        ({"enum": [True, False]}, Kind.FLAG),
        ({"enum": [1, "one"]}, Kind.JSON),
        ({"enum": [None]}, Kind.JSON),
        ({"allOf": [{"type": "integer"}]}, Kind.COUNT),
        ({"oneOf": [{"type": "null"}, {"type": "number"}]}, Kind.NUMBER),
        ({"type": "number", "anyOf": [{"minimum": 5}, {"maximum": 3}]}, Kind.NUMBER),
        ({"type": ["string", "integer"]}, Kind.JSON),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, Kind.JSON),
        ({"$ref": "#/$defs/absent"}, Kind.JSON),
        ({}, Kind.JSON),
        (True, Kind.JSON),
    ],
)
def test_what_a_column_holds(part: Any, kind: Kind) -> None:
    assert answer_columns({"properties": {"a": part}}) == (AnswerColumn(("a",), kind),)


def test_a_schema_without_fields_has_no_columns() -> None:
    assert answer_columns({"type": "object"}) == ()
    assert answer_columns({}) == ()


def test_names_that_would_clash_stay_distinct() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "string"}}}
    columns = answer_columns({"properties": {"a": inner, "a.b": {"type": "string"}}})
    assert columns == (AnswerColumn(("a",), Kind.JSON), AnswerColumn(("a.b",), Kind.JSON))
    assert [value_in({"a": {"b": "x"}, "a.b": "y"}, column) for column in columns] == ['{"b":"x"}', '"y"']


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        (1.0, Kind.COUNT, 1),
        (2**63 - 1, Kind.COUNT, 2**63 - 1),
        (2**63, Kind.COUNT, 2**63),
        (1e30, Kind.COUNT, "1e+30"),
        ("five", Kind.COUNT, None),
        ([1], Kind.NUMBER, None),
        ("yes", Kind.FLAG, None),
        ([1], Kind.TEXT, "[1]"),
        (3, Kind.NUMBER, 3.0),
        ({"a": [None]}, Kind.JSON, '{"a":[null]}'),
        (None, Kind.JSON, None),
    ],
)
def test_a_value_takes_the_kind_of_its_column(value: Any, kind: Kind, shown: Any) -> None:
    found = value_in({"a": value}, AnswerColumn(("a",), kind))
    assert found == shown
    assert type(found) is type(shown)


def test_a_missing_field_is_empty() -> None:
    assert [value_in(answer, AnswerColumn(("a", "b"), Kind.TEXT)) for answer in ({}, {"a": None}, None, [1])] == [
        None
    ] * 4


schemas = st.recursive(
    st.sampled_from([{"type": kind} for kind in ("string", "integer", "number", "boolean")] + [{}, {"enum": ["a"]}]),
    lambda inner: st.one_of(
        st.builds(lambda parts: {"type": "object", "properties": parts}, st.dictionaries(st.text(max_size=3), inner)),
        st.builds(lambda part: {"type": "array", "items": part}, inner),
        st.builds(lambda part: {"anyOf": [part, {"type": "null"}]}, inner),
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), schemas, max_size=4))
def test_each_field_of_any_schema_has_its_own_column(properties: dict[str, Any]) -> None:
    columns = answer_columns({"type": "object", "properties": properties})
    names = [column.name for column in columns]
    assert len(set(names)) == len(names)
    assert {column.path[0] for column in columns} == set(properties)


@pytest.fixture
def rows(a_result: Build) -> list[ResultRecord]:
    text = orjson.dumps(ANSWER).decode()
    failed = {"state": State.FAILED, "code": "output_invalid", "message": "year: not a number", "output_text": "{}"}
    return [a_result(output_text=text), a_result(key="row-2", **failed)]


@pytest.mark.anyio
async def test_csv_has_the_fields_after_the_other_columns(rows: list[ResultRecord], stream: Stream) -> None:
    out = io.BytesIO()
    assert await export.write_csv(stream(rows), out, extra=ExtraColumns.of(SPEECH)) == 2
    first, second = csv.DictReader(io.StringIO(out.getvalue().decode(), newline=""))
    assert list(first)[: len(COLUMNS)] == list(COLUMNS)
    fields = {name: first[name] for name in list(first)[len(COLUMNS) :]}
    assert fields == {
        "output.title": "First, of many",
        "output.year": "1790",
        "output.share": "1.0",
        "output.war": "false",
        "output.speaker.name": "Washington",
        "output.speaker.parent": '{"name":"Augustine"}',
        "output.deputy.name": "",
        "output.deputy.parent": "",
        "output.topics": '["war","debt"]',
        "output.audience": "",
        "output.tone": "calm",
        "output.reply": "7",
    }
    assert {second[name] for name in fields} == {""}
    assert second["output_text"] == "{}"


@pytest.mark.anyio
async def test_parquet_has_typed_fields(rows: list[ResultRecord], stream: Stream, tmp_path: Path) -> None:
    arro3_io = pytest.importorskip("arro3.io")
    with (tmp_path / "out.parquet").open("wb") as out:
        assert await parquet_file.write_parquet(lambda: stream(rows), out, extra=ExtraColumns.of(SPEECH)) == 2
    table = arro3_io.read_parquet(tmp_path / "out.parquet").read_all()
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    first, second = ({name: values[n] for name, values in columns.items()} for n in range(2))
    assert [first[f"output.{name}"] for name in ("title", "year", "share", "war", "audience")] == [
        "First, of many",
        1790,
        1.0,
        False,
        None,
    ]
    assert json.loads(first["output.topics"]) == ["war", "debt"]
    assert {value for name, value in second.items() if name.startswith("output.")} == {None}


@pytest.mark.anyio
async def test_json_lines_have_the_value(rows: list[ResultRecord], stream: Stream) -> None:
    out = io.BytesIO()
    assert await export.write_jsonl(stream(rows), out, schema=SPEECH) == 2
    first, second = map(json.loads, out.getvalue().splitlines())
    assert (first["output"], second["output"]) == (ANSWER, None)
