"""What every transport guarantees, tested over real sockets."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager

import anyio
import anyio.lowlevel
import pytest

from orchestrator.core.problems import NeverSent, ReplyLost
from orchestrator.provider.transport import Reply, Transport, TransportError
from tests.provider.conftest import Connect
from tests.provider.raw_server import Connection, RawServer, reply_bytes

pytestmark = pytest.mark.anyio

POST = b'{"model":"m"}'


async def failure(transport: Transport, *, read_timeout_s: float | None = None) -> TransportError:
    """Returns the error of a POST that must fail."""
    with pytest.raises(TransportError) as caught:
        await transport.call("POST", "/responses", body=POST, read_timeout_s=read_timeout_s)
    return caught.value


async def lost(transport: Transport, *, read_timeout_s: float | None = None) -> ReplyLost:
    problem = (await failure(transport, read_timeout_s=read_timeout_s)).problem
    assert isinstance(problem, ReplyLost), problem
    return problem


async def never_sent(transport: Transport) -> NeverSent:
    problem = (await failure(transport)).problem
    assert isinstance(problem, NeverSent), problem
    return problem


async def echo(connection: Connection) -> None:
    """Answer every request with its own body."""
    while True:
        request = await connection.request()
        await connection.answer(request.body)


def once(data: bytes) -> Callable[[Connection], Awaitable[None]]:
    """Read one request, send these bytes, and close."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(data)

    return script


# ── Requests and replies ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_request_arrives_unchanged(server: RawServer, connect: Connect) -> None:
    server.script = echo
    transport = connect(
        base_url=f"{server.url}/v1/", headers={"Authorization": "Bearer sk-1"}, query={"api-version": "a b"}
    )
    reply = await transport.call("POST", "/responses/resp_%2F?x=1", body=POST, headers={"Idempotency-Key": "k"})
    assert (reply.status, reply.body) == (200, POST)
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/v1/responses/resp_%2F?x=1&api-version=a+b")
    assert request.headers["authorization"] == "Bearer sk-1"
    assert request.headers["idempotency-key"] == "k"
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"].startswith("orchestrator")
    assert request.headers["host"] == f"127.0.0.1:{server.port}"


async def test_a_post_without_a_body_has_a_length_of_zero(server: RawServer, connect: Connect) -> None:
    server.script = echo
    await connect().call("POST", "/responses/resp_1/cancel")
    assert server.requests[0].headers["content-length"] == "0"


async def test_header_names_are_returned_in_lower_case(server: RawServer, connect: Connect) -> None:
    server.script = once(reply_bytes(b"", status="429 Too Many", headers="X-RateLimit-Limit-Requests: 5\r\n"))
    reply = await connect().call("GET", "/models")
    assert reply.status == 429
    assert reply.headers["x-ratelimit-limit-requests"] == "5"
    assert all(name == name.lower() for name in reply.headers)


async def test_connections_are_reused(server: RawServer, connect: Connect) -> None:
    server.script = echo
    transport = connect()
    for _ in range(3):
        await transport.call("POST", "/responses", body=POST)
    assert server.connections == 1


async def test_a_large_body_arrives_whole(server: RawServer, connect: Connect) -> None:
    server.script = echo
    body = b"x" * (3 * 2**20)
    assert (await connect().call("POST", "/responses", body=body)).body == body
    assert server.requests[0].headers["content-length"] == str(len(body))


async def test_a_body_without_length_ends_with_the_connection(server: RawServer, connect: Connect) -> None:
    server.script = once(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert (await connect().call("GET", "/models")).body == b"all of it"


async def test_informational_replies_are_skipped(server: RawServer, connect: Connect) -> None:
    server.script = once(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + reply_bytes(b"ok"))
    assert (await connect().call("POST", "/responses", body=POST)).body == b"ok"


async def test_redirects_are_not_followed(server: RawServer, connect: Connect) -> None:
    server.script = once(reply_bytes(b"", status="307 Moved", headers=f"Location: {server.url}/elsewhere\r\n"))
    reply = await connect().call("POST", "/responses", body=POST)
    assert (reply.status, reply.headers["location"]) == (307, f"{server.url}/elsewhere")
    assert len(server.requests) == 1


async def test_compressed_bodies_are_decompressed(server: RawServer, connect: Connect) -> None:
    server.script = once(reply_bytes(gzip.compress(b"words " * 100), headers="Content-Encoding: gzip\r\n"))
    assert (await connect().call("GET", "/models")).body == b"words " * 100


async def test_long_headers_are_read(server: RawServer, connect: Connect) -> None:
    server.script = once(reply_bytes(b"ok", headers=f"Content-Security-Policy: {'x' * 20_000}\r\n"))
    assert (await connect().call("GET", "/models")).body == b"ok"


async def test_an_error_body_does_not_echo_our_key(server: RawServer, connect: Connect) -> None:
    key = "sk-abcdefghijklmnopqrstuvwxyz"
    server.script = once(reply_bytes(f"bad header: Bearer {key}".encode(), status="400 Bad"))
    reply = await connect(headers={"Authorization": f"Bearer {key}"}).call("GET", "/models")
    assert reply.body == b"bad header: Bearer [redacted]"


# ── Never sent ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_refused(connect: Connect) -> None:
    problem = await never_sent(connect(base_url=f"http://127.0.0.1:{free_port()}"))
    assert "refused" in problem.reason
    assert not problem.local


async def test_unknown_name(connect: Connect) -> None:
    transport = connect(base_url="http://nonexistent.invalid", connect_timeout_s=2.0, trust_env=False)
    problem = await never_sent(transport)
    assert "nonexistent.invalid" in problem.reason or "within 2 s" in problem.reason


async def test_tls_to_a_plain_port(server: RawServer, connect: Connect) -> None:
    async def plain(connection: Connection) -> None:
        await connection.reader.read(1)
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server.script = plain
    await never_sent(connect(base_url=server.url.replace("http:", "https:")))


async def test_connection_dropped_in_the_handshake(server: RawServer, connect: Connect) -> None:
    async def drop(connection: Connection) -> None:
        await connection.reader.read(1)

    server.script = drop
    await never_sent(connect(base_url=server.url.replace("http:", "https:")))


async def test_a_server_that_accepts_no_connection(connect: Connect) -> None:
    with deaf_port() as port:
        transport = connect(base_url=f"http://127.0.0.1:{port}", connect_timeout_s=0.2)
        problem = await never_sent(transport)
    assert not problem.local


async def test_every_connection_busy(server: RawServer, connect: Connect) -> None:
    answer = anyio.Event()

    async def hold(connection: Connection) -> None:
        while True:
            await connection.request()
            await answer.wait()
            await connection.answer(b"late")

    server.script = hold
    transport = connect(max_connections=1, connect_timeout_s=0.5)
    async with anyio.create_task_group() as tasks:
        replies: list[Reply] = []

        async def first() -> None:
            replies.append(await transport.call("POST", "/responses", body=POST))

        tasks.start_soon(first)
        while not server.requests:
            await anyio.lowlevel.checkpoint()
        problem = await never_sent(transport)
        assert problem.local
        assert len(server.requests) == 1
        answer.set()
    assert replies[0].body == b"late"
    assert (await transport.call("POST", "/responses", body=POST)).body == b"late"


async def test_waiting_for_a_free_connection(server: RawServer, connect: Connect) -> None:
    server.script = echo
    transport = connect(max_connections=3)
    async with anyio.create_task_group() as tasks:
        for _ in range(40):
            tasks.start_soon(transport.call, "GET", "/models")
    assert len(server.requests) == 40
    assert server.connections <= 3


# ── Reply lost ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_no_answer(server: RawServer, connect: Connect) -> None:
    async def silent(connection: Connection) -> None:
        await connection.request()
        await connection.gone()

    server.script = silent
    problem = await lost(connect(read_timeout_s=0.2))
    assert problem.status is None
    assert "within 0.2 s" in problem.reason
    await server.all_closed()


async def test_the_timeout_of_one_call(server: RawServer, connect: Connect) -> None:
    async def slow(connection: Connection) -> None:
        await connection.request()
        await anyio.sleep(0.3)
        await connection.answer(b"late")

    server.script = slow
    transport = connect(read_timeout_s=0.1)
    assert (await transport.call("GET", "/models", read_timeout_s=10)).body == b"late"
    await lost(transport, read_timeout_s=0.05)


async def test_headers_without_a_body(server: RawServer, connect: Connect) -> None:
    async def stall(connection: Connection) -> None:
        await connection.request()
        await connection.send(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\nX-A: b\r\n\r\n{"id":"resp_1"')
        await connection.gone()

    server.script = stall
    error = await failure(connect(read_timeout_s=1.0))
    assert_partial(error, b'{"id":"resp_1"')
    await server.all_closed()


async def test_a_slow_body_times_out(server: RawServer, connect: Connect) -> None:
    async def trickle(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nX-A: b\r\n\r\n")
        while True:
            await connection.send(b"x")
            await anyio.sleep(0.01)

    server.script = trickle
    error = await failure(connect(connect_timeout_s=0.2, read_timeout_s=0.8))
    assert_partial(error, b"x")


async def test_dropped_before_the_request_is_read(server: RawServer, connect: Connect) -> None:
    async def drop(connection: Connection) -> None:
        connection.writer.close()

    server.script = drop
    await lost(connect())
    assert server.connections == 1


async def test_reset_before_the_request_is_read_to_its_end(server: RawServer, connect: Connect) -> None:
    async def drop(connection: Connection) -> None:
        await connection.reader.read(1)
        connection.reset()

    server.script = drop
    await lost(connect())
    assert server.connections == 1


@pytest.mark.parametrize("reset", [False, True])
async def test_dropped_after_the_request_was_read(server: RawServer, connect: Connect, reset: bool) -> None:
    async def drop(connection: Connection) -> None:
        await connection.request()
        if reset:
            connection.reset()

    server.script = drop
    problem = await lost(connect())
    assert problem.status is None
    assert len(server.requests) == 1


@pytest.mark.parametrize("reset", [False, True])
async def test_a_kept_alive_connection_dropped_after_the_request_was_read(
    server: RawServer, connect: Connect, reset: bool
) -> None:
    async def drop(connection: Connection) -> None:
        await connection.request()
        await connection.answer()
        await connection.request()
        if reset:
            connection.reset()

    server.script = drop
    transport = connect()
    await transport.call("POST", "/responses", body=POST)
    await lost(transport)
    assert len(server.requests) == 2
    assert server.connections == 1


@pytest.mark.parametrize("reset", [False, True])
async def test_dropped_in_the_middle_of_the_body(server: RawServer, connect: Connect, reset: bool) -> None:
    async def drop(connection: Connection) -> None:
        await connection.request()
        await connection.send(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\nX-A: b\r\n\r\n{"id":"resp_1"')
        if reset:
            await anyio.sleep(0.1)  # a reset discards what the client has not read yet
            connection.reset()

    server.script = drop
    error = await failure(connect())
    assert_partial(error, b'{"id":"resp_1"')
    assert len(server.requests) == 1


async def test_dropped_in_the_middle_of_an_error(server: RawServer, connect: Connect) -> None:
    server.script = once(b"HTTP/1.1 429 Slow\r\nContent-Length: 99\r\nRetry-After: 7\r\n\r\nslow")
    error = await failure(connect())
    assert error.partial is not None
    assert error.partial.status == 429
    assert error.partial.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\xff\x16\x03\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
    ],
)
async def test_garbage_instead_of_http(server: RawServer, connect: Connect, garbage: bytes) -> None:
    server.script = once(garbage)
    problem = await lost(connect())
    assert problem.status is None


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Transfer-Encoding: chunked", b"zz\r\nnot a size"),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
        ("Content-Encoding: gzip\r\nContent-Length: 8", b"not gzip"),
    ],
)
async def test_a_body_that_cannot_be_decoded(server: RawServer, connect: Connect, headers: str, body: bytes) -> None:
    server.script = once(f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode() + body)
    problem = await lost(connect(read_timeout_s=5))
    assert problem.status in {200, None}


async def test_a_reply_over_the_cap(server: RawServer, connect: Connect) -> None:
    async def huge(connection: Connection) -> None:
        await connection.request()
        await connection.send(reply_bytes(b"x" * 200_000, headers="X-A: b\r\n"))
        await connection.gone()

    server.script = huge
    error = await failure(connect(max_reply_bytes=100_000))
    assert_partial(error, b"x" * 1000)
    await server.all_closed()


async def test_a_small_reply_that_decompresses_over_the_cap(server: RawServer, connect: Connect) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    server.script = once(reply_bytes(bomb, headers="Content-Encoding: gzip\r\n"))
    problem = await lost(connect(max_reply_bytes=100_000))
    assert problem.status == 200
    assert "100000" in problem.reason


# ── Connections that the server closed ────────────────────────────────────────────────────────────────────────────


async def test_a_post_avoids_a_connection_that_was_closed_while_idle(connect: Connect) -> None:
    """The end of the connection has arrived, but the event loop has not seen it yet."""
    with closing_server() as (port, answered):
        transport = connect(base_url=f"http://127.0.0.1:{port}")
        for _ in range(3):
            reply = await transport.call("POST", "/responses", body=POST)
            assert reply.body == b"{}"
            assert answered.wait(10)  # blocks the loop on purpose
            answered.clear()


async def test_an_unrequested_reply_is_no_answer(server: RawServer, connect: Connect) -> None:
    """Some servers send a 408 into an idle connection; read as the answer to a create, it would be sent again."""

    async def impatient(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"first")
        await anyio.sleep(0.05)
        await connection.answer(b"too slow", status="408 Request Timeout")
        await connection.request()
        await connection.answer(b"second")

    server.script = impatient
    transport = connect()
    assert (await transport.call("POST", "/responses", body=POST)).body == b"first"
    await anyio.sleep(0.2)
    server.script = echo
    assert (await transport.call("POST", "/responses", body=POST)).body == POST
    assert server.connections == 2


# ── Cancellation and the end ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf"])
async def test_a_cancelled_call_releases_its_connection(server: RawServer, connect: Connect, part: bytes) -> None:
    async def stall(connection: Connection) -> None:
        await connection.request()
        await connection.send(part)
        await connection.gone()

    transport = connect(max_connections=1)
    for _ in range(3):
        server.script = stall
        sent = len(server.requests)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transport.call, "POST", "/responses")
            while len(server.requests) == sent:
                await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()
        await server.all_closed()
        server.script = once(reply_bytes(b"ok", headers="Connection: close\r\n"))
        assert (await transport.call("POST", "/responses", body=POST)).body == b"ok"


async def test_a_call_cancelled_while_it_waits_for_a_connection(server: RawServer, connect: Connect) -> None:
    answer = anyio.Event()

    async def hold(connection: Connection) -> None:
        while True:
            request = await connection.request()
            await answer.wait()
            await connection.answer(request.body)

    server.script = hold
    transport = connect(max_connections=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(transport.call, "POST", "/responses")
        while not server.requests:
            await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(0.05) as scope:
            await transport.call("POST", "/responses", body=POST)
        assert scope.cancelled_caught
        answer.set()
    assert (await transport.call("POST", "/responses", body=POST)).body == POST
    assert len(server.requests) == 2


async def test_closing_ends_every_connection(server: RawServer, connect: Connect) -> None:
    server.script = echo
    transport = connect()
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(transport.call, "GET", "/models")
    await transport.aclose()
    await server.all_closed()
    await transport.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await transport.call("GET", "/models")


async def test_closing_inside_a_cancelled_scope(server: RawServer, connect: Connect) -> None:
    server.script = echo
    transport = connect()
    await transport.call("GET", "/models")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await transport.aclose()
    await server.all_closed()


# ── Helpers ───────────────────────────────────────────────────────────────────────────────────────────────────────


def assert_partial(error: TransportError, body: bytes) -> None:
    """The reply was lost, and the part that arrived is kept: status, headers and the start of the body."""
    assert isinstance(error.problem, ReplyLost)
    assert error.problem.status == 200
    assert error.partial is not None
    assert (error.partial.status, error.partial.headers["x-a"]) == (200, "b")
    assert error.partial.body.startswith(body)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port whose backlog is full, so that no further connection is accepted."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextmanager
def closing_server() -> Iterator[tuple[int, threading.Event]]:
    """Answers one request on each connection and then closes it, in its own thread."""
    answered = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                received = b""
                while not received.endswith(POST):
                    received += connection.recv(65_536)
                connection.sendall(reply_bytes(b"{}"))
            answered.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], answered
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
