"""The responder speaks HTTP in the API's format, and its counters are right."""

from __future__ import annotations

import asyncio
import json
import re
import time
from itertools import repeat
from typing import Any

import pytest

from benchmarks.latency import Latency
from benchmarks.processes import measure, python
from benchmarks.replies import Replies, response_id
from benchmarks.responder import Connection, Responses
from benchmarks.serving import responder
from orchestrator.provider.wire import parse_response

pytestmark = pytest.mark.anyio

CREATE = b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class Client:
    """One connection, kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> tuple[int, bytes]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head.split(b" ", 2)[1]), await self._reader.readexactly(length)

    async def get(self, path: str) -> Any:
        await self.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return json.loads((await self.receive())[1])


@pytest.fixture
async def client(anyio_backend: str) -> Any:
    responses = Responses(iter([0.0, 3600.0, *repeat(0.0, 8)]), Replies(body_bytes=3000))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(responses), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    yield Client(reader, writer)
    writer.close()
    server.close()


async def test_a_response_is_queued_then_completed_with_usage(client: Client) -> None:
    await client.send(CREATE)
    status, body = await client.receive()
    queued = parse_response(body)
    assert (status, queued.status, queued.ended, queued.usage) == (200, "queued", False, None)
    await client.send(b"GET /v1/responses/%b HTTP/1.1\r\nHost: x\r\n\r\n" % queued.id.encode())
    _, body = await client.receive()
    completed = parse_response(body)
    assert completed.id == queued.id
    assert completed.status == "completed"
    assert completed.usage is not None
    assert completed.usage.total_tokens == 560
    assert completed.created_at is not None
    assert completed.completed_at is not None
    assert completed.completed_at >= completed.created_at
    assert 2900 < len(body) < 3100


async def test_the_lag_of_a_poll_is_counted(client: Client) -> None:
    await client.send(CREATE + CREATE)
    for _ in range(2):
        await client.receive()
    unfinished = await client.get(f"/v1/responses/{response_id(1).decode()}")
    assert unfinished["status"] == "in_progress"
    assert await client.get(f"/v1/responses/{response_id(0).decode()}")
    assert await client.get(f"/v1/responses/{response_id(0).decode()}")
    stats = await client.get("/_stats")
    assert (stats["creates"], stats["polls"], stats["repeated_polls"], stats["seen"]) == (2, 3, 1, 1)
    assert 0.0 < stats["lag_mean_s"] == stats["lag_max_s"] < time.time() - stats["first_create_at"]


def test_requests_may_arrive_in_pieces_or_together() -> None:
    written = bytearray()

    class Recorder(asyncio.Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            written.extend(data)

    connection = Connection(Responses(repeat(0.0), Replies(body_bytes=100)))
    connection.connection_made(Recorder())
    for piece in (CREATE[:20], CREATE[20:-1], CREATE[-1:] + CREATE + CREATE[:10], CREATE[10:]):
        connection.data_received(piece)
    assert re.findall(rb"resp_[0-9a-f]+", bytes(written)) == [response_id(0), response_id(1), response_id(2)]


@pytest.mark.parametrize("path", ["/v1/responses/resp_ff", "/v1/responses/unknown", "/v1/models"])
async def test_unknown_paths_and_responses_are_not_found(client: Client, path: str) -> None:
    assert (await client.get(path))["error"]["type"] == "invalid_request_error"


async def test_a_mark_resets_the_first_call(client: Client) -> None:
    await client.send(CREATE)
    await client.receive()
    await client.send(b"POST /_mark HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.receive()
    stats = await client.get("/_stats")
    assert stats["first_call_at"] is None
    assert stats["first_create_at"] is not None


def test_the_floor_polls_each_response_once() -> None:
    with responder(Latency(0.01)) as server:
        sizes = ("--rows", 40, "--in-flight", 8, "--latency", 0.01, "--prompt-bytes", 100)
        cost = measure(python("-m", "benchmarks.floor", server.base_url, *sizes))
        seen = server.seen()
    assert seen.creates == seen.seen == 40
    assert seen.polls <= 44  # one each, unless a timer fires early
    assert 0.0 < json.loads(cost.output)["cpu_s"] < cost.cpu_s
    assert cost.peak_mb > 10


async def test_a_call_is_held_until_its_response_has_ended(anyio_backend: str) -> None:
    responses = Responses(repeat(0.05), Replies(body_bytes=3000))
    listen = asyncio.get_running_loop().create_server
    server = await listen(lambda: Connection(responses, hold=True), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    client, begun = Client(reader, writer), time.monotonic()
    for _ in range(2):
        await client.send(CREATE)
        response = parse_response((await client.receive())[1])
        assert response.ended
    assert time.monotonic() - begun >= 0.1
    stats = await client.get("/_stats")
    assert (stats["creates"], stats["polls"], stats["seen"]) == (2, 0, 2)
    writer.close()
    server.close()
