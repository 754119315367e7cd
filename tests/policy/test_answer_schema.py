"""Whether a text is the JSON that a job asked for, and if not, where it is wrong."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.errors.answer_schema import AnswerSchema, BadSchema, asked_schema, without_fence

SPEECH: dict[str, Any] = {
    "type": "object",
    "properties": {
        "year": {"type": "integer"},
        "speaker": {"$ref": "#/$defs/Person"},
        "topics": {"type": "array", "items": {"type": "string"}},
        "tone": {"enum": ["calm", "urgent"]},
        "audience": {"type": ["string", "null"]},
    },
    "required": ["year", "speaker", "topics", "tone", "audience"],
    "additionalProperties": False,
    "$defs": {"Person": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
}
RIGHT: dict[str, Any] = {
    "year": 1790,
    "speaker": {"name": "Washington"},
    "topics": ["war", "debt"],
    "tone": "calm",
    "audience": None,
}


def flaw(value: object, schema: dict[str, Any] = SPEECH) -> str | None:
    return AnswerSchema(schema).flaw(orjson.dumps(value).decode())


def test_an_answer_that_fits_has_no_flaw() -> None:
    assert flaw(RIGHT) is None
    assert AnswerSchema(SPEECH).flaw(f" \n{orjson.dumps(RIGHT).decode()}\n") is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"year": "CANARY"}, 'year: the value is not of type "integer"'),
        ({"speaker": {"name": 5}}, 'speaker.name: the value is not of type "string"'),
        ({"topics": ["war", 7]}, 'topics[1]: the value is not of type "string"'),
        ({"tone": "CANARY"}, 'tone: the value is not one of "calm" or "urgent"'),
        ({"audience": {"CANARY": 1}}, 'audience: the value is not of types "null", "string"'),
        ({"extra": "CANARY"}, "the whole: Additional properties are not allowed ('extra' was unexpected)"),
    ],
)
def test_a_flaw_names_the_place_and_repeats_no_value(changed: dict[str, Any], message: str) -> None:
    assert flaw({**RIGHT, **changed}) == message


def test_an_answer_that_is_no_object() -> None:
    assert flaw(["CANARY"]) == 'the whole: the value is not of type "object"'


def test_a_missing_field() -> None:
    value = {name: item for name, item in RIGHT.items() if name != "year"}
    assert flaw(value) == 'the whole: "year" is a required property'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Of course! {}", "unexpected character, expected a JSON value at line 1, column 1"),
        ('{"year": 1790', "unexpected end of data at line 1, column 14"),
        ('{"year": NaN}', "unexpected character, expected a JSON value at line 1, column 10"),
        ("{}\n{}", "unexpected content after document at line 2, column 1"),
        ("```json\n{}\n```", "unexpected character, expected a JSON value at line 1, column 1"),
        ("[" * 5000, "at line"),
    ],
)
def test_what_is_not_json(text: str, message: str) -> None:
    found = AnswerSchema(SPEECH).flaw(text)
    assert found is not None
    assert found.startswith("it is not JSON: ")
    assert message in found


def test_only_the_first_flaws_are_reported_and_each_is_cut() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    assert flaw(["x", "x"], schema) == "; ".join(f'[{n}]: the value is not of type "integer"' for n in range(2))
    assert str(flaw(["x"] * 50, schema)).endswith("; and more")
    long = {"type": "object", "additionalProperties": False}
    assert len(str(flaw({"name " * 1000: 1}, long))) < 300
    assert len(str(flaw({"name " * 1000: 1}, {"type": "object", "additionalProperties": {"type": "null"}}))) < 400


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "objet"}, ("type",)),
        ({"properties": {"a": {"required": "b"}}}, ("properties", "a", "required")),
        ({"enum": "CANARY"}, ("enum",)),
        ({"pattern": "("}, ("pattern",)),
        ({"$ref": "#/$defs/Absent"}, ()),
        ({"$ref": "https://example.org/schema.json"}, ()),
        ({"$schema": "https://example.org/dialect"}, ()),
        ({"const": {1: 2}}, ()),
    ],
)
def test_a_schema_that_answers_cannot_be_checked_against(schema: dict[str, Any], path: tuple[str, ...]) -> None:
    with pytest.raises(BadSchema) as caught:
        AnswerSchema(schema)
    assert caught.value.path == path
    assert caught.value.reason
    assert "CANARY" not in caught.value.reason


@pytest.mark.parametrize(
    ("request_fields", "schema"),
    [
        ({}, None),
        ({"text": None}, None),
        ({"text": "{{ text }}"}, None),
        ({"text": {"verbosity": "low"}}, None),
        ({"text": {"format": {"type": "text"}}}, None),
        ({"text": {"format": {"type": "json_object"}}}, {"type": "object"}),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"a": 1}}}}, {"a": 1}),
    ],
)
def test_the_schema_that_a_request_asks_for(request_fields: dict[str, Any], schema: dict[str, Any] | None) -> None:
    assert asked_schema(request_fields) == schema


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    # No text that is not a JSON object fits, and each flaw is a message.
    assert isinstance(AnswerSchema(SPEECH).flaw(text), str)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(json_values)
def test_any_value_fits_the_schema_that_allows_all_and_none_that_allows_nothing(value: object) -> None:
    text = orjson.dumps(value).decode()
    assert AnswerSchema({}).flaw(text) is None
    assert AnswerSchema({"not": {}}).flaw(text) is not None


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}\n'),
        ('```\n{"a": 1}\n```\n', '{"a": 1}\n'),
        ('```{"a": 1}```', '{"a": 1}'),
        ("``````", ""),
        ('{"a": "```"}', '{"a": "```"}'),
        ("```", "```"),
        ("text ```x```", "text ```x```"),
    ],
)
def test_a_code_fence_around_an_answer_is_taken_off(text: str, inside: str) -> None:
    assert without_fence(text) == inside


def test_a_long_answer_with_a_million_flaws_is_refused_at_its_first() -> None:
    schema = AnswerSchema({"type": "object", "properties": {"a": {"items": {"type": "string"}}}})
    flaw = schema.flaw('{{"a": [{}]}}'.format(",".join("1" * 200_000)))
    assert flaw is not None
    assert flaw.startswith("a[0]: ")
    assert "; and more" not in flaw


def test_whole_numbers_of_any_size_are_checked_with_all_digits() -> None:
    schema = AnswerSchema({"type": "object", "properties": {"n": {"type": "integer", "maximum": 2**70}}})
    assert schema.flaw(f'{{"n": {2**70}}}') is None
    assert schema.flaw(f'{{"n": {2**70 + 1}}}') is not None
