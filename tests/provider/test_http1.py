"""What our own HTTP must do in addition to the contract of all transports."""

from __future__ import annotations

import asyncio
import socket
import threading
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import anyio
import pytest

from orchestrator.core.problems import NeverSent, ReplyLost
from orchestrator.provider import asyncio_transport
from orchestrator.provider.asyncio_transport import AsyncioTransport
from orchestrator.provider.connector import Connector
from orchestrator.provider.transport import Endpoint, TransportError
from tests.provider.raw_server import Connection, RawServer, reply_bytes

pytestmark = pytest.mark.anyio

Make: TypeAlias = Callable[..., AsyncioTransport]


@pytest.fixture
async def make(server: RawServer) -> AsyncIterator[Make]:
    made: list[AsyncioTransport] = []

    def new(**settings: Any) -> AsyncioTransport:
        made.append(AsyncioTransport(Endpoint(**{"base_url": server.url, **settings})))
        return made[-1]

    yield new
    for transport in made:
        await transport.aclose()


def answering(*replies: bytes) -> Callable[[Connection], Any]:
    """Send these replies one after the other, then close."""

    async def script(connection: Connection) -> None:
        for reply in replies:
            await connection.request()
            await connection.send(reply)

    return script


async def lost(transport: AsyncioTransport) -> ReplyLost:
    with pytest.raises(TransportError) as caught:
        await transport.call("POST", "/responses", body=b"{}", read_timeout_s=5)
    assert isinstance(caught.value.problem, ReplyLost), caught.value.problem
    return caught.value.problem


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("pack", [zlib.compress, bare_deflate])
async def test_both_kinds_of_deflate(server: RawServer, make: Make, pack: Callable[[bytes], bytes]) -> None:
    server.script = answering(reply_bytes(pack(b"words " * 99), headers="Content-Encoding: deflate\r\n"))
    assert (await make().call("GET", "/models")).body == b"words " * 99


@pytest.mark.parametrize(
    ("encoding", "body"), [("br", b"whatever"), ("gzip", zlib.compress(b"x" * 500)[:-6]), ("deflate", b"\xff\xff")]
)
async def test_a_body_that_cannot_be_decompressed(server: RawServer, make: Make, encoding: str, body: bytes) -> None:
    server.script = answering(reply_bytes(body, headers=f"Content-Encoding: {encoding}\r\n"))
    problem = await lost(make())
    assert (problem.status, problem.reason) == (200, "the answer broke off or cannot be decoded")


async def test_an_empty_body_needs_no_decompression(server: RawServer, make: Make) -> None:
    server.script = answering(reply_bytes(b"", headers="Content-Encoding: gzip\r\n"))
    assert (await make().call("GET", "/models")).body == b""


async def test_a_reply_that_arrives_slowly(server: RawServer, make: Make) -> None:
    reply = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"
    )

    async def trickle(connection: Connection) -> None:
        for _ in range(2):
            await connection.request()
            for number in range(len(reply)):
                await connection.send(reply[number : number + 1])
                await asyncio.sleep(0)

    server.script = trickle
    transport = make()
    for _ in range(2):
        answer = await transport.call("GET", "/models")
        assert (answer.body, answer.headers["x-a"]) == (b"abcde", "b")
    assert server.connections == 1


async def test_http_1_0_closes_after_each_reply(server: RawServer, make: Make) -> None:
    server.script = answering(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"never")
    transport = make()
    for _ in range(2):
        assert (await transport.call("POST", "/responses")).body == b"ok"
    assert server.connections == 2


async def test_a_head_without_end(server: RawServer, make: Make) -> None:
    server.script = answering(b"HTTP/1.1 200 OK\r\n" + b"X-Long: y\r\n" * 20_000)
    assert "headers are larger" in (await lost(make())).reason


async def test_other_protocols_are_no_answer(server: RawServer, make: Make) -> None:
    server.script = answering(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n\x00\x00")
    assert (await lost(make())).status is None


async def test_data_after_a_reply_is_not_the_next_reply(server: RawServer, make: Make) -> None:
    server.script = answering(reply_bytes(b"one") + reply_bytes(b"stray"))
    transport = make()
    assert (await transport.call("GET", "/models")).body == b"one"
    server.script = answering(reply_bytes(b"two"))
    assert (await transport.call("GET", "/models")).body == b"two"


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_a_stray_reply_that_the_event_loop_has_not_seen_is_no_answer(make: Make, method: str) -> None:
    """It arrives while the process is busy, so it waits in the socket when the next call begins."""
    listener = socket.create_server(("127.0.0.1", 0))
    strayed = threading.Event()

    def serve() -> None:
        for replies in ((b"one", b"stray"), (b"two",)):
            connection = listener.accept()[0]
            accepted.append(connection)
            connection.recv(65_536)
            connection.sendall(reply_bytes(replies[0]))
            if len(replies) > 1:
                busy.wait()
                connection.sendall(reply_bytes(replies[1]))
                strayed.set()

    accepted: list[socket.socket] = []
    busy = threading.Event()
    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    transport = make(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert (await transport.call(method, "/models")).body == b"one"
    busy.set()
    strayed.wait()
    assert (await transport.call(method, "/models")).body == b"two"
    serving.join()
    for each in (listener, *accepted):
        each.close()


@pytest.mark.parametrize(("method", "answered"), [("GET", True), ("DELETE", True), ("POST", False)])
async def test_which_methods_are_sent_again(server: RawServer, make: Make, method: str, answered: bool) -> None:
    """The server reads the request on a kept connection and closes: a create may have been carried out."""

    async def one_and_a_half(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"whole")
        await connection.request()

    server.script = one_and_a_half
    transport = make()
    await transport.call(method, "/responses/1")
    if answered:
        assert (await transport.call(method, "/responses/1")).body == b"whole"
    else:
        with pytest.raises(TransportError) as caught:
            await transport.call(method, "/responses/1")
        assert isinstance(caught.value.problem, ReplyLost)
    assert len(server.requests) == (3 if answered else 2)


async def test_idle_connections_are_closed(server: RawServer, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio_transport, "KEEPALIVE_S", 0.05)

    async def serve(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.answer()

    server.script = serve
    transport = make()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(transport.call, "GET", "/models")
    await server.all_closed()
    assert server.connections == 3
    assert (await transport.call("GET", "/models")).body == b"{}"


async def test_no_request_can_be_smuggled(server: RawServer, make: Make) -> None:
    transport = make()
    with pytest.raises(ValueError, match="line break"):
        await transport.call("GET", "/models", headers={"X-A": "b\r\nX-C: d"})
    for path in ("/a b", "/a\r\nX: y", "models", "/ü"):
        with pytest.raises(ValueError, match="path"):
            await transport.call("GET", path)
    assert server.connections == 0


@pytest.mark.parametrize(
    ("base_url", "authority"),
    [
        ("https://api.openai.com/v1", "api.openai.com"),
        ("http://api.example:80/v1", "api.example"),
        ("https://api.example:8443", "api.example:8443"),
        ("http://[::1]:8080/v1", "[::1]:8080"),
        ("https://bücher.example/v1", "xn--bcher-kva.example"),
    ],
)
def test_the_host_header(base_url: str, authority: str) -> None:
    assert Connector(Endpoint(base_url=base_url)).authority == authority


async def test_the_next_address_is_tried(server: RawServer, make: Make) -> None:
    """The name also stands for ::1, where no server listens."""
    server.script = answering(reply_bytes(b"ok"))
    assert (await make(base_url=f"http://localhost:{server.port}").call("GET", "/models")).body == b"ok"


async def test_an_unknown_name(make: Make) -> None:
    with pytest.raises(TransportError) as caught:
        await make(base_url="http://provider.invalid").call("GET", "/models")
    assert isinstance(caught.value.problem, NeverSent)
    assert "provider.invalid cannot be resolved" in caught.value.problem.reason
