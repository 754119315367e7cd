"""The events of one output item in a stream: that it was added, its text in pieces, its steps, and that it is done.

Names and fields of the events are those of the API reference, "Streaming".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

__all__ = ["item_events"]

Json: TypeAlias = Any
Event: TypeAlias = tuple[str, dict[str, Json]]

# The characters of a text in one event.
_PIECE = 24

# By the type of an item: the key of its text, and the event that carries it.
_WRITTEN = {
    "function_call": ("arguments", "function_call_arguments"),
    "custom_tool_call": ("input", "custom_tool_call_input"),
    "mcp_call": ("arguments", "mcp_call_arguments"),
    "code_interpreter_call": ("code", "code_interpreter_call_code"),
}
# The steps of a tool that the provider runs; its input is written between the first and the second.
_STEPS = {
    "web_search_call": ("in_progress", "searching", "completed"),
    "file_search_call": ("in_progress", "searching", "completed"),
    "code_interpreter_call": ("in_progress", "interpreting", "completed"),
    "image_generation_call": ("in_progress", "generating", "completed"),
    "mcp_call": ("in_progress", "completed"),
    "mcp_list_tools": ("in_progress", "completed"),
}
# The fields of an item before it has any content.
_EMPTY: dict[str, dict[str, Json]] = {
    "message": {"status": "in_progress", "content": []},
    "reasoning": {"summary": []},
    "function_call": {"status": "in_progress", "arguments": ""},
    "custom_tool_call": {"status": "in_progress", "input": ""},
    "web_search_call": {"status": "in_progress"},
    "file_search_call": {"status": "in_progress", "results": None},
    "code_interpreter_call": {"status": "in_progress", "code": "", "outputs": None},
    "image_generation_call": {"status": "in_progress", "result": None},
    "mcp_call": {"status": "in_progress", "arguments": "", "output": None},
    "mcp_list_tools": {"tools": []},
}


def item_events(index: int, item: dict[str, Json]) -> Iterator[Event]:
    """The events of the item at ``index`` in the output, as (type, fields)."""
    kind = item["type"]
    place = {"output_index": index}
    here = {**place, "item_id": item["id"]}
    yield "response.output_item.added", {**place, "item": item | _EMPTY.get(kind, {})}
    first, *rest = _STEPS.get(kind, (None,))
    if first:
        yield f"response.{kind}.{first}", here
    if kind == "message":
        for number, part in enumerate(item["content"]):
            yield from _part({**here, "content_index": number}, part)
    elif kind == "reasoning":
        for number, part in enumerate(item["summary"]):
            yield from _summary({**here, "summary_index": number}, part)
    elif kind in _WRITTEN:
        key, event = _WRITTEN[kind]
        yield from _text(f"response.{event}", here, key, item[key], _named(item))
    for step in rest:
        yield f"response.{kind}.{step}", here
    yield "response.output_item.done", {**place, "item": item}


def _part(here: dict[str, Json], part: dict[str, Json]) -> Iterator[Event]:
    key, event, extra = "text", "response.output_text", {"logprobs": list[Json]()}
    if part["type"] == "refusal":
        key, event, extra = "refusal", "response.refusal", {}
    empty = {name: [] if isinstance(value, list) else value for name, value in part.items()}
    yield "response.content_part.added", {**here, "part": {**empty, key: ""}}
    yield from _text(event, {**here, **extra}, key, part[key])
    yield "response.content_part.done", {**here, "part": part}


def _summary(here: dict[str, Json], part: dict[str, Json]) -> Iterator[Event]:
    yield "response.reasoning_summary_part.added", {**here, "part": {**part, "text": ""}}
    yield from _text("response.reasoning_summary_text", here, "text", part["text"])
    yield "response.reasoning_summary_part.done", {**here, "part": part}


def _text(
    event: str, here: dict[str, Json], key: str, text: str, extra: dict[str, Json] | None = None
) -> Iterator[Event]:
    for start in range(0, len(text), _PIECE):
        yield f"{event}.delta", {**here, "delta": text[start : start + _PIECE]}
    yield f"{event}.done", {**here, key: text, **(extra or {})}


def _named(item: dict[str, Json]) -> dict[str, Json]:
    return {"name": item["name"]} if item["type"] == "function_call" else {}
