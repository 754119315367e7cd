"""Replies that are streams: a response's events, each sent when it is due."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import anyio
from starlette.requests import Request
from starlette.responses import StreamingResponse

from orchestrator.core.clock import Clock
from orchestrator.sandbox.faults.api_errors import bad_request
from orchestrator.sandbox.faults.broken_replies import HangUp
from orchestrator.sandbox.faults.fault_plan import FaultPlan
from orchestrator.sandbox.simulation.event_stream import SimulatedEvent, events_of, frame
from orchestrator.sandbox.storage.response_record import ResponseRecord, is_cut_off
from orchestrator.sandbox.storage.response_store import ResponseStore
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["StreamReplies", "stream_position"]

# How often a stream checks whether its response was cancelled.
_CHECK_INTERVAL_S = 1
_ERROR = {"code": "server_error", "message": "The stream ended because of an error of the server.", "param": None}


class StreamReplies:
    """Streams the events of responses to clients, and breaks streams that a fault strikes."""

    def __init__(
        self, state: SandboxDatabase, responses: ResponseStore, fault_plan: FaultPlan, clock: Clock, hang_up: HangUp
    ) -> None:
        self._state = state
        self._responses = responses
        self._clock = clock
        self._fault_plan = fault_plan
        self._hang_up = hang_up

    def follow(
        self, request: Request, record: ResponseRecord, *, after: int, headers: Mapping[str, str]
    ) -> StreamingResponse:
        """Streams the events of a response after number ``after`` (-1: all)."""
        fault = self._fault_plan.of_stream(self._state.count("stream.calls"))
        events = self._events(request, record, after=after, fault=fault)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def _events(
        self, request: Request, record: ResponseRecord, *, after: int, fault: tuple[str | None, int]
    ) -> AsyncIterator[bytes]:
        """The events after a number, each when it is due; a cancel ends them without an event, as at the provider."""
        events = [event for event in events_of(record) if event.number > after]
        left = True
        try:
            for place, event in enumerate(events):
                if fault == ("stream_drop", place):
                    self._hang_up(request.scope)
                    await anyio.sleep_forever()
                if fault == ("stream_error", place):
                    # It repeats the previous number, so that a client that resumes after it misses no event.
                    yield frame(SimulatedEvent(event.number - 1, event.at, "error", _ERROR))
                    return
                if not await self._is_due(record, event.at):
                    break
                if event is events[-1]:
                    self._responses.mark_delivered(record, record.end_status)
                    await self._state.committed()
                yield frame(event)
            left = False
        finally:
            if left:
                self._client_left(record)

    def _client_left(self, record: ResponseRecord) -> None:
        """Handles a client that leaves its stream early."""
        now = self._clock.now()
        if not record.background:
            # A foreground response ends with its connection (responses API, "background x store x stream").
            self._responses.request_cancel(record, now)
        elif record.quirk == "stuck_when_left" and now < record.starts_at:
            self._responses.keep_queued(record)
        self._state.count("stream.left")

    async def _is_due(self, record: ResponseRecord, at: float) -> bool:
        """Waits until the time; false if the response is cancelled before."""
        while True:
            now = self._clock.now()
            record = self._responses.get(record.id) or record
            if at <= now or is_cut_off(record, at):
                return not is_cut_off(record, at)
            await self._clock.sleep_until(min(at, now + _CHECK_INTERVAL_S))


def stream_position(query: Mapping[str, str]) -> int | None:
    """The event after which a stream is requested (-1: from the first); None if no stream is requested."""
    after = query.get("starting_after")
    if query.get("stream") != "true":
        if after is not None:
            raise bad_request("'starting_after' needs 'stream'.", code=None, param="starting_after")
        return None
    if after is None:
        return -1
    if not after.isdecimal():
        message = f"Invalid 'starting_after': expected an integer, but got '{after}' instead."
        raise bad_request(message, code="invalid_value", param="starting_after")
    return int(after)
