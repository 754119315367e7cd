"""Function calls: driven by the tools and the choice of a request, and answered from what the functions return."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from orchestrator.testing import FakeClock

from .callers import TEXT, Caller, Start

pytestmark = pytest.mark.anyio

AT_ONCE = {"queue": 0, "run": 0}
PARAMETERS = {
    "type": "object",
    "properties": {"year": {"type": "integer"}, "crop": {"enum": ["wheat", "corn"]}},
    "required": ["year", "crop"],
    "additionalProperties": False,
}


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": PARAMETERS, "strict": True}


TOOLS = [function("harvest_of"), function("price_of")]


def calls_in(response: Any) -> list[Any]:
    return [item for item in response["output"] if item["type"] == "function_call"]


def text_of(response: Any) -> str:
    return "".join(
        part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]
    )


def results_for(response: Any, text: str = "4 million bushels") -> list[Any]:
    return [
        {"type": "function_call_output", "call_id": call["call_id"], "output": f"{text} by {call['name']}"}
        for call in calls_in(response)
    ]


async def talk(caller: Caller, **fields: Any) -> Any:
    return await caller.created(background=False, tools=TOOLS, **fields)


async def loop(caller: Caller, **fields: Any) -> list[Any]:
    """All responses of a loop that answers every call, up to the one that calls nothing."""
    turns = [await talk(caller, **fields)]
    while calls_in(turns[-1]):
        given = {"previous_response_id": turns[-1]["id"], "input": results_for(turns[-1], f"result {len(turns)}")}
        turns.append(await talk(caller, **fields | given))
    return turns


async def test_arguments_have_the_shape_of_the_function(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    response = await talk(caller, input="How much corn was there in 1831?")
    (call,) = calls_in(response)
    assert call["name"] in ("harvest_of", "price_of")
    assert json.loads(call["arguments"]) == {"year": 1831, "crop": "corn"}
    assert (response["status"], text_of(response)) == ("completed", "")


async def test_the_same_request_makes_the_same_call(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    first, second = [calls_in(await talk(caller))[0] for _ in range(2)]
    assert (first["name"], first["arguments"]) == (second["name"], second["arguments"])
    assert first["call_id"] != second["call_id"]


async def test_the_answer_contains_what_the_functions_returned(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    first, second = await loop(caller)
    assert "result 1 by" in text_of(second)
    assert second["previous_response_id"] == first["id"]


async def test_a_shaped_answer_is_made_of_what_the_functions_returned(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    schema = {"type": "object", "properties": {"bushels": {"type": "integer"}}, "required": ["bushels"]}
    shape = {"format": {"type": "json_schema", "name": "harvest", "schema": schema}}
    first = await talk(caller, text=shape)
    given = [{"type": "function_call_output", "call_id": calls_in(first)[0]["call_id"], "output": '{"n": 4711}'}]
    second = await talk(caller, text=shape, previous_response_id=first["id"], input=given)
    assert json.loads(text_of(second)) == {"bushels": 4711}


async def test_functions_can_be_called_several_times_over_and_several_at_once(start: Start) -> None:
    caller = await start(latency=AT_ONCE, tools={"rounds": 3, "calls": 2})
    turns = await loop(caller)
    assert [len(calls_in(turn)) for turn in turns] == [2, 2, 2, 0]
    assert {call["name"] for call in calls_in(turns[0])} == {"harvest_of", "price_of"}
    ids = [call["call_id"] for turn in turns for call in calls_in(turn)]
    assert len(set(ids)) == 6


async def test_a_loop_works_without_stored_responses(start: Start) -> None:
    caller = await start(latency=AT_ONCE, tools={"rounds": 2})
    said: list[Any] = [{"role": "user", "content": TEXT}]
    for expected in (1, 1, 0):
        response = await talk(caller, input=said, store=False)
        assert len(calls_in(response)) == expected
        said += [*response["output"], *results_for(response)]


async def test_each_message_of_the_user_calls_for_new_calls(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    turns = await loop(caller)
    again = await talk(caller, previous_response_id=turns[-1]["id"], input="And in the year before?")
    assert len(calls_in(again)) == 1


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ("none", None),
        ("auto", "any"),
        ("required", "any"),
        ({"type": "function", "name": "price_of"}, "price_of"),
        ({"type": "function", "name": "other"}, None),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "price_of"}]}, "price_of"),
        ({"type": "web_search_preview"}, None),
    ],
)
async def test_the_choice_decides_what_is_called(start: Start, choice: Any, name: str | None) -> None:
    caller = await start(latency=AT_ONCE)
    calls = calls_in(await talk(caller, tool_choice=choice))
    assert [name if name == "any" else call["name"] for call in calls] == ([name] if name else [])


async def test_without_parallel_calls_there_is_one(start: Start) -> None:
    caller = await start(latency=AT_ONCE, tools={"calls": 3})
    assert len(calls_in(await talk(caller))) == 3
    assert len(calls_in(await talk(caller, parallel_tool_calls=False))) == 1


async def test_zero_rounds_mean_no_calls(start: Start) -> None:
    caller = await start(latency=AT_ONCE, tools={"rounds": 0})
    assert calls_in(await talk(caller)) == []


async def test_a_custom_tool_gets_text(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    response = await caller.created(background=False, tools=[{"type": "custom", "name": "run_sql"}])
    call = response["output"][-1]
    assert (call["type"], call["name"]) == ("custom_tool_call", "run_sql")
    assert call["input"] in TEXT
    given = [{"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "three rows"}]
    answer = await caller.created(background=False, previous_response_id=response["id"], input=given)
    assert "three rows" in text_of(answer)


@pytest.mark.parametrize("choose", ["none of them", "another"])
async def test_every_call_needs_its_output_and_no_other(start: Start, choose: str) -> None:
    caller = await start(latency=AT_ONCE)
    first = await talk(caller)
    call_id = calls_in(first)[0]["call_id"]
    given: list[Any] = [{"type": "function_call_output", "call_id": "call_other", "output": "x"}]
    message = "No tool call found for function call output with call_id call_other."
    if choose == "none of them":
        given, message = [{"role": "user", "content": "Well?"}], f"No tool output found for function call {call_id}."
    reply = await caller.create(background=False, previous_response_id=first["id"], input=given)
    assert reply.status_code == 400
    assert reply.json()["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": "input",
        "code": None,
    }


async def test_a_call_is_cut_off_at_the_cap(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    long = {"type": "object", "properties": {"note": {"type": "string", "minLength": 400}}, "required": ["note"]}
    tools = [{"type": "function", "name": "note", "parameters": long}]
    response = await caller.created(model="gpt-4.1", background=False, tools=tools, max_output_tokens=16)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert response["output"][-1]["status"] == "incomplete"
    assert response["usage"]["output_tokens"] <= 16


async def test_the_incomplete_model_calls_nothing(start: Start) -> None:
    caller = await start(latency=AT_ONCE)
    response = await talk(caller, model="sandbox-incomplete")
    assert (response["status"], calls_in(response)) == ("incomplete", [])


async def test_an_unknown_function_is_called(start: Start) -> None:
    caller = await start(latency=AT_ONCE, faults={"unknown_tool": 1})
    first, second = await loop(caller)
    assert calls_in(first)[0]["name"] == "no_such_function"
    assert text_of(second)


async def test_arguments_that_are_not_json(start: Start) -> None:
    caller = await start(latency=AT_ONCE, tools={"calls": 2}, faults={"broken_arguments": 1})
    broken, whole = calls_in(await talk(caller))
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken["arguments"])
    assert json.loads(whole["arguments"])


async def test_arguments_that_the_schema_refuses(start: Start) -> None:
    caller = await start(latency=AT_ONCE, faults={"wrong_arguments": 1})
    (call,) = calls_in(await talk(caller))
    assert not jsonschema_rs.is_valid(PARAMETERS, json.loads(call["arguments"]))


async def test_calls_are_charged_but_are_not_usable_answers(start: Start, clock: FakeClock) -> None:
    caller = await start(latency=AT_ONCE)
    turns = await loop(caller, model="gpt-4.1-nano", metadata={"orchestrator_run": "r", "orchestrator_key": "k"})
    ledger = await caller.ledger()
    usages = [turn["usage"] for turn in turns]
    assert ledger["cost_pusd"] == sum(
        100_000 * usage["input_tokens"] + 400_000 * usage["output_tokens"] for usage in usages
    )
    assert all(usage["output_tokens"] > 0 for usage in usages)
    assert usages[1]["input_tokens"] > usages[0]["input_tokens"]
    assert ledger["duplicates"] == {"while_open": 0, "after_lost_reply": 0, "usable": 0}
