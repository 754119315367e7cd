"""A raw server, and a transport of each kind that calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from typing import Any, TypeAlias

import pytest

from orchestrator.provider.asyncio_transport import AsyncioTransport
from orchestrator.provider.httpx_transport import HttpxTransport
from orchestrator.provider.transport import Endpoint, Transport
from tests.provider.raw_server import RawServer, serve_raw

Connect: TypeAlias = Callable[..., Transport]


UVLOOP = pytest.param(
    ("asyncio", {"use_uvloop": True}),
    id="uvloop",
    marks=pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not installed"),
)


@pytest.fixture(params=["asyncio", UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Sockets behave slightly differently on each event loop."""
    return request.param


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with serve_raw() as server:
        yield server


@pytest.fixture(params=[AsyncioTransport, HttpxTransport])
async def connect(request: pytest.FixtureRequest, server: RawServer) -> AsyncIterator[Connect]:
    """Make a transport, to the raw server unless ``base_url`` is given; it is closed at the end."""
    made: list[Transport] = []

    def make(**settings: Any) -> Transport:
        transport: Transport = request.param(Endpoint(**{"base_url": server.url, **settings}))
        made.append(transport)
        return transport

    yield make
    for transport in made:
        await transport.aclose()
