"""Responses as streams of events: created as streams, or resumed after any event."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import orjson
from pydantic_core import from_json

from orchestrator.core.fast_dataclass import fast_dataclass
from orchestrator.core.model import Seen
from orchestrator.core.problems import Problem, ReplyLost
from orchestrator.provider.client import read_response
from orchestrator.provider.refusal import parse_refusal
from orchestrator.provider.reply_json import leading_fields, read_json
from orchestrator.provider.sse import EventTooLarge, SseParser
from orchestrator.provider.transport import DEFAULT_REPLY_BYTES, Reply, TransportError
from orchestrator.provider.wire import salvage_id

__all__ = ["ENDINGS", "EventStream", "OpenReply", "StreamEvent", "StreamLost", "StreamTransport", "StreamingClient"]

# The last event of a stream; a cancelled response has none (responses API, streaming).
ENDINGS = frozenset({"response.completed", "response.failed", "response.incomplete", "error"})

# A model may think for minutes without an event; a stream that is silent for longer is opened again.
_SILENCE_S = 300.0
_MOST_REFUSAL_BYTES = 2**20
# The first event of a stream names its response; a server that sends others forever must not hold up the row.
_MOST_NAMELESS = 1000


class OpenReply(Protocol):
    """A reply whose body is still arriving; the names of ``headers`` are lower-case."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the reply."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yields the body as it arrives; raises ``TransportError`` if it breaks off."""
        ...

    async def aclose(self) -> None: ...


class StreamTransport(Protocol):
    """A transport that returns a reply before its end."""

    async def open(
        self,
        method: str,
        path: str,
        *,
        body: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        silence_s: float,
    ) -> OpenReply:
        """Send a request and return once the reply has a status; raises ``TransportError`` like ``Transport.call``.

        A body that is sent in pieces needs a ``Content-Length`` among the headers.

        A body counts as broken off if nothing of it arrives for ``silence_s``.
        """
        ...

    async def aclose(self) -> None: ...


@fast_dataclass(kw_only=False)
class StreamEvent:
    """One event. ``sequence`` rises within a response; None if the server does not number its events."""

    type: str
    sequence: int | None
    fields: Mapping[str, Any]

    @property
    def item_type(self) -> str | None:
        """The type of the output item in the event."""
        item = self.fields.get("item")
        kind = item.get("type") if isinstance(item, dict) else None
        return kind if isinstance(kind, str) else None

    @property
    def is_piece(self) -> bool:
        """Whether it is one of many pieces of a text or an image, of no interest by itself."""
        return self.type.endswith((".delta", ".partial_image"))


class StreamLost(Exception):
    """The stream broke off; the events after its last one can be requested."""


class EventStream:
    """The events of one response in order, each once; close it after use."""

    def __init__(self, reply: OpenReply, *, after: int | None = None, most_bytes: int = DEFAULT_REPLY_BYTES) -> None:
        self._reply = reply
        self._chunks = reply.chunks()
        self._parser = SseParser(most_bytes)
        self._most_bytes = most_bytes
        self._waiting: list[StreamEvent] = []
        self._after = after

    def __aiter__(self) -> AsyncIterator[StreamEvent]:
        return self

    async def __anext__(self) -> StreamEvent:
        """Returns the next event; raises ``StreamLost`` if the connection breaks."""
        while not self._waiting:
            try:
                chunk = await anext(self._chunks)
            except TransportError as error:
                raise StreamLost(error.problem.reason) from None
            try:
                found = self._parser.feed(chunk)
            except EventTooLarge:
                raise StreamLost(f"an event is {_too_large(self._most_bytes)}") from None
            self._waiting = [event for data in found if (event := self._new(data)) is not None]
        return self._waiting.pop(0)

    def unread(self, event: StreamEvent) -> None:
        """Put an event back, so that it is the next one."""
        self._waiting.insert(0, event)

    @property
    def unfinished(self) -> bytes:
        """The data of an event that broke off."""
        return self._parser.unfinished

    async def aclose(self) -> None:
        """Close the connection; a background response continues without it."""
        await self._reply.aclose()

    def _new(self, data: bytes) -> StreamEvent | None:
        event = _event(data)
        if event is None or event.sequence is None:
            return event
        # Some servers always start at the first event, whatever the request says.
        if self._after is not None and event.sequence <= self._after:
            return None
        self._after = event.sequence
        return event


class StreamingClient:
    """The streams of one provider. Like ``ResponsesClient``, it returns problems as values."""

    def __init__(
        self,
        transport: StreamTransport,
        *,
        status_aliases: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        most_bytes: int = DEFAULT_REPLY_BYTES,
    ) -> None:
        self._transport = transport
        self._most_bytes = most_bytes
        self._status_aliases = dict(status_aliases or {})
        self._clock = clock

    async def create(
        self, body: bytes, *, idempotency_key: str, client_request_id: str
    ) -> tuple[Seen, EventStream | None] | Problem:
        """Create a response and read its stream up to the event that names it, which the stream then repeats.

        A server that does not stream answers with the response itself; then there is no stream.
        """
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": idempotency_key,
            "X-Client-Request-Id": client_request_id,
        }
        reply = await self._open("POST", "/responses", body=body, headers=headers)
        if not isinstance(reply, _Opened):
            return reply
        if not reply.streams:
            whole = await reply.read(self._most_bytes)
            if len(whole.body) > self._most_bytes:
                reason = f"the reply is {_too_large(self._most_bytes)}"
                found = salvage_id(whole.body)
                return ReplyLost(reason=reason, status=whole.status, response_id=found, unreadable=True)
            seen = read_response(whole, self._status_aliases)
            return (seen, None) if isinstance(seen, Seen) else seen
        stream = EventStream(reply.reply, most_bytes=self._most_bytes)
        passed = 0
        try:
            async for event in stream:
                passed += 1
                if passed > _MOST_NAMELESS:
                    break
                response = event.fields.get("response")
                if isinstance(response, dict):
                    stream.unread(event)
                    seen = self._seen(response, reply.reply)
                    if isinstance(seen, Seen):
                        return seen, stream
                    await stream.aclose()
                    return seen
        except StreamLost as error:
            await stream.aclose()
            return _lost(str(error), reply.reply.status, stream.unfinished)
        await stream.aclose()
        return _lost("the stream ended before it named a response", reply.reply.status, stream.unfinished)

    async def follow(self, response_id: str, *, after: int | None = None) -> EventStream | Problem:
        """Returns the events of a response after the one numbered ``after``, or all, including future ones."""
        query = {"stream": "true"} | ({"starting_after": str(after)} if after is not None else {})
        reply = await self._open("GET", f"/responses/{quote(response_id, safe='')}?{urlencode(query)}")
        if not isinstance(reply, _Opened):
            return reply
        if not reply.streams:
            await reply.reply.aclose()
            return ReplyLost(reason="the server does not stream", status=reply.reply.status)
        return EventStream(reply.reply, after=after, most_bytes=self._most_bytes)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    async def _open(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> _Opened | Problem:
        accept = {"Accept": "text/event-stream, application/json", **(headers or {})}
        try:
            reply = await self._transport.open(method, path, body=body, headers=accept, silence_s=_SILENCE_S)
        except TransportError as error:
            return error.problem
        opened = _Opened(reply)
        if reply.status >= 300:
            return parse_refusal(await opened.read(_MOST_REFUSAL_BYTES), now=self._clock())
        return opened

    def ended(self, event: StreamEvent) -> Seen | Problem | None:
        """The response in the last event of a stream; None if the event holds none."""
        response = event.fields.get("response")
        return self._read(response, 200, {}) if isinstance(response, dict) else None

    def _seen(self, response: dict[str, Any], reply: OpenReply) -> Seen | ReplyLost:
        return self._read(response, reply.status, reply.headers)

    def _read(self, response: dict[str, Any], status: int, headers: Mapping[str, str]) -> Seen | ReplyLost:
        return read_response(Reply(status=status, headers=headers, body=orjson.dumps(response)), self._status_aliases)


@fast_dataclass(kw_only=False)
class _Opened:
    """A reply whose status has arrived."""

    reply: OpenReply

    @property
    def streams(self) -> bool:
        return self.reply.headers.get("content-type", "").lower().startswith("text/event-stream")

    async def read(self, most_bytes: int) -> Reply:
        """Read it to its end, as far as it arrives, or until it exceeds the cap."""
        body = bytearray()
        try:
            async for chunk in self.reply.chunks():
                body += chunk
                if len(body) > most_bytes:
                    break
        except TransportError:
            pass  # the status is the answer, even if the rest is missing
        finally:
            await self.reply.aclose()
        return Reply(status=self.reply.status, headers=self.reply.headers, body=bytes(body))


def _too_large(most_bytes: int) -> str:
    return f"larger than {most_bytes} bytes; limits.reply_bytes in the config sets the limit"


def _event(data: bytes) -> StreamEvent | None:
    """Returns the event in some data; None for other data, such as the ``[DONE]`` that some servers send last."""
    try:
        fields = read_json(data)[0]
    except ValueError:
        return None
    match fields:
        case {"type": str() as kind}:
            sequence = fields.get("sequence_number")
            return StreamEvent(kind, sequence if isinstance(sequence, int) else None, fields)
    return None


def _lost(reason: str, status: int, unfinished: bytes) -> ReplyLost:
    """Returns the problem of a create call whose stream broke off, with the response's id if all of it arrived."""
    try:
        event = from_json(unfinished, allow_partial=True) if unfinished else None
    except ValueError:
        event = leading_fields(unfinished)
    match event:
        case {"response": {"id": str() as found}} if found.startswith("resp_"):
            # The last string before the break may be cut off too.
            whole = f'"{found}"'.encode() in unfinished
            return ReplyLost(reason=reason, status=status, response_id=found if whole else None)
    return ReplyLost(reason=reason, status=status)
