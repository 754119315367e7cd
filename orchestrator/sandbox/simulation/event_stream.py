"""A response as a stream of events, each with the time at which it is due.

The events follow from the stored response, so any client can follow the stream from any event, even after a restart.
Their names and fields are those of the API reference, "Streaming".
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, TypeAlias

import orjson

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.sandbox.simulation.item_events import item_events
from orchestrator.sandbox.simulation.response_json import response_body
from orchestrator.sandbox.storage.response_record import ResponseRecord

__all__ = ["SimulatedEvent", "events_of", "frame"]

Json: TypeAlias = Any


@fast_dataclass(kw_only=False)
class SimulatedEvent:
    """One event; ``number`` counts up from 0, ``at`` is a Unix time or infinity."""

    number: int
    at: float
    type: str
    fields: dict[str, Json]


def frame(event: SimulatedEvent) -> bytes:
    """The event in the format of server-sent events."""
    data = {"type": event.type, "sequence_number": event.number, **event.fields}
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), orjson.dumps(data))


def events_of(record: ResponseRecord) -> list[SimulatedEvent]:
    """All events of a response that is not cancelled, in order; its quirk affects polls only."""
    record = replace(record, quirk=None)
    # A response that takes no time has the same events, so each status is shown as if it lasted.
    running = replace(record, starts_at=record.created_at, ends_at=math.inf)
    queued = replace(record, starts_at=math.inf, ends_at=math.inf)
    items = enumerate(orjson.loads(record.output))
    pieces = [event for index, item in items for event in item_events(index, item)]
    timed = [("response.created", record.created_at, _response(queued if record.background else running))]
    if record.background:
        timed.append(("response.queued", record.created_at, _response(queued)))
    timed.append(("response.in_progress", record.starts_at, _response(running)))
    timed += [
        (name, _due_at(record, place, len(pieces)), fields) for place, (name, fields) in enumerate(pieces, start=1)
    ]
    timed.append((f"response.{record.end_status}", record.ends_at, _response(record)))
    return [SimulatedEvent(number, at, name, fields) for number, (name, at, fields) in enumerate(timed)]


def _response(record: ResponseRecord) -> dict[str, Json]:
    at = record.created_at if math.isinf(record.ends_at) else record.ends_at
    return {"response": orjson.Fragment(response_body(record, at))}


def _due_at(record: ResponseRecord, place: int, count: int) -> float:
    """When event ``place`` of ``count`` is due: they are spread evenly over the run of the response."""
    if math.isinf(record.ends_at):
        return math.inf
    return record.starts_at + (record.ends_at - record.starts_at) * place / (count + 1)
