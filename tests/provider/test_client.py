"""The calls of the API over a real socket: what is sent, and what each answer becomes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import orjson
import pytest

from orchestrator.core.model import RateLimits, Seen
from orchestrator.core.problems import NeverSent, Refused, ReplyLost
from orchestrator.provider.asyncio_transport import AsyncioTransport
from orchestrator.provider.client import CallFailed, ResponsesClient
from orchestrator.provider.headers import parse_rate_limits
from orchestrator.provider.transport import Endpoint
from tests.provider.raw_server import Connection, RawServer, reply_bytes

pytestmark = pytest.mark.anyio

NOW = 1_764_158_832.0
CANARY = b'{"model":"m","input":"canary"}'
NOT_FOUND = {"error": {"message": "Response with id 'resp_1' not found.", "type": "invalid_request_error"}}


@pytest.fixture
async def client(server: RawServer) -> AsyncIterator[ResponsesClient]:
    client = a_client(server)
    yield client
    await client.aclose()


def a_client(server: RawServer, **settings: Any) -> ResponsesClient:
    endpoint = Endpoint(base_url=f"{server.url}/v1", headers={"Authorization": "Bearer sk-canary-canary"})
    return ResponsesClient(AsyncioTransport(endpoint), clock=lambda: NOW, **settings)


def answers(server: RawServer, *replies: Any, status: str = "200 OK", headers: str = "") -> None:
    """Answer one request after the other with these bodies, or with raw bytes before closing."""
    left = list(replies)

    async def script(connection: Connection) -> None:
        while left:
            await connection.request()
            body = left.pop(0)
            if isinstance(body, bytes):
                await connection.send(body)
                return
            await connection.answer(orjson.dumps(body), status=status, headers=headers)

    server.script = script


def a_response(**fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": "queued", **fields}


async def create(client: ResponsesClient) -> Any:
    return await client.create(CANARY, idempotency_key="key-1", client_request_id="me-1")


# ── Create, retrieve, cancel ──────────────────────────────────────────────────────────────────────────────────────


async def test_create(server: RawServer, client: ResponsesClient) -> None:
    answers(
        server,
        a_response(),
        headers="X-Request-Id: req_1\r\nX-RateLimit-Remaining-Requests: 9\r\nOpenAI-Poll-After-Ms: 1500\r\n",
    )
    seen = await create(client)
    assert isinstance(seen, Seen)
    assert (seen.response.id, seen.response.status, seen.response.ended) == ("resp_1", "queued", False)
    assert parse_rate_limits(seen.headers) == RateLimits(remaining_requests=9)
    assert seen.poll_after_s == 1.5
    (request,) = server.requests
    assert (request.method, request.target, request.body) == ("POST", "/v1/responses", CANARY)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == "key-1"
    assert request.headers["x-client-request-id"] == "me-1"
    assert request.headers["authorization"] == "Bearer sk-canary-canary"


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "202 Accepted"])
async def test_statuses_that_accept_a_create(server: RawServer, client: ResponsesClient, status: str) -> None:
    answers(server, a_response(), status=status)
    assert isinstance(await create(client), Seen)


async def test_another_success_may_have_created_something(server: RawServer, client: ResponsesClient) -> None:
    answers(server, a_response(), status="206 Partial")
    problem = await create(client)
    assert isinstance(problem, ReplyLost)
    assert (problem.status, problem.response_id) == (206, "resp_1")
    answers(server, a_response(), status="202 Accepted")
    picky = a_client(server, create_codes=[200])
    assert isinstance(await create(picky), ReplyLost)
    await picky.aclose()


async def test_a_response_that_is_finished_at_once(server: RawServer, client: ResponsesClient) -> None:
    answers(server, a_response(status="completed", output=[]))
    seen = await create(client)
    assert seen.response.ended


async def test_status_aliases(server: RawServer) -> None:
    answers(server, a_response(status="done"))
    client = a_client(server, status_aliases={"done": "completed"})
    seen = await client.retrieve("resp_1")
    assert isinstance(seen, Seen)
    assert (seen.response.status, seen.response.ended) == ("completed", True)
    await client.aclose()


async def test_retrieve_and_cancel_quote_the_id(server: RawServer, client: ResponsesClient) -> None:
    answers(server, a_response(), a_response(status="cancelled"))
    assert isinstance(await client.retrieve("a/b?c d"), Seen)
    assert isinstance(await client.cancel("a/b?c d"), Seen)
    poll, cancel = server.requests
    assert (poll.method, poll.target) == ("GET", "/v1/responses/a%2Fb%3Fc%20d")
    assert (cancel.method, cancel.target, cancel.body) == ("POST", "/v1/responses/a%2Fb%3Fc%20d/cancel", b"")
    assert "idempotency-key" not in cancel.headers
    assert "content-type" not in poll.headers


async def test_a_refusal(server: RawServer, client: ResponsesClient) -> None:
    answers(
        server,
        {"error": {"message": "Slow down", "type": "requests", "code": "rate_limit_exceeded"}},
        status="429 Too Many Requests",
        headers="Retry-After: Wed, 26 Nov 2025 12:07:42 GMT\r\n",
    )
    problem = await create(client)
    assert isinstance(problem, Refused)
    assert (problem.status, problem.code, problem.retry_after_s) == (429, "rate_limit_exceeded", 30.0)


async def test_a_redirect_is_a_refusal(server: RawServer, client: ResponsesClient) -> None:
    answers(server, {}, status="307 Temporary", headers="Location: https://elsewhere/v1/responses\r\n")
    problem = await create(client)
    assert isinstance(problem, Refused)
    assert (problem.status, problem.message) == (307, "redirected to https://elsewhere/v1/responses")


async def test_an_error_that_echoes_the_key(server: RawServer, client: ResponsesClient) -> None:
    answers(server, {"error": {"message": "no such key: sk-canary-canary"}}, status="401 Unauthorized")
    problem = await create(client)
    assert isinstance(problem, Refused)
    assert "canary" not in repr(problem)


# ── Lost replies ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("raw", "status", "response_id"),
    [
        (b"", None, None),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"id":"resp_1","object":"resp', 200, "resp_1"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"id":"resp_', 200, None),
        (reply_bytes(b'{"id":"resp_1","object":"response","sta'), 200, "resp_1"),
        (reply_bytes(b'{"id":"resp_1","object":"response"}'), 200, "resp_1"),
        (reply_bytes(b'{"output":[{"id":"resp_9"}],"obj'), 200, None),
        (reply_bytes(b"<!doctype html><title>Sign in</title>"), 200, None),
        (reply_bytes(b""), 200, None),
        (reply_bytes(b'{"error":{"message":"no"}}'), 200, None),
    ],
)
async def test_a_lost_reply(
    server: RawServer, client: ResponsesClient, raw: bytes, status: int | None, response_id: str | None
) -> None:
    answers(server, raw)
    problem = await create(client)
    assert isinstance(problem, ReplyLost)
    assert (problem.status, problem.response_id) == (status, response_id)
    assert problem.reason
    assert "canary" not in repr(problem)
    assert len(server.requests) == 1


async def test_an_error_that_breaks_off_is_still_a_refusal(server: RawServer, client: ResponsesClient) -> None:
    start = b'HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 999\r\n\r\n{"error":{"code":"slow_down","mess'
    answers(server, start)
    problem = await create(client)
    assert isinstance(problem, Refused)
    assert (problem.status, problem.code, problem.retry_after_s) == (429, "slow_down", 3.0)


async def test_a_closed_port() -> None:
    client = ResponsesClient(AsyncioTransport(Endpoint(base_url="http://127.0.0.1:1/v1")))
    problem = await create(client)
    assert isinstance(problem, NeverSent)
    assert isinstance(await client.retrieve("resp_1"), NeverSent)
    assert isinstance(await client.delete("resp_1"), NeverSent)
    assert isinstance(await client.count_input_tokens(b"{}"), NeverSent)
    assert isinstance(await client.models(), NeverSent)
    await client.aclose()


# ── Delete ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_delete(server: RawServer, client: ResponsesClient) -> None:
    answers(server, {"id": "resp_1", "object": "response", "deleted": True})
    assert await client.delete("resp_1") is True
    assert (server.requests[0].method, server.requests[0].target) == ("DELETE", "/v1/responses/resp_1")


async def test_deleting_another_kind_of_object(server: RawServer, client: ResponsesClient) -> None:
    answers(server, {"id": "conv_1", "object": "conversation.deleted", "deleted": True})
    assert await client.delete("conv_1", of="conversations") is True
    assert (server.requests[0].method, server.requests[0].target) == ("DELETE", "/v1/conversations/conv_1")


async def test_checking_an_object_that_is_stored(server: RawServer, client: ResponsesClient) -> None:
    answers(server, {"id": "file-1", "object": "file"})
    assert await client.check_stored("file-1", of="files") is None
    assert server.requests[0].target == "/v1/files/file-1"


async def test_checking_an_object_that_is_gone(server: RawServer, client: ResponsesClient) -> None:
    answers(server, NOT_FOUND, status="404 Not Found")
    problem = await client.check_stored("resp_1")
    assert isinstance(problem, Refused)
    assert problem.status == 404


@pytest.mark.parametrize("body", [{"deleted": False}, {"id": "resp_1"}, {}, []])
async def test_a_deletion_that_is_not_confirmed(server: RawServer, client: ResponsesClient, body: Any) -> None:
    answers(server, body)
    problem = await client.delete("resp_1")
    assert isinstance(problem, ReplyLost)
    assert problem.status == 200


@pytest.mark.parametrize(
    ("body", "gone"),
    [
        (NOT_FOUND, True),
        ({"detail": "Response resp_1 not found"}, True),
        ({"detail": "Not Found"}, False),
        (reply_bytes(b"<html><title>404</title></html>", status="404 Not Found"), False),
    ],
)
async def test_deleting_an_unknown_object(server: RawServer, client: ResponsesClient, body: Any, gone: bool) -> None:
    answers(server, body, status="404 Not Found")
    problem = await client.delete("resp_1")
    assert (problem is False) is gone
    assert problem is False or (isinstance(problem, Refused) and problem.status == 404)


async def test_a_deletion_that_is_refused(server: RawServer, client: ResponsesClient) -> None:
    answers(server, {"error": {"message": "no", "code": "locked"}}, status="409 Conflict")
    problem = await client.delete("resp_1")
    assert isinstance(problem, Refused)
    assert problem.code == "locked"


# ── Listings and counts ───────────────────────────────────────────────────────────────────────────────────────────


async def listed(client: ResponsesClient, **query: str) -> list[Any]:
    return [orjson.loads(item) async for item in client.input_items("resp_1", **query)]


def a_page(*ids: str, more: bool, **fields: Any) -> dict[str, Any]:
    items = [{"id": name, "type": "message", "content": "ä"} for name in ids]
    return {"object": "list", "data": items, "first_id": ids[0], "last_id": ids[-1], "has_more": more, **fields}


async def test_input_items_over_pages(server: RawServer, client: ResponsesClient) -> None:
    answers(server, a_page("a", "b c", more=True), a_page("d", more=True, last_id=None), a_page("e", more=False))
    items = await listed(client, order="desc")
    assert [item["id"] for item in items] == ["a", "b c", "d", "e"]
    assert items[0] == {"id": "a", "type": "message", "content": "ä"}
    assert [request.target for request in server.requests] == [
        "/v1/responses/resp_1/input_items?limit=100&order=desc",
        "/v1/responses/resp_1/input_items?limit=100&order=desc&after=b+c",
        "/v1/responses/resp_1/input_items?limit=100&order=desc&after=d",
    ]


@pytest.mark.parametrize(
    "page",
    [
        a_page("a", more=True),
        {"data": [{"id": "a"}], "has_more": None},
        {"data": [{"id": "a"}]},
        {"data": [{"id": "a"}], "has_more": True},
    ],
)
async def test_a_server_without_paging_ends(server: RawServer, client: ResponsesClient, page: Any) -> None:
    answers(server, page, page, page)
    assert {item["id"] for item in await listed(client)} == {"a"}
    assert len(server.requests) <= 2


async def test_items_without_ids_on_a_server_that_always_has_more(server: RawServer, client: ResponsesClient) -> None:
    answers(server, {"data": [{"type": "message"}, "x"], "has_more": True})
    assert await listed(client) == [{"type": "message"}, "x"]


async def test_a_listing_that_breaks(server: RawServer, client: ResponsesClient) -> None:
    answers(server, a_page("a", more=True), reply_bytes(b'{"error":"gone"}', status="404 Not Found"))
    items = client.input_items("resp_1")
    assert orjson.loads(await anext(items))["id"] == "a"
    with pytest.raises(CallFailed, match="gone") as caught:
        await anext(items)
    assert isinstance(caught.value.problem, Refused)
    answers(server, {"data": "x"})
    with pytest.raises(CallFailed, match="ReplyLost"):
        await listed(client)


async def test_count_input_tokens(server: RawServer, client: ResponsesClient) -> None:
    answers(server, {"object": "response.input_tokens", "input_tokens": 11}, {"input_tokens": -1}, {})
    assert await client.count_input_tokens(CANARY) == 11
    assert (server.requests[0].target, server.requests[0].body) == ("/v1/responses/input_tokens", CANARY)
    assert isinstance(await client.count_input_tokens(CANARY), ReplyLost)
    assert isinstance(await client.count_input_tokens(CANARY), ReplyLost)


async def test_models(server: RawServer, client: ResponsesClient) -> None:
    answers(server, {"object": "list", "data": [{"id": "gpt-5"}, {"id": None}, "x", {"id": "gpt-5-mini"}]})
    assert await client.models() == ["gpt-5", "gpt-5-mini"]
    answers(server, {"error": {"message": "bad key", "code": "invalid_api_key"}}, status="401 Unauthorized")
    problem = await client.models()
    assert isinstance(problem, Refused)
    assert problem.code == "invalid_api_key"


async def test_a_cancelled_call_stays_cancelled(server: RawServer, client: ResponsesClient) -> None:
    async def silent(connection: Connection) -> None:
        await connection.request()
        await connection.gone()

    server.script = silent
    with anyio.move_on_after(0.05) as scope:
        await create(client)
    assert scope.cancelled_caught
    await server.all_closed()
