"""A response as a stream of events, each with the moment at which it is due.

The events follow from the stored response, so a stream can be followed again from any of them, by anybody and after
a restart. Their names and fields are those of the API reference, "Streaming".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import orjson

from orchestrator.sandbox.record import Record
from orchestrator.sandbox.shapes import response_body

__all__ = ["StreamEvent", "events_of", "frame"]

Json: TypeAlias = Any

# So many characters of a text come in one piece.
_PIECE = 24


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event; ``number`` rises by one from event to event, ``at`` is a Unix time or infinity."""

    number: int
    at: float
    type: str
    fields: dict[str, Json]


def frame(event: StreamEvent) -> bytes:
    """The event as a server-sent one."""
    data = {"type": event.type, "sequence_number": event.number, **event.fields}
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), orjson.dumps(data))


def events_of(record: Record) -> list[StreamEvent]:
    """All events of a response that nobody cancels, first to last; what is odd about it shows in looks only."""
    record = replace(record, quirk=None)
    # A response that takes no time is told in the same steps, so it is shown as if each lasted.
    running = replace(record, starts_at=record.created_at, ends_at=math.inf)
    queued = replace(record, starts_at=math.inf, ends_at=math.inf)
    told = list(_items(orjson.loads(record.output)))
    timed = [("response.created", record.created_at, _response(queued if record.background else running))]
    if record.background:
        timed.append(("response.queued", record.created_at, _response(queued)))
    timed.append(("response.in_progress", record.starts_at, _response(running)))
    timed += [(name, _spread(record, place, len(told)), fields) for place, (name, fields) in enumerate(told, start=1)]
    timed.append((f"response.{record.end_status}", record.ends_at, _response(record)))
    return [StreamEvent(number, at, name, fields) for number, (name, at, fields) in enumerate(timed)]


def _response(record: Record) -> dict[str, Json]:
    at = record.created_at if math.isinf(record.ends_at) else record.ends_at
    return {"response": orjson.Fragment(response_body(record, at))}


def _spread(record: Record, place: int, count: int) -> float:
    """When the piece number ``place`` of ``count`` is due: they come evenly while the response runs."""
    if math.isinf(record.ends_at):
        return math.inf
    return record.starts_at + (record.ends_at - record.starts_at) * place / (count + 1)


def _items(items: list[dict[str, Json]]) -> Iterator[tuple[str, dict[str, Json]]]:
    for index, item in enumerate(items):
        place = {"output_index": index}
        yield "response.output_item.added", {**place, "item": _begun(item)}
        here = {**place, "item_id": item["id"]}
        if item["type"] == "message":
            for number, part in enumerate(item["content"]):
                yield from _part({**here, "content_index": number}, part)
        elif item["type"] == "function_call":
            for piece in _pieces(item["arguments"]):
                yield "response.function_call_arguments.delta", {**here, "delta": piece}
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield "response.function_call_arguments.done", {**here, **done}
        yield "response.output_item.done", {**place, "item": item}


def _part(here: dict[str, Json], part: dict[str, Json]) -> Iterator[tuple[str, dict[str, Json]]]:
    text_key = "refusal" if part["type"] == "refusal" else "text"
    event = "response.refusal" if part["type"] == "refusal" else "response.output_text"
    extra: dict[str, Json] = {} if part["type"] == "refusal" else {"logprobs": []}
    yield "response.content_part.added", {**here, "part": {**part, text_key: ""}}
    for piece in _pieces(part[text_key]):
        yield f"{event}.delta", {**here, "delta": piece, **extra}
    yield f"{event}.done", {**here, text_key: part[text_key], **extra}
    yield "response.content_part.done", {**here, "part": part}


def _pieces(text: str) -> list[str]:
    return [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]


def _begun(item: dict[str, Json]) -> dict[str, Json]:
    """An item as it is before anything of it was said."""
    match item["type"]:
        case "message":
            return {**item, "status": "in_progress", "content": []}
        case "function_call":
            return {**item, "status": "in_progress", "arguments": ""}
        case _:
            return item
