"""Every row of the error table, from the bytes on a socket to the verdict."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from orchestrator.core.model import Seen
from orchestrator.core.problems import NeverSent, Problem, Refused, ReplyLost
from orchestrator.policy.errors.error_rules import Phase
from orchestrator.policy.errors.error_table import deciding_rule
from orchestrator.policy.errors.judgement import AnswerPolicy, judge_response
from orchestrator.provider.asyncio_transport import AsyncioTransport
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.transport import Endpoint
from tests.policy.error_cases import CASES, Case, judge
from tests.provider.raw_server import Connection, RawServer, reply_bytes, serve_raw

pytestmark = pytest.mark.anyio

HALF = b'{"id":"resp_1","object":"response","status":"que'
# No server can send these: with HTTP 200 an error is read as a response, or not at all.
IMPOSSIBLE = {("unknown-status", 200)}


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with serve_raw() as server:
        yield server


def error(problem: Refused) -> bytes:
    """Returns a refusal in the provider's envelope, with its headers."""
    fields = {"message": problem.message, "type": problem.type, "param": problem.param, "code": problem.code}
    headers = {
        "Content-Type": "application/json",
        "Retry-After": problem.retry_after_s,
        "x-should-retry": {True: "true", False: "false"}.get(problem.should_retry),  # type: ignore[arg-type]
        "Location": "https://x/v1" if problem.status == 301 else None,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
    return reply_bytes(json.dumps({"error": fields}).encode(), status=f"{problem.status} No", headers=lines)


def lost(problem: ReplyLost) -> bytes | None:
    """Returns an unreadable reply; None for silence."""
    if problem.status is not None:
        bodies = {"empty": b"", "a web page": b"<html>Welcome!</html>", "no id": b'{"object":"response"}'}
        body = bodies.get(problem.reason, HALF)
        return reply_bytes(body, status=f"{problem.status} OK")
    if problem.response_id is not None:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + HALF
    return None


def a_reply(case: Case) -> bytes | None:
    if case.phase is Phase.FAILED:
        assert isinstance(case.problem, Refused)
        failure = {"code": case.problem.code, "message": "m"} if case.problem.code else None
        return reply_bytes(json.dumps({"id": "resp_1", "status": "failed", "error": failure}).encode())
    assert not isinstance(case.problem, NeverSent)
    return error(case.problem) if isinstance(case.problem, Refused) else lost(case.problem)


def answer_with(server: RawServer, case: Case) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        reply = a_reply(case)
        if reply is None:
            connection.reset()
        else:
            await connection.send(reply)

    server.script = script


async def call(client: ResponsesClient, met: Phase) -> Seen | Problem:
    if met is Phase.CREATE:
        return await client.create(b"{}", idempotency_key="k", client_request_id="c")
    return await client.retrieve("resp_1")


async def called_without_a_free_connection(server: RawServer, met: Phase) -> Seen | Problem:
    """Make a call while another one uses the only connection."""
    endpoint = Endpoint(base_url=server.url, max_connections=1, connect_timeout_s=0.1)
    taken = anyio.Event()
    found: list[Seen | Problem] = []

    async def script(connection: Connection) -> None:
        await connection.request()
        taken.set()
        await connection.gone()

    server.script = script
    client = ResponsesClient(AsyncioTransport(endpoint))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, client, met)
        await taken.wait()
        found.append(await call(client, met))
        tasks.cancel_scope.cancel()
    await client.aclose()
    return found[0]


async def met_on_the_wire(server: RawServer, case: Case) -> Seen | Problem:
    if isinstance(case.problem, NeverSent) and case.problem.local:
        return await called_without_a_free_connection(server, case.phase)
    refused = isinstance(case.problem, NeverSent)
    # No server listens on port 1.
    client = ResponsesClient(AsyncioTransport(Endpoint(base_url="http://127.0.0.1:1" if refused else server.url)))
    if not refused:
        answer_with(server, case)
    found = await call(client, case.phase)
    await client.aclose()
    return found


def possible() -> list[Any]:
    return [
        pytest.param(name, case, id=f"{name}-{number}" if number else name)
        for name, cases in CASES.items()
        for number, case in enumerate(cases)
        if (name, getattr(case.problem, "status", None)) not in IMPOSSIBLE
    ]


@pytest.mark.parametrize(("name", "case"), possible())
async def test_each_row_of_the_table_over_a_socket(server: RawServer, name: str, case: Case) -> None:
    found = await met_on_the_wire(server, case)
    kind = case.verdict[0] if isinstance(case.verdict, tuple) else type(case.verdict)
    if isinstance(found, Seen):
        assert case.phase is Phase.FAILED
        assert isinstance(judge_response(found.response, AnswerPolicy()), kind)
        return
    assert deciding_rule(found, case.phase).name == name
    assert isinstance(judge(Case(case.phase, found, case.verdict)), kind)


def test_every_row_can_occur_over_a_socket() -> None:
    assert {param.values[0] for param in possible()} == CASES.keys()
