"""Wrong requests are refused with the status, the code and the parameter of the real API."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from orchestrator.sandbox.faults.api_errors import ErrorReply
from orchestrator.sandbox.sandbox_settings import Tools
from orchestrator.sandbox.simulation.answers import answer
from orchestrator.sandbox.simulation.item_events import item_events
from orchestrator.sandbox.simulation.models import Catalogue
from orchestrator.sandbox.simulation.prompts import read_prompt
from orchestrator.sandbox.simulation.response_json import echo_of
from orchestrator.sandbox.simulation.schema_instances import UnusableSchema
from orchestrator.sandbox.validation.checks import FIELDS, check_create
from orchestrator.sandbox.validation.item_pairs import check_pairs

from .callers import TEXT, Start

pytestmark = pytest.mark.anyio

LOOSE = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}


def shaped(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "name": "shape", "strict": True, "schema": schema}


NESTED = {"type": "function", "function": {"name": "look_up", "parameters": {}}}

WRONG: list[tuple[dict[str, Any], str | None, str | None]] = [
    ({"model": None}, "invalid_type", "model"),
    ({"model": 5}, "invalid_type", "model"),
    ({"input": {"role": "user", "content": "x"}}, "invalid_type", "input"),
    ({"input": [{"content": "x"}]}, "missing_required_parameter", "input[0].type"),
    ({"input": ["x"]}, "invalid_type", "input[0]"),
    ({"input": [{"role": "robot", "content": "x"}]}, "invalid_value", "input[0].role"),
    ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"),
    ({"input": [{"role": "user", "content": 1}]}, "invalid_type", "input[0].content"),
    ({"input": [{"role": "user", "content": [{"type": "text"}]}]}, "invalid_value", "input[0].content[0].type"),
    ({"input": [{"type": "function_call_output"}]}, "missing_required_parameter", "input[0].call_id"),
    ({"messages": []}, "unknown_parameter", "messages"),
    ({"max_tokens": 50}, "unknown_parameter", "max_tokens"),
    ({"reasoning_effort": "low"}, "unknown_parameter", "reasoning_effort"),
    ({"response_format": {}}, "unknown_parameter", "response_format"),
    ({"seed": 1}, "unknown_parameter", "seed"),
    ({"max_output_tokens": 15}, "integer_below_min_value", "max_output_tokens"),
    ({"max_output_tokens": "100"}, "invalid_type", "max_output_tokens"),
    ({"max_output_tokens": True}, "invalid_type", "max_output_tokens"),
    ({"background": "yes"}, "invalid_type", "background"),
    ({"background": True, "store": False}, None, "background"),
    ({"background": False, "background_options": {"completion_window": "8h"}}, None, "background_options"),
    ({"background_options": {"completion_window": "1h"}}, "invalid_value", "background_options.completion_window"),
    *(
        ({"background_options": {"completion_window": "8h"}, **more}, None, "background_options.completion_window")
        for more in ({"stream": True}, {"service_tier": "flex"})
    ),
    ({"previous_response_id": "resp_x", "conversation": "conv_x"}, None, "previous_response_id"),
    ({"previous_response_id": "resp_x"}, "previous_response_not_found", "previous_response_id"),
    ({"temperature": 0.2}, "unsupported_parameter", "temperature"),
    ({"top_p": 0.2}, "unsupported_parameter", "top_p"),
    ({"model": "gpt-4.1", "temperature": 3}, "decimal_above_max_value", "temperature"),
    ({"reasoning": {"effort": "huge"}}, "invalid_value", "reasoning.effort"),
    ({"service_tier": "gold"}, "invalid_value", "service_tier"),
    ({"tools": [NESTED]}, "missing_required_parameter", "tools[0].name"),
    ({"tools": [{"type": "file_search"}]}, "missing_required_parameter", "tools[0].vector_store_ids"),
    ({"tools": [{"type": "computer_use"}]}, "invalid_value", "tools[0].type"),
    ({"tools": [{}]}, "missing_required_parameter", "tools[0].type"),
    ({"tools": [{"type": ["function"]}]}, "invalid_type", "tools[0].type"),
    (
        {"text": {"format": {"type": "json_schema", "json_schema": {}}}},
        "missing_required_parameter",
        "text.format.name",
    ),
    ({"text": {"format": {"type": "yaml"}}}, "invalid_value", "text.format.type"),
    ({"text": {"format": shaped({}) | {"name": "n" * 65}}}, "string_above_max_length", "text.format.name"),
    ({"text": {"format": shaped([])}}, "invalid_type", "text.format.schema"),
    ({"text": {"format": shaped({"type": "object"})}}, "invalid_json_schema", "text.format.schema"),
    ({"text": {"format": shaped(LOOSE)}}, "invalid_json_schema", "text.format.schema"),
    ({"text": {"format": shaped({"anyOf": [{"type": "null"}, LOOSE]})}}, "invalid_json_schema", "text.format.schema"),
    ({"tool_choice": "always"}, "invalid_value", "tool_choice"),
    ({"input": [{"type": "function_call", "name": "f"}]}, "missing_required_parameter", "input[0].call_id"),
    (
        {"input": [{"type": "mcp_approval_response", "approval_request_id": "m", "approve": "yes"}]},
        "invalid_type",
        "input[0].approve",
    ),
    ({"prompt": {"id": "pmpt_1"}}, "unsupported_parameter", "prompt"),
    ({"metadata": {str(n): "x" for n in range(17)}}, "object_above_max_properties", "metadata"),
    ({"metadata": {"k" * 65: "x"}}, "string_above_max_length", "metadata"),
    ({"metadata": {"k": "x" * 513}}, "string_above_max_length", "metadata.k"),
    ({"metadata": {"k": 1}}, "invalid_type", "metadata.k"),
    ({"metadata": {"k": None}}, "invalid_type", "metadata.k"),
    ({"model": "gpt-4o", "input": "word " * 130_000}, "context_length_exceeded", "input"),
    ({"input": "x" * 10_485_761}, "string_above_max_length", "input"),
]


@pytest.mark.parametrize(("fields", "code", "param"), WRONG, ids=lambda value: str(value)[:40])
async def test_a_wrong_field_is_a_400(start: Start, fields: dict[str, Any], code: str | None, param: str) -> None:
    caller = await start()
    reply = await caller.create(**fields)
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert error["message"]
    ledger = await caller.ledger()
    assert (ledger["creates"]["accepted"], ledger["creates"]["refused"]["total"]) == (0, 1)


async def test_an_unknown_model_is_a_404(start: Start) -> None:
    caller = await start()
    reply = await caller.create(model="gpt-99")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff"])
async def test_a_body_that_is_not_an_object_is_a_400(start: Start, body: bytes) -> None:
    caller = await start()
    reply = await caller.http.post("/responses", content=body)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_model_and_input_are_required(start: Start) -> None:
    caller = await start()
    missing = [(await caller.http.post("/responses", json=body)).json() for body in ({}, {"model": "gpt-5"})]
    assert [each["error"]["param"] for each in missing] == ["model", "input"]


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {str(n): "x" * 512 for n in range(16)}},
        {"max_output_tokens": 16},
        {"temperature": 0.2, "reasoning": {"effort": "none"}},
        {"model": "gpt-4.1", "temperature": 2},
        {"instructions": None, "metadata": None, "tools": None, "previous_response_id": None},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]},
        {"background_options": {"completion_window": "8h"}},
        {"tools": [{"type": "web_search"}]},
        {"text": {"format": shaped(LOOSE | {"required": ["a"]})}},
        {"text": {"format": shaped(LOOSE) | {"strict": False}}},
    ],
    ids=str,
)
async def test_requests_that_the_api_allows_are_accepted(start: Start, fields: dict[str, Any]) -> None:
    caller = await start()
    response = await caller.created(**fields)
    assert len(response["metadata"]) <= 16


# Values that mean something somewhere in a request, so that wrong ones reach the code that reads them.
KEYS = [
    *("type", "role", "content", "text", "name", "parameters", "properties", "items", "enum", "anyOf", "$ref"),
    *("format", "schema", "effort", "call_id", "output", "server_label", "mode", "minimum", "required"),
]
WORDS = [
    "",
    "x",
    "auto",
    "required",
    "user",
    "message",
    "function",
    "mcp",
    "json_schema",
    "input_text",
    "low",
    "object",
]
FUNCTION = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}}
SHAPED = {"format": {"type": "json_schema", "name": "shape", "schema": {"type": "object", "properties": {}}}}


def any_json(rng: Random, depth: int = 0) -> Any:
    kind = rng.random()
    if depth > 4 or kind < 0.5:
        return rng.choice([None, True, False, 5, -3, 0.5, *WORDS])
    if kind < 0.65:
        return [any_json(rng, depth + 1) for _ in range(rng.randint(0, 2))]
    return {rng.choice(KEYS): any_json(rng, depth + 1) for _ in range(rng.randint(0, 4))}


def spoilt(rng: Random, value: Any) -> Any:
    """The value with one thing in it replaced."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.2:
        return any_json(rng)
    place = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    changed = value.copy()
    changed[place] = spoilt(rng, value[place])
    return changed


TALK = [
    {
        "role": "user",
        "content": [{"type": "input_text", "text": TEXT}, {"type": "input_file", "file_data": "data:x"}],
    },
    {"type": "function_call", "call_id": "c", "name": "look_up", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "4,711 bushels"}]},
    {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "s", "name": "search", "arguments": "{}"},
    {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    {"type": "compaction", "encrypted_content": "aGFydmVzdA=="},
]
TOOLS = [
    FUNCTION,
    {"type": "custom", "name": "run_sql"},
    {"type": "mcp", "server_label": "s", "require_approval": "never", "allowed_tools": {"tool_names": ["fetch"]}},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "file_search", "vector_store_ids": ["vs_1"]},
    {"type": "web_search"},
    {"type": "image_generation"},
]


@pytest.mark.parametrize("ending", [None, "requires_action", "wrong_schema", "invalid_json", "broken_arguments"])
def test_every_request_gets_an_answer_or_an_error(ending: str | None) -> None:
    whole: dict[str, Any] = {
        "input": TALK,
        "tools": TOOLS,
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": TOOLS},
        "text": SHAPED,
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["code_interpreter_call.outputs"],
    }
    answered = 0
    for seed in range(600):
        rng = Random(seed)
        field, other = rng.choice(list(whole)), rng.choice(list(FIELDS))
        asked = {"model": "gpt-5-mini", **whole, field: spoilt(rng, whole[field])}
        if rng.random() < 0.3:
            asked[other] = any_json(rng)
        try:
            model = check_create(asked, Catalogue())
            prompt = read_prompt(asked)
            check_pairs(prompt.items)
            done = answer(asked, prompt, model, ending=ending, response_id="resp_1", seed=1, tools=Tools(rounds=2))
        except (ErrorReply, UnusableSchema):
            continue
        for number, item in enumerate(json.loads(done.output)):
            list(item_events(number, item))
        echo_of(asked, model)
        answered += 1
    assert answered > 100
