"""Streams over real sockets: their events, resuming, and what a broken stream leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest

from orchestrator.core.problems import NeverSent, Refused, ReplyLost
from orchestrator.provider.httpx_transport import HttpxTransport
from orchestrator.provider.streaming import EventStream, StreamingClient, StreamLost
from orchestrator.provider.transport import Endpoint
from tests.provider.raw_server import Connection, RawServer

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n"
RESPONSE = {"id": "resp_1", "status": "queued", "output": []}


def event(kind: str, number: int | None, **fields: object) -> bytes:
    numbered = {} if number is None else {"sequence_number": number}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **numbered, **fields}))


def says(server: RawServer, *parts: bytes, cut: bool = False) -> None:
    """Answer the next call with these chunks, one by one; ``cut`` ends in a reset."""

    async def script(connection: Connection) -> None:
        await connection.request()
        for part in parts:
            await connection.send(part)
        if cut:
            connection.reset()

    server.script = script


@pytest.fixture
async def client(server: RawServer) -> AsyncIterator[StreamingClient]:
    client = StreamingClient(HttpxTransport(Endpoint(base_url=f"{server.url}/v1", headers={"Authorization": "sk"})))
    yield client
    await client.aclose()


async def create(client: StreamingClient) -> object:
    return await client.create(b"{}", idempotency_key="k", client_request_id="k-1")


async def kinds(stream: EventStream) -> list[tuple[str, int | None]]:
    return [(event.type, event.sequence) async for event in stream]


async def test_a_create_returns_as_soon_as_the_response_has_an_id(server: RawServer, client: StreamingClient) -> None:
    created = event("response.created", 0, response=RESPONSE)
    says(server, HEAD, created[:30], created[30:], event("response.output_text.delta", 1, delta="Hi"))
    answer = await create(client)
    assert isinstance(answer, tuple)
    seen, stream = answer
    assert (seen.response.id, seen.response.status, seen.response.ended) == ("resp_1", "queued", False)
    assert stream is not None
    assert await kinds(stream) == [("response.created", 0), ("response.output_text.delta", 1)]
    headers = server.requests[0].headers
    assert (headers["idempotency-key"], headers["accept"].split(",")[0]) == ("k", "text/event-stream")


async def test_a_server_that_does_not_stream_answers_with_the_response(
    server: RawServer, client: StreamingClient
) -> None:
    body = orjson.dumps(RESPONSE)
    says(server, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    answer = await create(client)
    assert isinstance(answer, tuple)
    assert (answer[0].response.id, answer[1]) == ("resp_1", None)


async def test_a_refusal_is_returned(server: RawServer, client: StreamingClient) -> None:
    body = b'{"error": {"message": "no", "code": "rate_limit_exceeded"}}'
    says(server, b"HTTP/1.1 429 Too Many\r\nRetry-After: 2\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    answer = await create(client)
    assert isinstance(answer, Refused)
    assert (answer.status, answer.code, answer.retry_after_s) == (429, "rate_limit_exceeded", 2.0)


async def test_a_closed_port() -> None:
    client = StreamingClient(HttpxTransport(Endpoint(base_url="http://127.0.0.1:1/v1")))
    assert isinstance(await create(client), NeverSent)
    assert isinstance(await client.follow("resp_1"), NeverSent)
    await client.aclose()


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (b"", None),
        (b'data: {"type": "response.created", "response": {"id": "resp_1', None),
        (b'data: {"type": "response.created", "response": {"id": "resp_1", "sta', "resp_1"),
        (event("response.in_progress", 0), None),
    ],
)
@pytest.mark.parametrize("cut", [True, False])
async def test_a_create_that_broke_off_is_lost_with_the_id_if_it_arrived(
    server: RawServer, client: StreamingClient, sent: bytes, found: str | None, cut: bool
) -> None:
    says(server, HEAD, sent, cut=cut)
    answer = await create(client)
    assert isinstance(answer, ReplyLost)
    # A reset may discard data in transit.
    assert answer.response_id == found or (cut and answer.response_id is None)


async def test_following_starts_after_an_event_and_skips_earlier_ones(
    server: RawServer, client: StreamingClient
) -> None:
    says(server, HEAD, *(event("response.in_progress", number) for number in range(5)), b"data: [DONE]\n\n")
    stream = await client.follow("resp_1", after=2)
    assert isinstance(stream, EventStream)
    assert await kinds(stream) == [("response.in_progress", 3), ("response.in_progress", 4)]
    assert server.requests[0].target == "/v1/responses/resp_1?stream=true&starting_after=2"


async def test_a_stream_that_breaks_off_raises_stream_lost(server: RawServer, client: StreamingClient) -> None:
    says(
        server,
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n",
        event("response.in_progress", 0),
    )
    stream = await client.follow("resp_1")
    assert isinstance(stream, EventStream)
    assert (await anext(stream)).sequence == 0
    with pytest.raises(StreamLost):
        await anext(stream)
    await stream.aclose()


async def test_a_reply_that_is_no_stream_is_not_followed(server: RawServer, client: StreamingClient) -> None:
    says(server, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    answer = await client.follow("resp_1")
    assert isinstance(answer, ReplyLost)
    assert (answer.reason, answer.status) == ("the server does not stream", 200)


async def test_events_without_numbers_are_received(server: RawServer, client: StreamingClient) -> None:
    says(server, HEAD, event("response.output_item.added", None, item={"type": "message"}))
    stream = await client.follow("resp_1", after=7)
    assert isinstance(stream, EventStream)
    received = await anext(stream)
    assert (received.sequence, received.item_type, received.is_piece) == (None, "message", False)
    await stream.aclose()
