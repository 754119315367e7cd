"""What only the httpx transport does: any httpx transport can be plugged in, and a foreign one is not trusted."""

from __future__ import annotations

import socket

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
