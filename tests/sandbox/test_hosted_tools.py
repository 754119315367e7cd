"""Hosted tools: their items, the approvals that they wait for, and their fees in the ledger."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.provider.wire import parse_response

from .callers import Caller, Start

pytestmark = pytest.mark.anyio

AT_ONCE = {"queue": 0, "run": 0}
CODE = {"type": "code_interpreter", "container": {"type": "auto"}}
FILES = {"type": "file_search", "vector_store_ids": ["vs_1"]}
SERVER = {"type": "mcp", "server_label": "archive", "server_url": "https://example.org/mcp"}
# Dollars per call, by the provider's list: 10 and 2.50 per thousand, 0.03 per session.
SEARCH_FEE, FILES_FEE, SESSION_FEE = 10_000_000_000, 2_500_000_000, 30_000_000_000


async def talk(caller: Caller, **fields: Any) -> Any:
    return await caller.created(background=False, model="gpt-4.1-nano", **fields)


def kinds_of(response: Any) -> list[str]:
    return [item["type"] for item in response["output"]]


@pytest.mark.parametrize(
    ("tool", "kind", "fee"),
    [
        ({"type": "web_search"}, "web_search_call", SEARCH_FEE),
        (FILES, "file_search_call", FILES_FEE),
        (CODE, "code_interpreter_call", SESSION_FEE),
    ],
)
async def test_a_tool_is_used_once_and_charged(start: Start, tool: Any, kind: str, fee: int) -> None:
    caller = await start(latency=AT_ONCE)
    response = await talk(caller, tools=[tool])
    assert kinds_of(response) == [kind, "message"]
    usage = response["usage"]
    counted = await caller.http.post(
        "/responses/input_tokens", json={"model": "gpt-4.1-nano", "input": "x", "tools": [tool]}
    )
    assert usage["input_tokens"] > counted.json()["input_tokens"]
    cost = 100_000 * usage["input_tokens"] + 400_000 * usage["output_tokens"] + fee
    assert (await caller.ledger())["cost_pusd"] == cost


async def test_a_plain_model_pays_more_for_the_preview_search(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    usage = (await talk(caller, tools=[{"type": "web_search_preview"}]))["usage"]
    cost = 100_000 * usage["input_tokens"] + 400_000 * usage["output_tokens"] + 25_000_000_000
    assert (await caller.ledger())["cost_pusd"] == cost


async def test_an_image_has_no_known_price(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    response = await talk(caller, tools=[{"type": "image_generation"}])
    assert kinds_of(response) == ["image_generation_call", "message"]
    assert response["output"][0]["result"]
    ledger = await caller.ledger()
    assert (ledger["cost_pusd"], ledger["unpriced"]) == (0, 1)


@pytest.mark.parametrize(
    ("tool", "include", "path"),
    [
        ({"type": "web_search"}, "web_search_call.action.sources", ("action", "sources")),
        (FILES, "file_search_call.results", ("results",)),
        (CODE, "code_interpreter_call.outputs", ("outputs",)),
    ],
)
async def test_what_was_found_is_shown_if_requested(start: Start, tool: Any, include: str, path: Any) -> None:
    caller = await start(latency=AT_ONCE)
    for asked in ([], [include]):
        value = (await talk(caller, tools=[tool], include=asked))["output"][0]
        for key in path:
            value = value.get(key)
        assert bool(value) == bool(asked)


async def test_a_named_container_is_used(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    named = await talk(caller, tools=[{"type": "code_interpreter", "container": "cntr_mine"}])
    made = [(await talk(caller, tools=[CODE]))["output"][0]["container_id"] for _ in range(2)]
    assert named["output"][0]["container_id"] == "cntr_mine"
    assert made[0] != made[1]
    assert made[0].startswith("cntr_")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["web_search_call", "file_search_call", "message"]),
        ({"max_tool_calls": 1}, ["web_search_call", "message"]),
        ({"tool_choice": "none"}, ["message"]),
        ({"tool_choice": {"type": "file_search"}}, ["file_search_call", "message"]),
    ],
)
async def test_the_request_decides_which_tools_are_used(start: Start, fields: Any, expected: list[str]) -> None:
    caller = await start(latency=AT_ONCE)
    assert kinds_of(await talk(caller, tools=[{"type": "web_search"}, FILES], **fields)) == expected


async def test_a_server_waits_for_an_approval(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    asked = await talk(caller, tools=[SERVER])
    assert kinds_of(asked) == ["mcp_list_tools", "mcp_approval_request"]
    request = asked["output"][-1]
    assert (request["server_label"], request["name"]) == ("archive", "search")

    approval = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
    done = await talk(caller, tools=[SERVER], previous_response_id=asked["id"], input=[approval])
    assert kinds_of(done) == ["mcp_call", "message"]
    assert done["output"][0]["approval_request_id"] == request["id"]

    refused = await talk(
        caller, tools=[SERVER], previous_response_id=asked["id"], input=[approval | {"approve": False}]
    )
    assert kinds_of(refused) == ["message"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"require_approval": "never"}, "search"),
        ({"require_approval": "never", "allowed_tools": ["fetch"]}, "fetch"),
        (
            {"require_approval": {"never": {"tool_names": ["fetch"]}}, "allowed_tools": {"tool_names": ["fetch"]}},
            "fetch",
        ),
    ],
)
async def test_a_server_that_needs_no_approval_is_called(start: Start, changes: Any, name: str) -> None:
    caller = await start(latency=AT_ONCE)
    response = await talk(caller, tools=[SERVER | changes])
    assert kinds_of(response) == ["mcp_list_tools", "mcp_call", "message"]
    assert response["output"][1]["name"] == name


async def test_functions_are_called_after_a_search_that_is_not_repeated(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    function = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "web_search"}, function]
    first = await talk(caller, tools=tools)
    assert kinds_of(first) == ["web_search_call", "function_call"]
    given = [{"type": "function_call_output", "call_id": first["output"][-1]["call_id"], "output": "found"}]
    second = await talk(caller, tools=tools, previous_response_id=first["id"], input=given)
    assert kinds_of(second) == ["message"]


@pytest.mark.parametrize(
    ("tool", "kind"),
    [
        ({"type": "apply_patch"}, "apply_patch_call"),
        ({"type": "computer"}, "computer_call"),
        ({"type": "shell"}, "shell_call"),
        ({"type": "shell", "environment": {"type": "local"}}, "shell_call"),
        ({"type": "local_shell"}, "local_shell_call"),
    ],
)
async def test_a_tool_that_the_client_runs_stops_the_response(start: Start, tool: dict[str, Any], kind: str) -> None:
    caller = await start(latency=AT_ONCE)
    response = await talk(caller, tools=[tool])
    assert kinds_of(response) == [kind]
    assert response["output"][0]["call_id"]
    assert parse_response(json.dumps(response).encode()).waits_for == kind


async def test_a_shell_of_the_providers_runs_there(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    response = await talk(caller, tools=[{"type": "shell", "environment": {"type": "container_auto"}}])
    assert kinds_of(response) == ["shell_call", "shell_call_output", "message"]
    assert parse_response(json.dumps(response).encode()).waits_for is None


async def test_a_request_that_warms_the_cache_has_no_output(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    text = "The harvest was good this year. " * 400
    options = {"prewarm": True}
    fields = {"background": False, "model": "gpt-6-luna", "input": text}
    warm = await caller.created(**fields, prompt_cache_options=options)
    assert (warm["status"], warm["output"], warm["usage"]["output_tokens"]) == ("completed", [], 0)
    assert warm["usage"]["input_tokens_details"]["cache_write_tokens"] == 1024
    after = await caller.created(**fields)
    assert after["usage"]["input_tokens_details"]["cached_tokens"] == 1024
