"""A lane is opened by its name, and says what it can do."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import orjson
import pytest

from orchestrator.executors.background import ATTEMPT, KEY, RUN, create_body
from orchestrator.executors.base import Capabilities
from orchestrator.executors.registry import DEFAULT_LANE, LANES, open_executor
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.httpx_transport import HttpxTransport
from orchestrator.provider.streaming import StreamingClient
from orchestrator.provider.transport import Endpoint


class Connections:
    """Clients that are never used, and how many stream clients were asked for."""

    def __init__(self) -> None:
        self.client = ResponsesClient(HttpxTransport(Endpoint(base_url="http://127.0.0.1:9/v1")))
        self.opened: list[StreamingClient] = []

    def streams(self) -> StreamingClient:
        self.opened.append(StreamingClient(HttpxTransport(Endpoint(base_url="http://127.0.0.1:9/v1"))))
        return self.opened[-1]

    async def aclose(self) -> None:
        await self.client.aclose()
        for client in self.opened:
            await client.aclose()


@pytest.fixture
def connections() -> Iterator[Connections]:
    made = Connections()
    yield made
    anyio.run(made.aclose)


def test_the_default_lane_is_registered() -> None:
    assert DEFAULT_LANE == "background"
    assert DEFAULT_LANE in LANES


@pytest.mark.parametrize("stream", [False, True])
def test_a_background_executor_declares_what_it_can_do(connections: Connections, stream: bool) -> None:
    executor = open_executor(connections, stream=stream)
    assert executor.capabilities == Capabilities(poll=True, cancel=True, stream=stream, requests_per_call=1)
    assert (executor.streams is not None) == executor.capabilities.stream
    assert len(connections.opened) == stream


@pytest.mark.parametrize("lane", sorted(LANES))
def test_every_lane_marks_its_create_calls(connections: Connections, lane: str) -> None:
    executor = open_executor(connections, lane=lane)
    body = executor.encode({"model": "m", "input": "x"}, run_uid="uid", key="row-1", stage="main", number=2)
    assert orjson.loads(body)["metadata"] == {RUN: "uid", KEY: "row-1", ATTEMPT: "2"}


def test_an_unknown_lane_is_an_error_of_the_caller(connections: Connections) -> None:
    with pytest.raises(KeyError):
        open_executor(connections, lane="pigeon")


def test_attempts_of_stages_that_share_a_key_differ() -> None:
    marks = {
        orjson.loads(create_body({}, run_uid="uid", key="same", number=1, stage=stage))["metadata"][ATTEMPT]
        for stage in ("main", "review", "merge")
    }
    assert marks == {"1", "review/1", "merge/1"}
