"""A response that is followed shows no secret, wherever the server splits it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise

import orjson
import pytest

from orchestrator.app.follow import FollowEnded, LiveTail, TextDelta
from orchestrator.core.clock import SystemClock
from orchestrator.core.states import State
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.httpx_transport import HttpxTransport
from orchestrator.provider.streaming import StreamingClient
from orchestrator.provider.transport import Endpoint
from orchestrator.stores.request_history import RequestHistory
from tests.provider.raw_server import Connection, serve_raw
from tests.report.test_request_history import REQUEST, SECOND

pytestmark = pytest.mark.anyio

KEY = "sk-canary-1234567890"
TEXT = f"The key is {KEY}, they say; sk-"


def deltas(*cuts: int) -> list[str]:
    edges = [0, *cuts, len(TEXT)]
    return [TEXT[start:end] for start, end in pairwise(edges)]


def event(kind: str, number: int, **fields: object) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"type": kind, "sequence_number": number, **fields})


async def followed(pieces: list[str]) -> AsyncIterator[str]:
    """Yields the pieces that are shown of a response that a server streams in these pieces."""
    response = {
        "id": "resp_a",
        "object": "response",
        "status": "completed",
        "model": "gpt-5-mini",
        "output": [
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "".join(pieces)}]}
        ],
    }

    async def script(connection: Connection) -> None:
        request = await connection.request()
        if "stream=true" not in request.target:
            await connection.answer(orjson.dumps(response))
            return
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number, piece in enumerate(pieces):
            await connection.send(event("response.output_text.delta", number, delta=piece))
        await connection.send(event("response.completed", len(pieces), response=response))

    history = RequestHistory(replace(REQUEST, state=State.SUBMITTED), [replace(SECOND, ended_at=None)])

    async def shown() -> RequestHistory:
        return history

    async with serve_raw() as server:
        server.script = script
        endpoint = Endpoint(base_url=f"{server.url}/v1", headers={"Authorization": f"Bearer {KEY}"})
        client, streams = ResponsesClient(HttpxTransport(endpoint)), StreamingClient(HttpxTransport(endpoint))
        tail = LiveTail(
            client,
            streams,
            redaction=endpoint.redaction,
            history=shown,
            clock=SystemClock(),
            rng=random.Random(1),
        )
        async for seen in tail.follow():
            match seen:
                case TextDelta(text):
                    yield text
                case FollowEnded(_, ok=ok):
                    assert ok
        await client.aclose()
        await streams.aclose()


@pytest.mark.parametrize("cuts", [(), (13,), (11, 31), (12, 20, 30), tuple(range(1, len(TEXT)))])
async def test_a_key_split_between_deltas_is_never_shown(cuts: tuple[int, ...]) -> None:
    shown = [text async for text in followed(deltas(*cuts))]
    assert "".join(shown) == "The key is [redacted], they say; sk-"


async def test_text_without_a_key_is_shown_as_it_comes() -> None:
    pieces = ["Für ", "alle \U0001f600", " da."]
    assert [text async for text in followed(pieces)] == pieces
