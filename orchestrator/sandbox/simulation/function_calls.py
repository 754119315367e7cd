"""Calls that the client's own tools must answer: functions, with arguments that fit their schema, and custom ones."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, TypeAlias

import orjson

from orchestrator.sandbox.sandbox_settings import Tools
from orchestrator.sandbox.simulation.bad_answers import UNKNOWN_FUNCTION, broken_json, off_schema
from orchestrator.sandbox.simulation.prompts import Prompt
from orchestrator.sandbox.simulation.schema_instances import instance_of

__all__ = ["make_calls", "wants_calls"]

Json: TypeAlias = Any


def wants_calls(fields: Mapping[str, Json], prompt: Prompt, tools: Tools) -> bool:
    """Whether the model calls functions now: it stops after ``tools.rounds`` rounds since the user's last message."""
    return prompt.tool_rounds < tools.rounds and bool(_offered(fields))


def make_calls(
    fields: Mapping[str, Json], prompt: Prompt, tools: Tools, *, ending: str | None, tail: str, rng: Random
) -> list[dict[str, Json]]:
    """The calls of one response, to the offered tools in turn; a fault breaks the first. May be empty."""
    offered = _offered(fields)
    if not offered:
        return []
    start = rng.randrange(len(offered))
    count = 1 if fields.get("parallel_tool_calls") is False else tools.calls
    calls = []
    for n in range(count):
        tool = offered[(start + n) % len(offered)]
        calls.append(_call(tool, prompt, f"{tail[:38]}{n:02x}", rng, fault=None if n else ending))
    return calls


def _offered(fields: Mapping[str, Json]) -> list[dict[str, Json]]:
    """The client's tools that the request allows the model to call."""
    tools = [tool for tool in fields.get("tools") or [] if tool["type"] in ("function", "custom")]
    match fields.get("tool_choice"):
        case "none":
            return []
        case {"type": "function" | "custom" as kind, "name": name}:
            return [tool for tool in tools if (tool["type"], tool["name"]) == (kind, name)]
        case {"type": "allowed_tools", "tools": [*allowed]}:
            names = [each.get("name") for each in allowed if isinstance(each, dict)]
            return [tool for tool in tools if tool["name"] in names]
        case {"type": _}:
            return []
    return tools


def _call(tool: Mapping[str, Json], prompt: Prompt, tail: str, rng: Random, *, fault: str | None) -> dict[str, Json]:
    name = UNKNOWN_FUNCTION if fault == "unknown_tool" else tool["name"]
    identity = {"call_id": f"call_{tail[-24:]}", "name": name, "status": "completed"}
    if tool["type"] == "custom":
        words = " ".join(prompt.text.split()[:12])
        return {"type": "custom_tool_call", "id": f"ctc_{tail}", **identity, "input": words}
    return {
        "type": "function_call",
        "id": f"fc_{tail}",
        **identity,
        "arguments": _arguments(tool["parameters"], prompt, rng, fault),
    }


def _arguments(parameters: Mapping[str, Json], prompt: Prompt, rng: Random, fault: str | None) -> str:
    value = instance_of(parameters, text="\n".join([prompt.text, *prompt.tool_results]), rng=rng)
    if fault == "wrong_arguments":
        return off_schema(value, parameters)
    text = orjson.dumps(value).decode()
    return broken_json(text) if fault == "broken_arguments" else text
