"""A lane is opened by its name, and says what it can do."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import orjson
import pytest

from orchestrator.core.lanes import Lane
from orchestrator.executors.background import ATTEMPT, KEY, RUN, create_body
from orchestrator.executors.base import Capabilities
from orchestrator.executors.registry import DEFAULT_LANE, LANES, Executors
from orchestrator.provider.batches import BatchClient
from orchestrator.provider.client import ResponsesClient
from orchestrator.provider.httpx_transport import HttpxTransport
from orchestrator.provider.streaming import StreamingClient
from orchestrator.provider.transport import Endpoint


class Connections:
    """Clients that are never used, and how many stream clients were asked for."""

    def __init__(self) -> None:
        self.client = ResponsesClient(HttpxTransport(Endpoint(base_url="http://127.0.0.1:9/v1")))
        self.opened: list[StreamingClient] = []
        self.held_calls = ResponsesClient(HttpxTransport(Endpoint(base_url="http://127.0.0.1:9/v1")))

        endpoint = Endpoint(base_url="http://127.0.0.1:9/v1")
        self.batch_calls = BatchClient(HttpxTransport(endpoint), HttpxTransport(endpoint))

    def held(self) -> ResponsesClient:
        return self.held_calls

    def streams(self) -> StreamingClient:
        self.opened.append(StreamingClient(HttpxTransport(Endpoint(base_url="http://127.0.0.1:9/v1"))))
        return self.opened[-1]

    def batches(self) -> BatchClient:
        return self.batch_calls

    async def aclose(self) -> None:
        await self.client.aclose()
        await self.batch_calls.aclose()
        await self.held_calls.aclose()
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
    executor = Executors(connections, stream=stream).of(DEFAULT_LANE)
    assert executor.capabilities == Capabilities(poll=True, cancel=True, stream=stream, requests_per_call=1)
    assert (executor.streams is not None) == executor.capabilities.stream
    assert len(connections.opened) == stream


@pytest.mark.parametrize("lane", sorted(LANES))
def test_every_lane_marks_its_create_calls(connections: Connections, lane: Lane) -> None:
    executor = Executors(connections).of(lane)
    body = executor.encode({"model": "m", "input": "x"}, run_uid="uid", key="row-1", stage="main", number=2)
    assert orjson.loads(body)["metadata"] == {RUN: "uid", KEY: "row-1", ATTEMPT: "2"}


def test_a_lane_is_opened_once(connections: Connections) -> None:
    executors = Executors(connections, stream=True)
    assert executors.of(DEFAULT_LANE) is executors.of(DEFAULT_LANE)
    assert len(connections.opened) == 1


def test_only_held_calls_and_lines_are_not_sent_to_the_background(connections: Connections) -> None:
    executors = Executors(connections)
    in_background = {
        lane: orjson.loads(executors.of(lane).encode({}, run_uid="u", key="k", stage="main", number=1)).get(
            "background"
        )
        for lane in LANES
    }
    assert {lane for lane, given in in_background.items() if not given} == {Lane.SYNC, Lane.BATCH}
    assert [lane for lane in LANES if executors.of(lane).capabilities.held] == [Lane.SYNC]


def test_attempts_of_stages_that_share_a_key_differ() -> None:
    marks = {
        orjson.loads(create_body({}, run_uid="uid", key="same", number=1, stage=stage))["metadata"][ATTEMPT]
        for stage in ("main", "review", "merge")
    }
    assert marks == {"1", "review/1", "merge/1"}
