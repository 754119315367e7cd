"""Replies that are streams: a response's events, sent as they happen."""

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
from orchestrator.sandbox.storage.response_record import Record, is_cut_off
from orchestrator.sandbox.storage.response_store import Archive
from orchestrator.sandbox.storage.sandbox_database import SandboxDatabase

__all__ = ["Streams", "stream_position"]

# How soon a stream notices that its response was cancelled.
_LOOK_AGAIN_S = 1
_ERROR = {"code": "server_error", "message": "The stream ended because of an error of the server.", "param": None}


class Streams:
    """Follows responses for clients, and breaks off where a fault says so."""

    def __init__(
        self, state: SandboxDatabase, archive: Archive, *, clock: Clock, fates: FaultPlan, hang_up: HangUp
    ) -> None:
        self._state = state
        self._archive = archive
        self._clock = clock
        self._fates = fates
        self._hang_up = hang_up

    def follow(
        self, request: Request, record: Record, *, after: int, headers: Mapping[str, str]
    ) -> StreamingResponse:
        """The events of a response after a number (-1: all), as they happen."""
        fault = self._fates.of_stream(self._state.count("stream.calls"))
        events = self._events(request, record, after=after, fault=fault)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def _events(
        self, request: Request, record: Record, *, after: int, fault: tuple[str | None, int]
    ) -> AsyncIterator[bytes]:
        """The events after a number, each when it is due; a cancel ends them without a word, as at the provider."""
        events = [event for event in events_of(record) if event.number > after]
        left = True
        try:
            for place, event in enumerate(events):
                if fault == ("stream_drop", place):
                    self._hang_up(request.scope)
                    await anyio.sleep_forever()
                if fault == ("stream_error", place):
                    # It repeats the number before it, so that nothing is lost on a client that goes on after it.
                    yield frame(SimulatedEvent(event.number - 1, event.at, "error", _ERROR))
                    return
                if not await self._is_due(record, event.at):
                    break
                if event is events[-1]:
                    self._archive.deliver(record, record.end_status)
                    await self._state.committed()
                yield frame(event)
            left = False
        finally:
            if left:
                self._forsake(record)

    def _forsake(self, record: Record) -> None:
        """What becomes of a response whose client no longer listens."""
        now = self._clock.now()
        if not record.background:
            # It ends with the connection (responses API, "background x store x stream").
            self._archive.ask_cancel(record, now)
        elif record.quirk == "stuck_when_left" and now < record.starts_at:
            self._archive.strand(record)
        self._state.count("stream.left")

    async def _is_due(self, record: Record, at: float) -> bool:
        """Wait for the moment; false if the response is cancelled before."""
        while True:
            now = self._clock.now()
            record = self._archive.get(record.id) or record
            if at <= now or is_cut_off(record, at):
                return not is_cut_off(record, at)
            await self._clock.sleep_until(min(at, now + _LOOK_AGAIN_S))


def stream_position(query: Mapping[str, str]) -> int | None:
    """After which event a stream is asked for (-1: from the first), or None where no stream is."""
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
