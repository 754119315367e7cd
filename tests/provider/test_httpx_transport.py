"""What only the httpx transport does: any httpx transport can be plugged in, and a foreign one is not trusted."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestrator.core.problems import NeverSent, ReplyLost
from orchestrator.provider.httpx_transport import HttpxTransport
from orchestrator.provider.transport import Endpoint, TransportError

pytestmark = pytest.mark.anyio

KEY = "sk-abcdefghijklmnop"
ENDPOINT = Endpoint(base_url="http://app.invalid/v1")


class Foreign(httpx.AsyncBaseTransport):
    """Raises the given error, as a transport over another library does."""

    def __init__(self, error: Exception, cause: BaseException | None) -> None:
        self.error = error
        self.cause = cause
        self.closed = False
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        raise self.error from self.cause

    async def aclose(self) -> None:
        self.closed = True


async def test_an_app_in_the_same_process() -> None:
    async def models(request: Request) -> JSONResponse:
        return JSONResponse({"path": request.url.path, "agent": request.headers["user-agent"]})

    app = Starlette(routes=[Route("/v1/models", models)])
    transport = HttpxTransport(ENDPOINT, httpx.ASGITransport(app))
    reply = await transport.call("GET", "/models")
    assert (reply.status, reply.body.startswith(b'{"path":"/v1/models","agent":"orchestrator')) == (200, True)
    await transport.aclose()


async def test_a_hanging_app_times_out() -> None:
    async def hang(request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    endpoint = Endpoint(base_url="http://app.invalid", connect_timeout_s=0.05, read_timeout_s=0.05)
    transport = HttpxTransport(endpoint, httpx.MockTransport(hang))
    with pytest.raises(TransportError) as caught:
        await transport.call("POST", "/responses", body=b"{}")
    assert isinstance(caught.value.problem, ReplyLost)


@pytest.mark.parametrize(
    ("error", "cause", "kind"),
    [
        (httpx.ConnectTimeout("x"), None, ReplyLost),
        (httpx.ConnectTimeout("x"), RuntimeError("server disconnected"), ReplyLost),
        (httpx.ConnectError("x"), TimeoutError(), ReplyLost),
        (httpx.PoolTimeout("x"), None, ReplyLost),
        (httpx.ReadError("x"), ConnectionRefusedError(111, "x"), ReplyLost),
        (httpx.ConnectTimeout("x"), ConnectionRefusedError(111, "x"), NeverSent),
        (httpx.ConnectError("x"), socket.gaierror(-2, "x"), NeverSent),
        (httpx.ConnectError("x"), ExceptionGroup("all", [ConnectionRefusedError(111, "x")]), NeverSent),
    ],
)
async def test_a_foreign_transport_is_trusted_only_with_proof(
    error: Exception, cause: BaseException | None, kind: type
) -> None:
    foreign = Foreign(error, cause)
    transport = HttpxTransport(ENDPOINT, foreign)
    with pytest.raises(TransportError) as caught:
        await transport.call("POST", "/responses", body=b"{}")
    assert type(caught.value.problem) is kind
    assert len(foreign.requests) == 1
    await transport.aclose()
    assert foreign.closed


@pytest.mark.parametrize("written", [KEY, KEY.replace("-", "\\u002d")], ids=["raw", "escaped"])
@pytest.mark.parametrize("size", [1, 3, 7, 20])
async def test_a_secret_split_over_chunks_of_a_stream_is_redacted(written: str, size: int) -> None:
    body = f'data: {{"type":"x","m":"a {written} b sk-"}}\n\ndata: end\n\n'.encode()

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    async def reply(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=pieces())

    endpoint = Endpoint(base_url="http://app.invalid", headers={"Authorization": f"Bearer {KEY}"})
    transport = HttpxTransport(endpoint, httpx.MockTransport(reply))
    opened = await transport.open("GET", "/responses/1", silence_s=1)
    received = b"".join([chunk async for chunk in opened.chunks()])
    assert received == body.replace(written.encode(), b"[redacted]")
    await transport.aclose()
