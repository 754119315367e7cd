"""Answers: the requested number of sentences of the input, within the cap, in the requested format."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.pricing.tokens import count_tokens
from orchestrator.sandbox.sandbox_settings import Tools
from orchestrator.sandbox.simulation.answers import Answer, answer
from orchestrator.sandbox.simulation.bad_answers import broken_json
from orchestrator.sandbox.simulation.models import Catalogue
from orchestrator.sandbox.simulation.prompts import read_prompt
from orchestrator.sandbox.simulation.schema_instances import instance_of
from orchestrator.sandbox.simulation.summaries import sentences_asked_for, summarise

from .callers import TEXT

ONCE = Tools()
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 18, "maximum": 30},
        "mood": {"enum": ["merry", "angry", "calm"]},
        "height": {"type": ["number", "null"], "exclusiveMinimum": 1, "exclusiveMaximum": 3},
        "friends": {"type": "array", "items": {"$ref": "#"}},
        "home": {"anyOf": [{"$ref": "#/$defs/home"}, {"type": "null"}]},
        "born": {"type": "string", "format": "date"},
        "kind": {"const": "person"},
        "awake": {"type": "boolean"},
    },
    "required": ["name", "age", "mood", "height", "friends", "home", "born", "kind", "awake"],
    "additionalProperties": False,
    "$defs": {"home": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}},
}


@pytest.mark.parametrize(
    ("instruction", "count"),
    [
        ("Summarise.", 3),
        ("Summarise in three sentences:", 3),
        ("Answer in 2 short sentences.", 2),
        ("In a single sentence, say what it is.", 1),
        ("Give five bullet points", 5),
        ("List Ten lines about it", 10),
        ("There were 300 people.", 3),
    ],
)
def test_an_instruction_names_the_number_of_sentences(instruction: str, count: int) -> None:
    assert sentences_asked_for(instruction) == count


def test_the_first_instruction_that_names_a_number_counts() -> None:
    assert sentences_asked_for("Be brief.", "Use two sentences.", "Use four sentences.") == 2


def test_a_summary_keeps_the_order_and_the_wording() -> None:
    assert summarise(TEXT, 2) == (
        "The harvest was good this year. Trade with our neighbours grew, and the harvest fed our trade."
    )


def test_a_conversation_answers_the_last_question_and_does_not_repeat_itself() -> None:
    said = summarise(TEXT, 2)
    assert summarise(f"{TEXT}\n\nWhat of the roads?", 1, question="What of the roads?", already_said=said) == (
        "Three new roads were built."
    )
    assert summarise(f"{TEXT}\n\nAnd peace?", 1, question="And peace?", already_said=said).startswith("Peace holds")
    assert summarise(TEXT, 1, question="And?", already_said=TEXT)


def test_the_instruction_is_not_part_of_the_summary() -> None:
    assert "Summarise" not in summarise(f"Summarise in three sentences:\n\n{TEXT}", 5)


def test_abbreviations_do_not_end_a_sentence() -> None:
    text = "Mr. Adams met Gen. Scott in the U. S. Capitol. They spoke."
    assert summarise(text, 1) == "Mr. Adams met Gen. Scott in the U. S. Capitol."


@given(text=st.text(max_size=400), count=st.integers(1, 5))
def test_a_summary_says_nothing_that_the_text_does_not_say(text: str, count: int) -> None:
    words = text.split()
    for word in summarise(text, count).split():
        assert word in words


def answered(
    model: str = "gpt-5-mini", ending: str | None = None, calling: Tools = ONCE, **fields: Any
) -> tuple[Answer, Any]:
    asked = {"model": model, "input": TEXT} | fields
    done = answer(
        asked,
        read_prompt(asked),
        Catalogue().get(model),
        ending=ending,
        response_id="resp_" + "0" * 50,
        seed=1,
        tools=calling,
    )
    return done, json.loads(done.output)


def text_of(items: Any) -> str:
    return "".join(part["text"] for item in items if item["type"] == "message" for part in item["content"])


@pytest.mark.parametrize("cap", range(16, 200, 9))
@pytest.mark.parametrize("model", ["gpt-4.1", "gpt-5-mini"])
def test_an_answer_is_cut_off_at_the_cap_and_its_usage_is_right(model: str, cap: int) -> None:
    whole, _ = answered(model)
    done, items = answered(model, max_output_tokens=cap)
    assert done.output_tokens == done.reasoning_tokens + count_tokens(text_of(items)) <= cap
    if whole.output_tokens <= cap:
        assert done == whole
    else:
        assert (done.status, done.incomplete_reason) == ("incomplete", "max_output_tokens")
        assert [item["type"] for item in items] in (["reasoning"], ["reasoning", "message"], ["message"])


@pytest.mark.parametrize(("effort", "most"), [("none", 0), ("low", 64), ("high", 512)])
def test_reasoning_grows_with_the_effort(effort: str, most: int) -> None:
    done, _ = answered(reasoning={"effort": effort})
    assert done.reasoning_tokens <= most
    assert (done.reasoning_tokens > 0) == (most > 0)


def test_a_schema_is_answered_with_an_instance_of_it() -> None:
    done, items = answered(text={"format": {"type": "json_schema", "name": "person", "schema": PERSON}})
    check_person(json.loads(text_of(items)))
    assert done.status == "completed"


def check_person(person: Any) -> None:
    assert person.keys() == set(PERSON["required"])
    assert 18 <= person["age"] <= 30
    assert person["mood"] in ("merry", "angry", "calm")
    assert 1 < person["height"] < 3
    assert len(person["name"]) <= 20
    assert person["home"] is None or isinstance(person["home"]["town"], str)
    assert (person["born"], person["kind"]) == ("2026-11-21", "person")
    for friend in person["friends"]:
        check_person(friend)


@given(seed=st.integers(0, 2**32))
def test_a_schema_that_refers_to_itself_ends(seed: int) -> None:
    check_person(instance_of(PERSON, text=TEXT, rng=Random(seed)))


def test_an_enum_takes_the_value_that_the_text_names() -> None:
    labels = {"enum": ["war", "harvest", "navy"]}
    assert {instance_of(labels, text=TEXT, rng=Random(seed)) for seed in range(20)} == {"harvest"}


def test_a_json_object_is_answered_with_json() -> None:
    _, items = answered(text={"format": {"type": "json_object"}})
    assert json.loads(text_of(items))["answer"]


@pytest.mark.parametrize(
    ("choice", "called"),
    [("auto", True), ("required", True), ("none", False), ({"type": "function", "name": "b"}, True)],
)
def test_functions_are_called_before_the_answer(choice: Any, called: bool) -> None:
    parameters = {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}
    tools = [{"type": "function", "name": name, "parameters": parameters} for name in "ab"]
    _, items = answered(tools=tools, tool_choice=choice)
    assert (items[-1]["type"] == "function_call") == called
    if called:
        assert isinstance(json.loads(items[-1]["arguments"])["year"], int)
        assert items[-1]["name"] == "b" or choice in ("auto", "required")
        result = {"type": "function_call_output", "call_id": items[-1]["call_id"], "output": "1831"}
        _, items = answered(tools=tools, tool_choice=choice, input=[{"role": "user", "content": TEXT}, result])
        assert items[-1]["type"] == "message"


def test_the_same_request_gets_the_same_answer() -> None:
    assert answered() == answered()
    assert answered(input="Another text.") != answered()


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": r"^\d{4}-(0[1-9]|1[0-2])$"},
        {"type": "string", "pattern": "^[A-Z]{2,3}[^a-z]?-[0-9a-f]+$"},
        {"type": "string", "pattern": r"(?:red|green) \w+\s*\S"},
        {"type": "string", "minLength": 100},
        {"type": "integer", "multipleOf": 5, "minimum": 12},
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "number", "maximum": -7},
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True},
        {"type": "array", "items": {"type": "string"}, "minItems": 5, "maxItems": 5},
        {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}}, {"required": ["a"]}]},
        {"type": ["integer", "null"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("text", [TEXT, "In 1831 there were 4,711 bushels, 0.5 for each; -3 were lost.", ""])
def test_an_instance_is_accepted_by_its_schema(schema: Any, text: str) -> None:
    for seed in range(20):
        value = instance_of(schema, text=text, rng=Random(seed))
        assert jsonschema_rs.is_valid(schema, value), value


def test_numbers_are_taken_from_the_text_if_they_fit() -> None:
    numbers = {"type": "object", "properties": {name: {"type": "number"} for name in "abc"}}
    text = "In 1831 there were 4,711.5 bushels at no. 3a."
    value = instance_of(numbers, text=text, rng=Random(1))
    assert (value["a"], value["b"]) == (1831, 4711.5)
    late = {"type": "integer", "minimum": 1900}
    assert instance_of(late, text="Not 1831, but 1945.", rng=Random(1)) == 1945


@pytest.mark.parametrize("text", ['{"a":1}', "[]", '""', '"x"', "7", "4711", "true", "null", "-1.5"])
def test_broken_json_is_not_json(text: str) -> None:
    json.loads(text)
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken_json(text))


@pytest.mark.parametrize("ending", ["invalid_json", "wrong_schema"])
def test_an_answer_in_a_wrong_format(ending: str) -> None:
    shape = {"format": {"type": "json_schema", "name": "person", "schema": PERSON}}
    done, items = answered(ending=ending, text=shape)
    assert (done.status, done.usable) == ("completed", False)
    if ending == "wrong_schema":
        assert not jsonschema_rs.is_valid(PERSON, json.loads(text_of(items)))
    else:
        with pytest.raises(json.JSONDecodeError):
            json.loads(text_of(items))


def test_plain_text_has_no_format_to_violate() -> None:
    done, items = answered(ending="wrong_schema")
    assert items == answered()[1]
    assert done.usable


def test_the_reasoning_is_shown_if_requested() -> None:
    _, items = answered(reasoning={"effort": "high", "summary": "auto"}, include=["reasoning.encrypted_content"])
    assert items[0]["summary"][0]["text"].startswith("**Reading**")
    assert items[0]["encrypted_content"]
    _, items = answered()
    assert items[0].keys() == {"type", "id", "summary"}
