"""A purge against servers that refuse, fail, forget or lie, over real sockets."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias

import orjson
import pytest

from orchestrator.app.retention.purge import Purge, Purged
from orchestrator.core.clock import Signal
from orchestrator.policy.rate_limits.limits import Limiter
from orchestrator.provider.asyncio_transport import AsyncioTransport
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.transport import Endpoint
from orchestrator.stores.retained import ObjectKind
from orchestrator.stores.sqlite import SqliteReader, SqliteStore
from tests.provider.raw_server import Connection, Request, serve_raw
from tests.stores.builders import NOW, Harness, a_run

pytestmark = pytest.mark.anyio

ROWS = 60
DELETED = b'{"object": "response", "deleted": true}'
UNKNOWN = b'{"error": {"message": "Response not found.", "type": "invalid_request_error", "code": null}}'

Answer: TypeAlias = tuple[str, bytes]


class Hurried:
    """A clock on which every wait ends at once."""

    def __init__(self) -> None:
        self._now = NOW + 1000

    def now(self) -> float:
        return self._now

    async def sleep_until(self, when: float) -> None:
        self._now = max(self._now, when)

    async def wait(self, signal: Signal, until: float | None) -> None:
        raise NotImplementedError


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    """Returns a run of so many answered rows."""
    async with SqliteStore.open(tmp_path / "runs.db") as store, SqliteReader.open(tmp_path / "runs.db") as reader:
        harness = Harness(store, reader, await store.create_run(a_run()))
        for request in await harness.add(ROWS):
            await harness.succeed(request)
        yield harness


async def purge(harness: Harness, answer: Callable[[Request], Answer]) -> tuple[Purged, list[Request]]:
    """Purge the run at a server with these answers; returns the calls that it received."""
    asked: list[Request] = []

    async def script(connection: Connection) -> None:
        while True:
            request = await connection.request()
            asked.append(request)
            status, body = answer(request)
            await connection.answer(body, status=status)

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve_raw())
        server.script = script
        client = ResponsesClient(AsyncioTransport(Endpoint(base_url=f"{server.url}/v1")))
        stack.push_async_callback(client.aclose)
        clock = Hurried()
        limiter = Limiter(requests_per_minute=60_000, tokens_per_minute=None, now=clock.now())
        working = Purge(
            lambda _: client,
            store=harness.store,
            reader=harness.reader,
            limiter=limiter,
            clock=clock,
            rng=random.Random(1),
        )
        return await working.run(harness.run.id, ended_before=float("inf")), asked


async def left(harness: Harness) -> int:
    return len(
        await harness.reader.provider_objects(
            harness.run.id, ObjectKind.RESPONSE, ended_before=9e9, after=0, limit=1000
        )
    )


async def test_an_object_that_is_no_longer_found_is_gone(harness: Harness) -> None:
    purged, asked = await purge(
        harness, lambda request: ("200 OK", DELETED) if request.method == "DELETE" else ("404 Not Found", UNKNOWN)
    )
    assert (purged.deleted[ObjectKind.RESPONSE], purged.complete, await left(harness)) == (ROWS, True, 0)
    assert len(asked) == 2 * ROWS


async def test_a_server_that_cannot_delete_is_not_asked_again(harness: Harness) -> None:
    purged, asked = await purge(harness, lambda _: ("405 Method Not Allowed", b"{}"))
    assert purged.stopped
    assert purged.reason == "the server does not delete such things (HTTP 405)"
    assert len(asked) <= 16
    assert await left(harness) == ROWS


async def test_a_gateway_without_such_a_route_deletes_nothing(harness: Harness) -> None:
    purged, _ = await purge(harness, lambda _: ("404 Not Found", b"<html><title>404</title></html>"))
    assert (purged.stopped, purged.deleted[ObjectKind.RESPONSE], await left(harness)) == (True, 0, ROWS)


async def test_endless_refusals_end(harness: Harness) -> None:
    refusal = orjson.dumps({"error": {"message": "in use", "code": "in_use"}})
    purged, asked = await purge(harness, lambda _: ("400 Bad Request", refusal))
    assert (purged.stopped, purged.reason) == (True, "in use")
    assert 20 <= len(asked) < 20 + 16
    assert purged.left == len(asked)


async def test_a_deletion_that_is_only_claimed_does_not_count(harness: Harness) -> None:
    kept = orjson.dumps({"id": "resp_1", "status": "completed"})
    purged, _ = await purge(harness, lambda request: ("200 OK", DELETED if request.method == "DELETE" else kept))
    assert purged.reason == "it is still there after its deletion"
    assert (purged.complete, await left(harness)) == (False, ROWS)


async def test_objects_unknown_to_the_provider_are_counted_separately(harness: Harness) -> None:
    purged, _ = await purge(harness, lambda _: ("404 Not Found", UNKNOWN))
    assert (purged.deleted[ObjectKind.RESPONSE], purged.unknown, purged.complete) == (0, ROWS, True)


async def test_rate_limits_and_transient_faults_are_retried(harness: Harness) -> None:
    seen: dict[tuple[str, str], int] = {}

    def answer(request: Request) -> Answer:
        call = (request.method, request.target)
        seen[call] = seen.get(call, 0) + 1
        if seen[call] == 1:
            return ("429 Too Many Requests", b'{"error": {"code": "rate_limit_exceeded", "message": "slow"}}')
        if seen[call] == 2:
            return ("500 Internal Server Error", b"{}")
        return ("200 OK", DELETED) if request.method == "DELETE" else ("404 Not Found", UNKNOWN)

    purged, _ = await purge(harness, answer)
    assert (purged.deleted[ObjectKind.RESPONSE], purged.left, await left(harness)) == (ROWS, 0, 0)


async def test_a_key_that_is_refused_stops_at_once(harness: Harness) -> None:
    purged, asked = await purge(harness, lambda _: ("401 Unauthorized", b'{"error": {"message": "wrong key"}}'))
    assert (purged.stopped, len(asked) <= 16) == (True, True)
    assert "refuses the key" in (purged.reason or "")
